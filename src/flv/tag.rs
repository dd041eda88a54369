//! The FLV tag around every message (section E.4.1).

use bytes::{BufMut as _, Bytes, BytesMut};

/// Length of the tag header before the body.
const HEADER: usize = 11;
/// Length of the PreviousTagSize field after the body (section E.3).
const TRAILER: usize = 4;

/// What a tag carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagType {
    /// Audio data (section E.4.2).
    Audio = 8,
    /// Video data (section E.4.3).
    Video = 9,
    /// Script data, such as onMetaData (section E.4.4).
    Script = 18,
}

/// One tag under construction: the header with room for the size, then the body.
#[derive(Debug)]
pub struct Tag(BytesMut);

impl Tag {
    /// Begins a tag. `timestamp` is in milliseconds and wraps after 49.7 days: bits 24 to 31 go to TimestampExtended.
    pub fn new(tag_type: TagType, timestamp: u32, body_capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER + body_capacity + TRAILER);
        bytes.put_u8(tag_type as u8);
        bytes.put_uint(0, 3); // DataSize, known at the end
        bytes.put_uint(u64::from(timestamp & 0x00ff_ffff), 3);
        bytes.put_u8((timestamp >> 24) as u8);
        bytes.put_uint(0, 3); // StreamID, always 0
        Self(bytes)
    }

    /// Appends to the body.
    pub fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The finished tag with its PreviousTagSize; `None` when the body is too long for the 24-bit DataSize.
    pub fn finish(mut self) -> Option<Bytes> {
        let size = u32::try_from(self.0.len() - HEADER).ok().filter(|size| *size < 1 << 24)?;
        self.0[1..4].copy_from_slice(&size.to_be_bytes()[1..]);
        self.0.put_u32(size + HEADER as u32);
        Some(self.0.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_size_and_previous_tag_size_are_as_in_e_4_1() {
        let tag = Tag::new(TagType::Audio, 0x01_0203, 2).put(&[0xaa, 0xbb]).finish();
        let expected = [8, 0, 0, 2, 1, 2, 3, 0, 0, 0, 0, 0xaa, 0xbb, 0, 0, 0, 13];
        assert_eq!(tag.as_deref(), Some(&expected[..]));
    }

    #[test]
    fn timestamps_beyond_24_bit_use_the_extended_byte() {
        let tag = Tag::new(TagType::Video, 0x8904_0506, 0).finish().unwrap_or_default();
        assert_eq!(tag[4..8], [4, 5, 6, 0x89]);
    }

    #[test]
    fn body_beyond_24_bit_is_refused() {
        assert_eq!(Tag::new(TagType::Video, 0, 0).put(&vec![0; 1 << 24]).finish(), None);
    }
}
