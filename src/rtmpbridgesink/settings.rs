//! The element's settings: raw as they are set, resolved once when it starts.

use std::time::Duration;

use super::{
    codecs::{AudioCodec, VideoCodec},
    preset::{Explicit, Preset},
    tls::TlsValidationFlags,
};
use crate::{
    rtmp::{self, Location, LocationError},
    transcode,
};

/// As set. Times in ms, bitrates in bit/s.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) location: Option<String>,
    pub(super) preset: Preset,
    pub(super) explicit: Explicit,
    pub(super) encoder: String,
    pub(super) video_codec: VideoCodec,
    pub(super) audio_codec: AudioCodec,
    pub(super) video_bitrate: u32,
    pub(super) audio_bitrate: u32,
    pub(super) keyframe_interval: u32,
    pub(super) max_queue_time: u32,
    pub(super) reconnect_min: u32,
    pub(super) reconnect_max: u32,
    pub(super) max_retries: i32,
    pub(super) connect_timeout: u32,
    pub(super) stall_timeout: u32,
    pub(super) tls_validation_flags: TlsValidationFlags,
    pub(super) sync: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: None,
            preset: Preset::None,
            explicit: Explicit::default(),
            encoder: "auto".into(),
            video_codec: VideoCodec::Auto,
            audio_codec: AudioCodec::Auto,
            video_bitrate: 2_500_000,
            audio_bitrate: 128_000,
            keyframe_interval: 2000,
            max_queue_time: 3000,
            reconnect_min: 500,
            reconnect_max: 5000,
            max_retries: -1,
            connect_timeout: 5000,
            stall_timeout: 8000,
            tls_validation_flags: TlsValidationFlags::VALIDATE_ALL,
            sync: true,
        }
    }
}

impl Settings {
    /// The destination's part; fails with what is wrong with the location.
    pub(super) fn destination(&self) -> Result<rtmp::Config, LocationError> {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        Ok(rtmp::Config {
            location: self.parse_location(self.location.as_deref().unwrap_or_default())?,
            keyframe_interval: ms(self.keyframe_interval),
            max_queue: ms(self.max_queue_time),
            reconnect_min: ms(self.reconnect_min),
            reconnect_max: ms(self.reconnect_max),
            max_retries: u32::try_from(self.max_retries).ok(),
            connect_timeout: ms(self.connect_timeout),
            stall_timeout: ms(self.stall_timeout),
            tls_validation_flags: self.tls_validation_flags.bits(),
        })
    }

    /// Reads a URL, or with a preset a stream key alone.
    pub(super) fn parse_location(&self, text: &str) -> Result<Location, LocationError> {
        match self.preset.platform() {
            Some(platform) => Location::parse(&platform.url(text)),
            None => Location::parse(text),
        }
    }

    /// The chains' part.
    pub(super) fn transcode(&self) -> transcode::Settings {
        transcode::Settings {
            encoder: self.encoder.clone(),
            video_codec: self.video_codec.into(),
            audio_codec: self.audio_codec.into(),
            video_bitrate: self.video_bitrate,
            audio_bitrate: self.audio_bitrate,
            keyframe_interval: Duration::from_millis(self.keyframe_interval.into()),
        }
    }
}
