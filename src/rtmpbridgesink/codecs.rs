//! The types of `video-codec` and `audio-codec`.
#![allow(missing_docs)] // glib::Enum expands to undocumented items

use gst::glib;

use crate::flv;

/// What video is sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtmpBridgeVideoCodec")]
pub enum VideoCodec {
    /// H.264: passes through, or everything else is transcoded to it.
    #[default]
    #[enum_value(name = "H.264, which every server takes", nick = "auto")]
    Auto,
    /// H.264.
    #[enum_value(name = "H.264", nick = "h264")]
    H264,
    /// H.265 by enhanced RTMP.
    #[enum_value(name = "H.265 (enhanced RTMP)", nick = "h265")]
    H265,
    /// AV1 by enhanced RTMP.
    #[enum_value(name = "AV1 (enhanced RTMP)", nick = "av1")]
    Av1,
    /// VP9 by enhanced RTMP.
    #[enum_value(name = "VP9 (enhanced RTMP)", nick = "vp9")]
    Vp9,
}

/// What audio is sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtmpBridgeAudioCodec")]
pub enum AudioCodec {
    /// AAC: passes through, or everything else is transcoded to it.
    #[default]
    #[enum_value(name = "AAC, which every server takes", nick = "auto")]
    Auto,
    /// AAC.
    #[enum_value(name = "AAC", nick = "aac")]
    Aac,
    /// Opus by enhanced RTMP.
    #[enum_value(name = "Opus (enhanced RTMP v2)", nick = "opus")]
    Opus,
}

impl From<VideoCodec> for flv::VideoCodec {
    fn from(codec: VideoCodec) -> Self {
        match codec {
            VideoCodec::Auto | VideoCodec::H264 => Self::H264,
            VideoCodec::H265 => Self::H265,
            VideoCodec::Av1 => Self::Av1,
            VideoCodec::Vp9 => Self::Vp9,
        }
    }
}

impl From<AudioCodec> for flv::AudioCodec {
    fn from(codec: AudioCodec) -> Self {
        match codec {
            AudioCodec::Auto | AudioCodec::Aac => Self::Aac,
            AudioCodec::Opus => Self::Opus,
        }
    }
}
