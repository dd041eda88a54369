//! The `stats` property's structure.

use gst::prelude::*;

use crate::rtmp::Stats;

/// What the element itself knows.
pub(super) struct ElementStats {
    pub(super) video_encoder: Option<String>,
    pub(super) audio_encoder: Option<String>,
    /// Better video encoders that do not work here, with the reasons.
    pub(super) passed_over: Vec<String>,
    /// Raw frames that no encoder took.
    pub(super) frames_skipped: u64,
    pub(super) timestamps_repaired: u64,
}

/// Makes the structure; `destination` is `None` while the element is stopped.
pub(super) fn structure(element: &ElementStats, destination: Option<&Stats>) -> gst::Structure {
    let destinations = destination.map(|stats| {
        gst::Structure::builder("destination")
            .field("url", &stats.url)
            .field("state", stats.state.as_str())
            .field("bytes", stats.bytes)
            .field("frames", stats.frames)
            .field("dropped", stats.dropped)
            .field("reconnects", stats.reconnects)
            .field("lag", u32::try_from(stats.lag.as_millis()).unwrap_or(u32::MAX))
            .build()
    });
    let passthrough = element.video_encoder.as_deref().is_none_or(|name| name == "passthrough");
    gst::Structure::builder("rtmpbridgesink-stats")
        .field("destinations", gst::Array::from_values(destinations.iter().map(ToSendValue::to_send_value)))
        .field_if_some("encoder", element.video_encoder.as_ref())
        .field_if_some("video-encoder", element.video_encoder.as_ref())
        .field_if_some("audio-encoder", element.audio_encoder.as_ref())
        .field("encoders-passed-over", gst::Array::new(&element.passed_over))
        .field("frames-skipped", element.frames_skipped)
        .field("passthrough", passthrough && element.video_encoder.is_some())
        .field("timestamps-repaired", element.timestamps_repaired)
        .build()
}
