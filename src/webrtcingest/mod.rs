//! `webrtcingest`: media from a peer as pads: from one that publishes here by WHIP, or pulled from a WHEP server.
//!
//! ```text
//! gst-launch-1.0 -e webrtcingest uri=whip://127.0.0.1:8080/whip/live : rtmpbridgesink location=rtmp://127.0.0.1/live/key
//! gst-launch-1.0 -e webrtcingest uri=whep://127.0.0.1:8889/live/whep : rtmpbridgesink location=rtmp://127.0.0.1/live/key
//! ```
//!
//! As a server it serves its endpoint and a page to publish from, takes one publisher at a time, and adds `video_%u` and `audio_%u`
//! when it answers; as a client it calls until it is answered, and again when the connection is lost. Pads stay until READY: the next publisher's tracks come out of the same ones.
//!
//! The signal `authorize(channel, token) -> gboolean`, where the application has connected to it before READY→PAUSED, decides about
//! requests to the endpoint that do not show `auth-token`; channel is the last segment of the path, token NULL where none was shown. It
//! comes on a thread of its own and has four seconds; of several handlers the first yes counts.

use gst::{glib, prelude::*};

mod answerer;
mod codecs;
mod data;
mod imp;
mod pads;
mod pull;
mod role;
mod settings;
mod stats;

glib::wrapper! {
    /// The element.
    pub struct WebrtcIngest(ObjectSubclass<imp::WebrtcIngest>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "webrtcingest", gst::Rank::NONE, WebrtcIngest::static_type())
}
