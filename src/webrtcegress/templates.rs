//! The pads that can be asked for, and what they take.

use crate::rtp::data::template_caps;

/// Video and audio, as many as there are tracks, and messages for data channels.
pub(super) fn templates() -> Vec<gst::PadTemplate> {
    let video = ["x-h264", "x-h265", "x-vp8", "x-vp9", "x-av1"]
        .iter()
        .fold(gst::Caps::builder_full(), |caps, name| {
            caps.structure(gst::Structure::new_empty(format!("video/{name}")))
        })
        // What converts best is preferred, everything else is taken.
        .structure(gst::Structure::builder("video/x-raw").field("format", gst::List::new(["I420", "NV12"])).build())
        .structure_with_any_features(gst::Structure::new_empty("video/x-raw"))
        .build();
    let audio = ["x-opus", "x-alaw", "x-mulaw", "x-raw"]
        .iter()
        .fold(gst::Caps::builder_full(), |caps, name| {
            caps.structure(gst::Structure::new_empty(format!("audio/{name}")))
        })
        .build();
    [("video_%u", video), ("audio_%u", audio), ("data_%u", template_caps())]
        .into_iter()
        .filter_map(|(name, caps)| {
            gst::PadTemplate::new(name, gst::PadDirection::Sink, gst::PadPresence::Request, &caps).ok()
        })
        .collect()
}
