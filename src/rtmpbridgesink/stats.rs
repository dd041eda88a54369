//! The `stats` property's structure.

use gst::prelude::*;

use super::stage::Counts;
use crate::rtmp::Stats;

/// What the element itself knows.
pub(super) struct ElementStats {
    pub(super) video_encoder: Option<String>,
    pub(super) audio_encoder: Option<String>,
    /// Better video encoders that do not work here, with the reasons.
    pub(super) passed_over: Vec<String>,
    /// Raw frames that no encoder took.
    pub(super) frames_skipped: u64,
    pub(super) counts: Counts,
}

/// Makes the structure; there are no destinations while the element is stopped.
pub(super) fn structure(element: &ElementStats, destinations: &[Stats]) -> gst::Structure {
    let destinations = destinations.iter().map(|stats| {
        gst::Structure::builder("destination")
            .field("url", &stats.url)
            .field("state", stats.state.as_str())
            .field("bytes", stats.bytes)
            .field("frames", stats.frames)
            .field("dropped", stats.dropped)
            .field("reconnects", stats.reconnects)
            .field("lag", u32::try_from(stats.lag.as_millis()).unwrap_or(u32::MAX))
            .field("failures", failures(stats))
            .field_if_some("last-failure", stats.last_failure.as_ref())
            .build()
            .to_send_value()
    });
    let passthrough = element.video_encoder.as_deref().is_none_or(|name| name == "passthrough");
    gst::Structure::builder("rtmpbridgesink-stats")
        .field("destinations", gst::Array::from_values(destinations))
        .field_if_some("encoder", element.video_encoder.as_ref())
        .field_if_some("video-encoder", element.video_encoder.as_ref())
        .field_if_some("audio-encoder", element.audio_encoder.as_ref())
        .field("encoders-passed-over", gst::Array::new(&element.passed_over))
        .field("frames-skipped", element.frames_skipped)
        .field("passthrough", passthrough && element.video_encoder.is_some())
        .field("timestamps-repaired", element.counts.repaired())
        .field("timestamp-repairs", repairs(&element.counts))
        .field("standing-in", standing_in(element.counts.filling))
        .field("video-stood-in", element.counts.filled[0])
        .field("audio-stood-in", element.counts.filled[1])
        .build()
}

/// How often a destination failed, by why.
fn failures(stats: &Stats) -> gst::Structure {
    let mut structure = gst::Structure::new_empty("failures");
    for (kind, count) in &stats.failures {
        structure.set(*kind, count);
    }
    structure
}

/// By kind.
fn repairs(counts: &Counts) -> gst::Structure {
    gst::Structure::builder("timestamp-repairs")
        .field("backward", counts.backward)
        .field("duplicate", counts.duplicate)
        .field("jump", counts.jump)
        .field("wrap", counts.wrap)
        .field("missing", counts.missing)
        .build()
}

/// For which tracks something stands in now.
fn standing_in([video, audio]: [bool; 2]) -> &'static str {
    match (video, audio) {
        (false, false) => "none",
        (true, false) => "video",
        (false, true) => "audio",
        (true, true) => "both",
    }
}
