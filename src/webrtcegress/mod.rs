//! `webrtcegress`: media to peers. It serves viewers by WHEP, pushes to a WHIP server, or sends to the peer of the session
//! around it.
//!
//! ```text
//! gst-launch-1.0 -e webrtcegress name=out uri=whep://127.0.0.1:8080/whep/live \
//!     videotestsrc is-live=true ! out.video_0 audiotestsrc is-live=true ! out.audio_0
//! ```
//!
//! ```text
//!   pad ─ input: pacer, gate, [decode, encode], payload ─ sender ─▶ fanout ─ forward::Source ─▶ each viewer's session
//!                                                                    ▲
//!                                       role: answerer, pusher … ────╯ decide on formats, join
//! ```
//!
//! Media are encoded once, whoever watches, and not at all while nobody does. `lane` says in which formats a track can be
//! had, `fanout` decides with the first viewer, `rate` (pure) what the encoder may use.

use gst::{glib, prelude::*};

mod answerer;
mod data;
mod ending;
mod fanout;
mod imp;
mod input;
mod lane;
mod push;
mod rate;
mod role;
mod sender;
mod session;
mod settings;
mod stats;
mod templates;

glib::wrapper! {
    /// The element.
    pub struct WebrtcEgress(ObjectSubclass<imp::WebrtcEgress>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "webrtcegress", gst::Rank::NONE, WebrtcEgress::static_type())
}
