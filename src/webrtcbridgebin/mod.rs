//! `webrtcbridgebin`: a bridge server. Any number of publishers, each with a pipeline of its own.
//!
//! ```sh
//! gst-launch-1.0 -e webrtcbridgebin listen=127.0.0.1:8080 \
//!   session="webrtcingest : rtmpbridgesink location=rtmp://127.0.0.1/live/{channel}"
//! ```
//!
//! Whoever publishes to `/whip/CHANNEL` gets the `session` description run for it, on the bin's clock and base time, with
//! `{channel}`, `{session}` and `{started}` filled into the values of its properties. A `webrtcingest` without `uri` in it is this
//! publisher's connection. What happens in a session stays there: the bus hears of it by `webrtcbridge-session` only.
//!
//! | bus message of type element | fields | when |
//! | --- | --- | --- |
//! | `webrtcbridge-listening` | `url`, `page` | it listens |
//! | `webrtcbridge-session` | `id`, `channel`, `state` (`starting`, `live`, `ending`, `ended`, `failed`), `reason` | each change |
//! | `webrtcbridge-drained` | `sessions` (those that did not end in time) | what the action `drain` began is done |
//!
//! Signals: `create-session(channel, id) -> GstElement` lets the application make the pipeline (or an element to put into
//! one); NULL means the description. `authorize(channel, token) -> gboolean`, where the application has connected to it
//! before READY→PAUSED, decides about requests that no token of ours explains. Action `drain(timeout-ms)`: no new sessions (503), those that are there come to their
//! end within the time; returns at once. EOS does the same within 3 s, and is posted when that is done.

use gst::{glib, prelude::*};

mod imp;
mod settings;
mod stats;

glib::wrapper! {
    /// The element.
    pub struct WebrtcBridgeBin(ObjectSubclass<imp::WebrtcBridgeBin>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "webrtcbridgebin", gst::Rank::NONE, WebrtcBridgeBin::static_type())
}
