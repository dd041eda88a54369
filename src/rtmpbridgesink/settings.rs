//! The element's settings: raw as they are set, resolved once when it starts.

use std::{borrow::Cow, path::Path, time::Duration};

use super::{
    codecs::{AudioCodec, VideoCodec},
    keeper::Slate,
    missing::MissingTrack,
    preset::{Explicit, Preset},
    show::Policy,
    tls::TlsValidationFlags,
};
use crate::{
    rtmp::{self, Location, LocationError, LocationsError, parse_locations},
    transcode::{self, Picture, StillError},
};

/// As set. Times in ms, bitrates in bit/s.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) locations: Vec<String>,
    pub(super) preset: Preset,
    pub(super) explicit: Explicit,
    pub(super) encoder: String,
    pub(super) video_codec: VideoCodec,
    pub(super) audio_codec: AudioCodec,
    pub(super) video_bitrate: u32,
    pub(super) audio_bitrate: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) framerate: gst::Fraction,
    pub(super) keyframe_interval: u32,
    pub(super) max_queue_time: u32,
    pub(super) reconnect_min: u32,
    pub(super) reconnect_max: u32,
    pub(super) max_retries: i32,
    pub(super) connect_timeout: u32,
    pub(super) stall_timeout: u32,
    pub(super) tls_validation_flags: TlsValidationFlags,
    pub(super) sync: bool,
    pub(super) missing_track: MissingTrack,
    pub(super) gap_grace: u32,
    pub(super) slate_file: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            locations: Vec::new(),
            preset: Preset::None,
            explicit: Explicit::default(),
            encoder: "auto".into(),
            video_codec: VideoCodec::Auto,
            audio_codec: AudioCodec::Auto,
            video_bitrate: 2_500_000,
            audio_bitrate: 128_000,
            width: 0,
            height: 0,
            framerate: gst::Fraction::new(0, 1),
            keyframe_interval: 2000,
            max_queue_time: 3000,
            reconnect_min: 500,
            reconnect_max: 5000,
            max_retries: -1,
            connect_timeout: 5000,
            stall_timeout: 8000,
            tls_validation_flags: TlsValidationFlags::VALIDATE_ALL,
            sync: true,
            missing_track: MissingTrack::Ignore,
            gap_grace: 0,
            slate_file: None,
        }
    }
}

impl Settings {
    /// Where to; fails with what is wrong with one of the URLs, or without any.
    pub(super) fn locations(&self) -> Result<Vec<Location>, LocationsError> {
        match self.parse_locations(&self.locations)? {
            none if none.is_empty() => Err(LocationsError::Only(LocationError::Missing)),
            locations => Ok(locations),
        }
    }

    /// Reads URLs, or with a preset stream keys alone.
    pub(super) fn parse_locations(&self, urls: &[String]) -> Result<Vec<Location>, LocationsError> {
        let platform = self.preset.platform();
        parse_locations(
            urls.iter().map(|url| platform.map_or(Cow::Borrowed(url.as_str()), |platform| platform.url(url))),
        )
    }

    /// `location` without secrets.
    pub(super) fn redacted_location(&self) -> Option<String> {
        let urls: Vec<_> = self.redacted_locations().collect();
        (!urls.is_empty()).then(|| urls.join(" "))
    }

    /// `locations` without secrets.
    pub(super) fn redacted_locations(&self) -> impl Iterator<Item = String> {
        self.locations.iter().map(|url| rtmp::redact(url))
    }

    /// The destinations' part.
    pub(super) fn destinations(&self) -> rtmp::Config {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        rtmp::Config {
            keyframe_interval: ms(self.keyframe_interval),
            max_queue: ms(self.max_queue_time),
            reconnect_min: ms(self.reconnect_min),
            reconnect_max: ms(self.reconnect_max),
            max_retries: u32::try_from(self.max_retries).ok(),
            connect_timeout: ms(self.connect_timeout),
            stall_timeout: ms(self.stall_timeout),
            tls_validation_flags: self.tls_validation_flags.bits(),
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
            canvas: self.canvas(),
        }
    }

    fn canvas(&self) -> transcode::Canvas {
        transcode::Canvas {
            width: self.width,
            height: self.height,
            framerate: Some((self.framerate.numer(), self.framerate.denom())).filter(|(numer, _)| *numer > 0),
        }
    }

    /// What stands in for input, and when.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            synthesise: self.missing_track == MissingTrack::Synthesise,
            grace_ns: i64::from(self.gap_grace) * 1_000_000,
        }
    }

    /// The picture's part; fails with what is wrong with the file.
    pub(super) fn slate(&self) -> Result<Slate, String> {
        let load = |file: &String| {
            Picture::load(Path::new(file)).map_err(|error: StillError| format!("slate-file={file}: {error}"))
        };
        Ok(Slate {
            picture: self.slate_file.as_ref().map(load).transpose()?,
            canvas: self.canvas(),
            codec: self.video_codec.into(),
            keyframe_interval: Duration::from_millis(self.keyframe_interval.into()),
            bitrate: self.video_bitrate,
        })
    }
}
