//! A chain: the elements between a pad and the destination.

use std::time::Duration;

use gst::prelude::*;

use super::{Canvas, ChainError, audio, slot::Slot, video};
use crate::flv::{AudioCodec, VideoCodec};

/// What the chains are to be like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `auto`, `hardware`, `software` or the name of an encoder's factory.
    pub encoder: String,
    /// What video is sent as.
    pub video_codec: VideoCodec,
    /// What audio is sent as.
    pub audio_codec: AudioCodec,
    /// Bit/s.
    pub video_bitrate: u32,
    /// Bit/s.
    pub audio_bitrate: u32,
    /// Time from keyframe to keyframe.
    pub keyframe_interval: Duration,
    /// What every picture is fitted to.
    pub canvas: Canvas,
}

/// Which chain some caps need. Caps of an equal route can follow each other in one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The media type.
    pub media: String,
    /// Whether it is sent as it comes.
    pub passthrough: bool,
    /// What else the chain is made for: the memory that raw video is in, the channels of raw audio without positions.
    variant: String,
}

impl Route {
    /// The route for caps.
    pub fn of(caps: &gst::CapsRef, settings: &Settings) -> Result<Self, ChainError> {
        let structure = caps.structure(0).ok_or_else(|| ChainError::Unsupported("empty caps".into()))?;
        let media = structure.name().to_string();
        let route = |passthrough, variant| Ok(Self { media: media.clone(), passthrough, variant });
        match media.as_str() {
            "video/x-raw" => route(false, caps.features(0).map(|features| features.to_string()).unwrap_or_default()),
            "audio/x-raw" => {
                route(false, audio::unplaced_channels(caps).map(|count| count.to_string()).unwrap_or_default())
            }
            name if name.starts_with("video/") => {
                route(name == video::media(settings.video_codec) && !settings.canvas.is_set(), String::new())
            }
            name if name.starts_with("audio/") => route(name == audio::media(settings.audio_codec), String::new()),
            _ => Err(ChainError::Unsupported(media)),
        }
    }
}

/// What encodes.
#[derive(Debug)]
pub(super) enum Encoder {
    None,
    Audio(gst::Element),
    Video(Slot),
}

/// Elements in link order, not yet in a bin and not yet linked.
#[derive(Debug)]
pub struct Chain {
    /// The elements.
    pub elements: Vec<gst::Element>,
    /// What the last one gives: the caps to ask of it.
    pub output: gst::Caps,
    /// Bit/s, where we encode.
    pub bitrate: Option<u32>,
    pub(super) encoder: Encoder,
}

impl Chain {
    /// Makes the chain for `caps`. Takes seconds where a hardware encoder has to be tried first.
    pub fn build(caps: &gst::CapsRef, settings: &Settings) -> Result<Self, ChainError> {
        let route = Route::of(caps, settings)?;
        match (route.media.starts_with("video/"), route.passthrough) {
            (true, true) => video::pass(settings.video_codec),
            (true, false) => video::transcode(caps, &route.media, settings),
            (false, true) => audio::pass(settings.audio_codec),
            (false, false) => audio::transcode(caps, &route.media, settings),
        }
    }

    /// The factory of the encoder that works at present, or `passthrough`.
    pub fn name(&self) -> String {
        match &self.encoder {
            Encoder::None => "passthrough".to_owned(),
            Encoder::Audio(encoder) => encoder.factory().map(|factory| factory.name().to_string()).unwrap_or_default(),
            Encoder::Video(slot) => slot.encoder_name(),
        }
    }

    /// The better encoders that do not work here, each with the reason.
    pub fn passed_over(&self) -> Vec<String> {
        if let Encoder::Video(slot) = &self.encoder { slot.passed_over() } else { Vec::new() }
    }

    /// How many raw frames were left out because the encoder was too slow or failed.
    pub fn frames_skipped(&self) -> u64 {
        if let Encoder::Video(slot) = &self.encoder { slot.frames_skipped() } else { 0 }
    }

    /// A live source cannot wait for a slow encoder: it loses raw frames instead. Others wait.
    pub fn set_live(&self, live: bool) {
        if let Encoder::Video(slot) = &self.encoder {
            slot.set_live(live);
        }
    }

    /// Changes the video encoder's bitrate while it runs.
    pub fn set_video_bitrate(&self, bitrate: u32) {
        if let Encoder::Video(slot) = &self.encoder {
            slot.set_bitrate(bitrate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(caps: &str, video_codec: VideoCodec, audio_codec: AudioCodec, width: u32) -> bool {
        gst::init().unwrap();
        let settings = Settings {
            encoder: "auto".into(),
            video_codec,
            audio_codec,
            video_bitrate: 1_500_000,
            audio_bitrate: 96_000,
            keyframe_interval: Duration::from_secs(2),
            canvas: Canvas { width, ..Canvas::default() },
        };
        Route::of(&caps.parse::<gst::Caps>().unwrap(), &settings).unwrap().passthrough
    }

    #[test]
    fn only_what_was_asked_for_passes() {
        let video = |caps, codec| passes(caps, codec, AudioCodec::Aac, 0);
        assert!(video("video/x-h264", VideoCodec::H264) && !video("video/x-h265", VideoCodec::H264));
        assert!(video("video/x-h265", VideoCodec::H265) && !video("video/x-h264", VideoCodec::H265));
        let audio = |caps, codec| passes(caps, VideoCodec::H265, codec, 0);
        assert!(audio("audio/mpeg", AudioCodec::Aac) && !audio("audio/x-opus", AudioCodec::Aac));
        assert!(audio("audio/x-opus", AudioCodec::Opus) && !audio("audio/mpeg", AudioCodec::Opus));
    }

    #[test]
    fn canvas_makes_video_of_every_codec_be_transcoded_and_leaves_audio_alone() {
        assert!(!passes("video/x-h264", VideoCodec::H264, AudioCodec::Aac, 640));
        assert!(!passes("video/x-vp9", VideoCodec::Vp9, AudioCodec::Aac, 640));
        assert!(passes("audio/mpeg", VideoCodec::H264, AudioCodec::Aac, 640));
    }
}
