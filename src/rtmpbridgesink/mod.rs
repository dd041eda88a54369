//! `rtmpbridgesink`: audio and video, raw or encoded, to one RTMP(S) server or to several.
//!
//! H.264 and AAC pass as they are, everything else is transcoded, once for all. A server may refuse, die and come back:
//! neither what is in front of the element nor another server ever notices.
//!
//! ```text
//! gst-launch-1.0 -e videotestsrc is-live=true ! x264enc tune=zerolatency ! sink.video \
//!     audiotestsrc is-live=true ! opusenc ! sink.audio \
//!     rtmpbridgesink name=sink location=rtmp://127.0.0.1/live/stream
//! ```
//!
//! `imp` is the GObject and what it does while it runs, `input` a request pad with its chain, `terminal` the end of a chain where buffers become units
//! of a `format`, `observer` what the destination's news lead to, `inspection` the preset's rules. Timestamps are repaired
//! by `timeline` before the chains, and put in order by `show` behind them, which also says when something has to stand in
//! for input that is missing; `stage` and `keeper` do it. The lock order stands at `imp::RtmpBridgeSink`.

use gst::{glib, prelude::*};

mod codecs;
mod ending;
mod format;
mod imp;
mod input;
mod inspection;
mod keeper;
mod missing;
mod observer;
mod preset;
mod reorder;
mod settings;
mod show;
mod silence;
mod stage;
mod stamps;
mod stats;
mod terminal;
mod timeline;
mod tls;

pub use codecs::{AudioCodec, VideoCodec};
pub use missing::MissingTrack;
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
