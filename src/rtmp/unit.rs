//! What goes into a destination: encoded units on the running time of the pipeline around the element.

use std::sync::Arc;

use bytes::Bytes;

use crate::flv::{AudioInfo, VideoInfo};

/// Which of the two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// The H.264 track.
    Video,
    /// The AAC track.
    Audio,
}

/// Which tracks the destination may expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// A video pad is linked.
    pub video: bool,
    /// An audio pad is linked.
    pub audio: bool,
}

/// A format with its decoder configuration. A unit of another format makes a new sequence header.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// H.264 with its AVCDecoderConfigurationRecord.
    Video(Bytes, VideoInfo),
    /// AAC with its AudioSpecificConfig.
    Audio(Bytes, AudioInfo),
}

/// One access unit or audio frame.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its format, shared among units.
    pub format: Arc<Format>,
    /// Decoding time in ns of running time.
    pub dts: i64,
    /// Presentation time in ns of running time.
    pub pts: i64,
    /// Whether decoding can begin here. Always true for audio.
    pub keyframe: bool,
    /// NAL units behind length fields, or a raw AAC frame.
    pub data: Bytes,
}

impl Unit {
    /// The unit's track.
    pub fn track(&self) -> Track {
        match *self.format {
            Format::Video(..) => Track::Video,
            Format::Audio(..) => Track::Audio,
        }
    }
}
