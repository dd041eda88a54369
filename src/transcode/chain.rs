//! A chain: the elements between a pad and the destination.

use std::time::Duration;

use gst::prelude::*;

use super::{ChainError, audio, encoders, enhanced, video};
use crate::flv::{AudioCodec, VideoCodec};

/// What the chains are to be like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `auto`, `software` or the name of an encoder's factory.
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
}

/// Which chain some caps need. Caps of an equal route can follow each other in one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The media type.
    pub media: String,
    /// Whether it is sent as it comes.
    pub passthrough: bool,
}

impl Route {
    /// The route for caps.
    pub fn of(caps: &gst::CapsRef, settings: &Settings) -> Result<Self, ChainError> {
        let structure = caps.structure(0).ok_or_else(|| ChainError::Unsupported("empty caps".into()))?;
        let media = structure.name().to_string();
        let system_memory = caps.features(0).is_none_or(|features| features.contains("memory:SystemMemory"));
        match media.as_str() {
            "video/x-raw" if !system_memory => {
                let features = caps.features(0).map(|features| features.to_string());
                Err(ChainError::Memory(features.unwrap_or_default()))
            }
            name if name.starts_with("video/") => {
                Ok(Self { passthrough: name == enhanced::video_media(settings.video_codec), media })
            }
            name if name.starts_with("audio/") => {
                Ok(Self { passthrough: name == enhanced::audio_media(settings.audio_codec), media })
            }
            _ => Err(ChainError::Unsupported(media)),
        }
    }
}

/// Elements in link order, not yet in a bin and not yet linked.
#[derive(Debug)]
pub struct Chain {
    /// The elements.
    pub elements: Vec<gst::Element>,
    /// What the last one gives: the caps to ask of it.
    pub output: gst::Caps,
    /// The encoder, if there is one.
    pub encoder: Option<gst::Element>,
    /// Bit/s, where we encode.
    pub bitrate: Option<u32>,
    pub(super) queue: Option<gst::Element>,
}

impl Chain {
    /// Makes the chain for `caps`.
    pub fn build(caps: &gst::CapsRef, settings: &Settings) -> Result<Self, ChainError> {
        let route = Route::of(caps, settings)?;
        if let Some(chain) = enhanced::chain(caps, &route, settings) {
            return chain;
        }
        match (route.media.starts_with("video/"), route.passthrough) {
            (true, true) => video::pass(),
            (true, false) => video::transcode(caps, &route.media, settings),
            (false, true) => audio::pass(),
            (false, false) => audio::transcode(&route.media, settings),
        }
    }

    /// The encoder's factory, or `passthrough`.
    pub fn name(&self) -> String {
        let factory = self.encoder.as_ref().and_then(gst::prelude::ElementExt::factory);
        factory.map_or_else(|| "passthrough".to_owned(), |factory| factory.name().to_string())
    }

    /// A live source cannot wait for a slow encoder: it loses raw frames instead. Others wait.
    pub fn set_live(&self, live: bool) {
        if let Some(queue) = &self.queue {
            queue.set_property_from_str("leaky", if live { "downstream" } else { "no" });
        }
    }

    /// Changes the video encoder's bitrate while it runs.
    pub fn set_video_bitrate(&self, bitrate: u32) {
        if let Some(encoder) = &self.encoder
            && !enhanced::set_bitrate(encoder, bitrate)
        {
            encoders::set_bitrate(encoder, bitrate);
        }
    }
}
