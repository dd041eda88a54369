//! The codec table: what a codec is called in SDP, in our properties and in GStreamer's caps.
//!
//! Data only, with the format parameters of each codec in `fmtp`; negotiation is the session's business, elements that
//! handle a codec are the stages'.

mod dependency;
mod fmtp;
mod keyframe;
mod picture;
mod picture_size;
mod vp8;
mod vp9;

use std::{fmt, str::FromStr};

pub use {
    dependency::{DEPENDENCY_DESCRIPTOR_URI, DependencyDescriptor, LayerStructure},
    keyframe::{begins_with_delimiter, begins_with_first_slice, starts_keyframe},
    picture::{LayerPlace, PictureInfo, Renumbered},
    picture_size::{layer_sizes, picture_size},
};

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
}

impl MediaKind {
    /// As it stands in an SDP media line and in the names of pads: `audio`, `video`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A codec that WebRTC peers send and this plugin can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 6184
    H264,
    /// RFC 7741
    Vp8,
    /// RFC 9628
    Vp9,
    /// AOM's "RTP Payload Format For AV1"
    Av1,
    /// RFC 7798
    H265,
    /// RFC 7587
    Opus,
    /// G.711 µ-law, RFC 3551
    Pcmu,
    /// G.711 A-law, RFC 3551
    Pcma,
}

impl Codec {
    /// Every codec of the table, the preferred ones of each kind first.
    pub const ALL: [Self; 8] =
        [Self::H264, Self::Vp8, Self::Vp9, Self::Av1, Self::H265, Self::Opus, Self::Pcmu, Self::Pcma];

    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::H264 | Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H265 => MediaKind::Video,
            Self::Opus | Self::Pcmu | Self::Pcma => MediaKind::Audio,
        }
    }

    /// The name in our properties and in RTP caps (`encoding-name`), which is the rtpmap name in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::H265 => "H265",
            Self::Opus => "OPUS",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self.kind() {
            MediaKind::Video => 90_000,
            MediaKind::Audio if self == Self::Opus => 48_000,
            MediaKind::Audio => 8_000,
        }
    }

    /// The MIME type, as the WebRTC stack spells it.
    pub fn mime_type(self) -> String {
        let name = if self == Self::Opus { "opus" } else { self.name() };
        format!("{}/{name}", self.kind())
    }

    /// The name of GStreamer's caps for the depayloaded stream.
    pub fn caps_name(self) -> &'static str {
        match self {
            Self::H264 => "video/x-h264",
            Self::Vp8 => "video/x-vp8",
            Self::Vp9 => "video/x-vp9",
            Self::Av1 => "video/x-av1",
            Self::H265 => "video/x-h265",
            Self::Opus => "audio/x-opus",
            Self::Pcmu => "audio/x-mulaw",
            Self::Pcma => "audio/x-alaw",
        }
    }

    /// How good this variant of the codec is for us, by its format parameters, 0 the best; `None` if it is of no use.
    pub fn variant_rank(self, fmtp: &str) -> Option<u8> {
        fmtp::rank(self, fmtp)
    }

    /// How well a stream with these format parameters goes to a peer that offers to receive those, 0 the best; `None` if
    /// not at all.
    pub fn fit(self, ours: &str, offered: &str) -> Option<u8> {
        fmtp::fit(self, ours, offered)
    }

    /// The format parameters of an answer to an offer with these.
    pub fn answered_fmtp(self, offered: &str) -> String {
        fmtp::answer(self, offered)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec name that is not in the table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown codec \"{0}\"; known are H264, VP8, VP9, AV1, H265, OPUS, PCMU, PCMA")]
pub struct UnknownCodec(pub String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name)).ok_or(UnknownCodec(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!("opus".parse(), Ok(Codec::Opus));
        assert_eq!("H264".parse(), Ok(Codec::H264));
        assert_eq!("Av1".parse(), Ok(Codec::Av1));
        assert_eq!("H266".parse::<Codec>(), Err(UnknownCodec("H266".into())));
    }
}
