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
    pub fn finish(self) -> Option<Bytes> {
        self.finish_around(&Bytes::new()).map(|tag| tag.head)
    }

    /// The finished tag whose body ends with `data`, which is shared and not copied: every destination has a header of its
    /// own, because its time starts at its own 0, and all the rest is the same for each.
    pub fn finish_around(mut self, data: &Bytes) -> Option<SharedTag> {
        let size = u32::try_from(self.0.len() - HEADER + data.len()).ok().filter(|size| *size < 1 << 24)?;
        self.0[1..4].copy_from_slice(&size.to_be_bytes()[1..]);
        let head = self.0.len();
        self.0.put_u32(size + HEADER as u32);
        let mut tag = SharedTag { head: self.0.freeze(), data: data.clone(), tail: Bytes::new() };
        if !data.is_empty() {
            tag.tail = tag.head.split_off(head);
        }
        Some(tag)
    }
}

/// A finished tag in up to three pieces, of which the data may be shared with other tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedTag {
    /// The header and the beginning of the body; the whole tag when there is no shared data.
    pub head: Bytes,
    /// The rest of the body.
    pub data: Bytes,
    /// PreviousTagSize.
    pub tail: Bytes,
}

impl SharedTag {
    /// The pieces in order; those that are empty left out.
    pub fn pieces(self) -> impl Iterator<Item = Bytes> {
        [self.head, self.data, self.tail].into_iter().filter(|piece| !piece.is_empty())
    }

    /// How long it is on the whole.
    pub fn size(&self) -> usize {
        self.head.len() + self.data.len() + self.tail.len()
    }
}

impl From<Bytes> for SharedTag {
    fn from(whole: Bytes) -> Self {
        Self { head: whole, ..Self::default() }
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
        assert_eq!(Tag::new(TagType::Video, 0, 0).finish_around(&vec![0; 1 << 24].into()), None);
    }

    #[test]
    fn shared_data_is_the_same_tag_without_a_copy() {
        let data = Bytes::from_static(&[0xaa, 0xbb]);
        let tag = |timestamp| Tag::new(TagType::Audio, timestamp, 1).put(&[7]).finish_around(&data).unwrap_or_default();
        let whole = Tag::new(TagType::Audio, 5, 3).put(&[7, 0xaa, 0xbb]).finish().unwrap_or_default();
        assert_eq!(tag(5).pieces().collect::<Vec<_>>().concat(), whole);
        assert_eq!(tag(5).size(), whole.len());
        assert!(tag(5).data.as_ptr() == tag(9).data.as_ptr() && tag(5).head != tag(9).head);
        assert_eq!(SharedTag::from(whole.clone()).pieces().collect::<Vec<_>>(), [whole]);
    }
}
