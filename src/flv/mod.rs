//! FLV tags: access units and frames of encoded media become the bytes that an RTMP message carries.
//!
//! Section numbers are those of the "Adobe Flash Video File Format Specification, version 10.1". H.264 and AAC go in its
//! tags, which every server takes; H.265, AV1, VP9 and Opus in those of enhanced RTMP v1 and v2, with the decoder
//! configurations that GStreamer's caps do not bring. Nothing here keeps time or decides what is sent; `rtmp` does.

pub(crate) mod amf0;
mod audio;
mod av1;
mod codec;
mod enhanced;
mod metadata;
mod opus;
mod tag;
mod video;
mod vp9;

pub use audio::{aac_raw, aac_sequence_header};
pub use av1::{av1_configuration, av1_without_delimiter};
pub use codec::{AudioCodec, VideoCodec};
pub use enhanced::{audio_frame, audio_sequence_header, video_access_unit, video_sequence_header};
pub use metadata::{AudioInfo, Metadata, VideoInfo};
pub use opus::opus_head;
pub use tag::{SharedTag, Tag, TagType};
pub use video::{avc_access_unit, avc_sequence_header};
pub use vp9::{Vp9Chroma, Vp9Info};
