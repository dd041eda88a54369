//! What an FLV tag holds, as far as a relay must know, and how tags are written (Adobe FLV specification version 10.1,
//! annex E; enhanced RTMP v2).

use bytes::{BufMut as _, Bytes, BytesMut};

/// One audio, video or script message, with its RTMP timestamp in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    pub(crate) timestamp: u32,
    pub(crate) data: Bytes,
}

/// The tag types of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio = 8,
    Video = 9,
    Script = 18,
}

/// What a relay does with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Decoder configuration: kept for players that come later.
    SequenceHeader,
    /// A picture to start from.
    Keyframe,
    /// Everything else.
    Frame,
}

impl Tag {
    pub(crate) fn role(&self) -> Role {
        let byte = |index: usize| self.data.get(index).copied().unwrap_or_default();
        let first = byte(0);
        match self.kind {
            Kind::Script => Role::Frame,
            // AAC (10), or the enhanced header (9) whose low bits are the packet type: 0 starts a sequence.
            Kind::Audio => match (first >> 4, first & 0x0f, byte(1)) {
                (10, _, 0) | (9, 0, _) => Role::SequenceHeader,
                _ => Role::Frame,
            },
            Kind::Video => {
                let enhanced = first & 0x80 != 0;
                let keyframe = (first >> 4) & 0x07 == 1;
                let starts_sequence = match enhanced {
                    true => first & 0x0f == 0,
                    // AVC (7) and the common extension for HEVC (12).
                    false => matches!(first & 0x0f, 7 | 12) && byte(1) == 0,
                };
                match (starts_sequence, keyframe) {
                    (true, _) => Role::SequenceHeader,
                    (false, true) => Role::Keyframe,
                    (false, false) => Role::Frame,
                }
            }
        }
    }

    /// The tag as it stands in a file, with the size that follows it.
    pub(crate) fn write(&self, timestamp: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(11 + self.data.len() + 4);
        out.put_u8(self.kind as u8);
        out.put_uint(self.data.len() as u64, 3);
        out.put_uint(u64::from(timestamp & 0x00ff_ffff), 3);
        out.put_u8((timestamp >> 24) as u8);
        out.put_uint(0, 3);
        out.put_slice(&self.data);
        out.put_u32(11 + self.data.len() as u32);
        out.freeze()
    }
}

/// The nine bytes at the start of a file, with the size 0 that follows them.
pub(crate) fn file_header(audio: bool, video: bool) -> Bytes {
    let flags = u8::from(audio) << 2 | u8::from(video);
    Bytes::copy_from_slice(&[b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0])
}

/// A value of a script object.
pub(crate) enum Value {
    Number(f64),
    Boolean(bool),
    Text(String),
}

/// The body of an `onMetaData` script tag: an AMF0 name and ECMA array.
pub(crate) fn on_meta_data(values: &[(&str, Value)]) -> Bytes {
    let mut out = BytesMut::new();
    let text = |out: &mut BytesMut, text: &str| {
        let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
        out.put_u16(text.len() as u16);
        out.put_slice(text);
    };
    out.put_u8(2);
    text(&mut out, "onMetaData");
    out.put_u8(8);
    out.put_u32(values.len() as u32);
    for (name, value) in values {
        text(&mut out, name);
        match value {
            Value::Number(number) => {
                out.put_u8(0);
                out.put_f64(*number);
            }
            Value::Boolean(boolean) => {
                out.put_u8(1);
                out.put_u8(u8::from(*boolean));
            }
            Value::Text(value) => {
                out.put_u8(2);
                text(&mut out, value);
            }
        }
    }
    out.put_slice(&[0, 0, 9]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(kind: Kind, data: &'static [u8]) -> Role {
        Tag { kind, timestamp: 0, data: Bytes::from_static(data) }.role()
    }

    #[test]
    fn roles_are_told_for_legacy_and_enhanced_tags() {
        assert_eq!(role(Kind::Video, &[0x17, 0]), Role::SequenceHeader);
        assert_eq!(role(Kind::Video, &[0x17, 1]), Role::Keyframe);
        assert_eq!(role(Kind::Video, &[0x27, 1]), Role::Frame);
        assert_eq!(role(Kind::Video, b"\x90hvc1"), Role::SequenceHeader);
        assert_eq!(role(Kind::Video, b"\x91hvc1"), Role::Keyframe);
        assert_eq!(role(Kind::Video, b"\xa1hvc1"), Role::Frame);
        assert_eq!(role(Kind::Audio, &[0xaf, 0]), Role::SequenceHeader);
        assert_eq!(role(Kind::Audio, &[0xaf, 1]), Role::Frame);
        assert_eq!(role(Kind::Audio, b"\x90Opus"), Role::SequenceHeader);
        assert_eq!(role(Kind::Video, &[]), Role::Frame);
        assert_eq!(role(Kind::Audio, &[]), Role::Frame);
    }

    #[test]
    fn tag_is_written_with_its_extended_timestamp_and_size() {
        let tag = Tag { kind: Kind::Video, timestamp: 0, data: Bytes::from_static(b"ab") };
        assert_eq!(&tag.write(0x0102_0304)[..], &[9, 0, 0, 2, 2, 3, 4, 1, 0, 0, 0, b'a', b'b', 0, 0, 0, 13]);
    }
}
