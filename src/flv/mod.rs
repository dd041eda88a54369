//! FLV tags: access units and frames of encoded media become the bytes that an RTMP message carries.
//!
//! Section numbers are those of the "Adobe Flash Video File Format Specification, version 10.1". Only what legacy RTMP
//! carries is here: H.264 and AAC. Nothing here keeps time or decides what is sent; `rtmp` does.

mod amf0;
mod audio;
mod metadata;
mod tag;
mod video;

pub use audio::{aac_raw, aac_sequence_header};
pub use metadata::{AudioInfo, Metadata, VideoInfo};
pub use tag::{SharedTag, Tag, TagType};
pub use video::{avc_access_unit, avc_sequence_header};
