//! `rtmpbridgesink`: audio and video, raw or encoded, to an RTMP(S) server.
//!
//! H.264 and AAC pass as they are, everything else is transcoded. The server may refuse, die and come back: what is in
//! front of the element never notices.
//!
//! ```text
//! gst-launch-1.0 -e videotestsrc is-live=true ! x264enc tune=zerolatency ! sink.video \
//!     audiotestsrc is-live=true ! opusenc ! sink.audio \
//!     rtmpbridgesink name=sink location=rtmp://127.0.0.1/live/stream
//! ```
//!
//! `imp` is the GObject, `input` a request pad with its chain, `terminal` the end of a chain where buffers become units
//! of a `format`, `observer` what the destination's news lead to, `inspection` the preset's rules. The lock order stands at `imp::RtmpBridgeSink`.

use gst::{glib, prelude::*};

mod codecs;
mod ending;
mod format;
mod imp;
mod input;
mod inspection;
mod observer;
mod preset;
mod settings;
mod stats;
mod terminal;
mod timeline;
mod tls;

pub use codecs::{AudioCodec, VideoCodec};
pub use preset::Preset;
pub use tls::TlsValidationFlags;

glib::wrapper! {
    /// The element.
    pub struct RtmpBridgeSink(ObjectSubclass<imp::RtmpBridgeSink>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "rtmpbridgesink", gst::Rank::NONE, RtmpBridgeSink::static_type())
}
