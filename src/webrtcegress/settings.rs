//! The properties that are webrtcegress's alone; those of its connections are in `bridge/connecting`.

/// The properties as they are set.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) encoder: String,
    pub(super) video_bitrate: u32,
    pub(super) audio_bitrate: u32,
    pub(super) max_viewers: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { encoder: "auto".into(), video_bitrate: 2_500_000, audio_bitrate: 96_000, max_viewers: 0 }
    }
}
