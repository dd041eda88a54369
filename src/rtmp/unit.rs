//! What goes into a destination: encoded units on the running time of the pipeline around the element.

use std::sync::Arc;

use bytes::Bytes;

use crate::flv::{AudioInfo, VideoInfo};

/// Which of the two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// The video track.
    Video,
    /// The audio track.
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
    /// Video with its decoder configuration; the codec is in the info.
    Video(Bytes, VideoInfo),
    /// Audio with its decoder configuration.
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
    /// What a tag carries: NAL units behind length fields, a temporal unit, a raw AAC frame, an Opus packet.
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
