//! The pads that can be asked for, and what they take.

/// One for each track.
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
    let audio = gst::Caps::builder_full()
        .structure(gst::Structure::builder("audio/mpeg").field("mpegversion", 4i32).build())
        .structure(gst::Structure::new_empty("audio/x-opus"))
        .structure(gst::Structure::new_empty("audio/x-alaw"))
        .structure(gst::Structure::new_empty("audio/x-mulaw"))
        .structure(gst::Structure::new_empty("audio/x-raw"))
        .build();
    [("video", video), ("audio", audio)]
        .into_iter()
        .filter_map(|(name, caps)| {
            gst::PadTemplate::new(name, gst::PadDirection::Sink, gst::PadPresence::Request, &caps).ok()
        })
        .collect()
}
