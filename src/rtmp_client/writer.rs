//! Messages become chunks (section 5.3): headers of our own around bodies that are not copied.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::flv::SharedTag;

/// Until we say another (section 5.4.1).
pub(super) const FIRST_CHUNK_SIZE: usize = 128;
/// The default of 128 bytes makes a chunk header for every 128 bytes; servers take up to 64 KiB.
pub(super) const CHUNK_SIZE: usize = 60_000;

/// Chunk streams; any numbers from 3 on would do. 2 is for what controls the connection.
pub(super) const CONTROL: u8 = 2;
pub(super) const COMMANDS: u8 = 3;
const DATA: u8 = 4;
const AUDIO: u8 = 5;
const VIDEO: u8 = 6;

/// Message type of data in AMF0, which FLV shares.
const AMF0_DATA: u8 = 18;
/// Before metadata, as a string in AMF0: servers keep it then and give it to whoever comes later.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";

/// Of an FLV tag: type, size, timestamp with its extension, stream.
const TAG_HEADER: usize = 11;
const TAG_TRAILER: usize = 4;

const EXTENDED: u32 = 0x00ff_ffff;

/// What stands before a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) chunk_stream: u8,
    pub(super) kind: u8,
    pub(super) timestamp: u32,
    pub(super) stream: u32,
}

/// Writes the message of an FLV tag, whose shared data goes out as it is; how many bytes that is. A tag that is none is
/// left out.
pub(super) fn put_tag(tag: SharedTag, stream: u32, out: &mut VecDeque<Bytes>) -> usize {
    let (mut head, data) = (tag.head, tag.data);
    if data.is_empty() {
        head.truncate(head.len().saturating_sub(TAG_TRAILER));
    }
    let [kind, _, _, _, a, b, c, extension, _, _, _, ..] = *head else { return 0 };
    let chunk_stream = match kind {
        8 => AUDIO,
        9 => VIDEO,
        _ => DATA,
    };
    let timestamp = u32::from_be_bytes([extension, a, b, c]);
    let header = Header { chunk_stream, kind, timestamp, stream };
    let prefix = if kind == AMF0_DATA { SET_DATA_FRAME } else { &[] };
    put(CHUNK_SIZE, header, prefix, [head.split_off(TAG_HEADER), data], out)
}

/// Writes a short message into one piece.
pub(super) fn put_message(chunk_size: usize, header: Header, body: &[u8], out: &mut BytesMut) {
    let mut pieces = VecDeque::new();
    put(chunk_size, header, &[], [Bytes::copy_from_slice(body), Bytes::new()], &mut pieces);
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// Every message has its full header: it costs 11 bytes, and whatever a server makes of differences cannot go wrong.
fn put(size: usize, header: Header, prefix: &[u8], body: [Bytes; 2], out: &mut VecDeque<Bytes>) -> usize {
    let length = prefix.len() + body.iter().map(Bytes::len).sum::<usize>();
    let Header { chunk_stream, kind, timestamp, stream } = header;
    let extended = timestamp >= EXTENDED;
    let mut first = BytesMut::with_capacity(16 + prefix.len() + body[0].len().min(size));
    first.put_u8(chunk_stream);
    first.put_uint(u64::from(timestamp.min(EXTENDED)), 3);
    first.put_uint(length as u64, 3);
    first.put_u8(kind);
    first.put_u32_le(stream);
    if extended {
        first.put_u32(timestamp);
    }
    // Repeats the extended timestamp (section 5.3.1.3), as servers expect it.
    let mut next = BytesMut::with_capacity(5);
    next.put_u8(3 << 6 | chunk_stream);
    if extended {
        next.put_u32(timestamp);
    }
    let next = next.freeze();

    let mut written = 0;
    let mut room = size;
    let mut pending = first;
    pending.extend_from_slice(prefix); // shorter than any chunk
    room -= prefix.len();
    let mut push = |piece: Bytes| {
        if !piece.is_empty() {
            written += piece.len();
            out.push_back(piece);
        }
    };
    for (index, mut piece) in body.into_iter().enumerate() {
        while !piece.is_empty() {
            if room == 0 {
                push(std::mem::take(&mut pending).freeze());
                pending.extend_from_slice(&next);
                room = size;
            }
            let now = piece.split_to(room.min(piece.len()));
            room -= now.len();
            // What stands before the media is a few bytes: with its header it is one piece for the socket.
            if index == 0 {
                pending.extend_from_slice(&now);
            } else {
                push(std::mem::take(&mut pending).freeze());
                push(now);
            }
        }
    }
    push(pending.freeze());
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flv::{Tag, TagType},
        rtmp_client::reader::Reader,
    };

    fn chunks(tag: SharedTag) -> (VecDeque<Bytes>, usize) {
        let mut out = VecDeque::new();
        let written = put_tag(tag, 1, &mut out);
        assert_eq!(written, out.iter().map(Bytes::len).sum::<usize>());
        (out, written)
    }

    fn read(pieces: &VecDeque<Bytes>) -> Vec<u8> {
        let bytes: Vec<u8> = pieces.iter().flatten().copied().collect();
        let mut reader = Reader::default();
        reader.set_chunk_size(CHUNK_SIZE as u32).unwrap();
        reader.read(&mut &bytes[..]).unwrap().unwrap().body
    }

    #[test]
    fn media_goes_out_in_its_own_memory() {
        let data = Bytes::from(vec![7; 500]);
        let tag = Tag::new(TagType::Video, 0x0102_0304, 5).put(&[0x17, 1, 0, 0, 0]).finish_around(&data).unwrap();
        let (pieces, _) = chunks(tag);
        assert_eq!(pieces.len(), 2);
        let golden = [6, 0xff, 0xff, 0xff, 0, 1, 0xf9, 9, 1, 0, 0, 0, 1, 2, 3, 4, 0x17, 1, 0, 0, 0];
        assert_eq!(pieces[0], &golden[..]);
        assert_eq!(pieces[1].as_ptr(), data.as_ptr());
    }

    #[test]
    fn long_media_is_cut_into_chunks_without_a_copy() {
        for timestamp in [5, 0x0100_0000] {
            let data = Bytes::from((0..150_000).map(|byte| byte as u8).collect::<Vec<_>>());
            let tag = Tag::new(TagType::Video, timestamp, 1).put(&[0x17]).finish_around(&data).unwrap();
            let (pieces, written) = chunks(tag);
            assert_eq!(pieces.len(), 6);
            let extension = if timestamp > 5 { 4 } else { 0 };
            assert_eq!(written, 12 + extension + 150_001 + 2 * (1 + extension));
            assert!(pieces[1].as_ptr() == data.as_ptr() && pieces[3].as_ptr() == data[59_999..].as_ptr());
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let data = Bytes::from(vec![3; 60_000]);
        let tag = Tag::new(TagType::Audio, 0x0200_0000, 2).put(&[0xaf, 1]).finish_around(&data).unwrap();
        assert_eq!(read(&chunks(tag).0), [&[0xaf, 1][..], &data].concat());
        let metadata = Tag::new(TagType::Script, 0, 3).put(&[2, 0, 0]).finish().unwrap();
        assert_eq!(read(&chunks(metadata.into()).0), [SET_DATA_FRAME, &[2, 0, 0]].concat());
        let empty = Tag::new(TagType::Audio, 0, 0).finish().unwrap();
        assert!(read(&chunks(empty.into()).0).is_empty());
    }

    #[test]
    fn what_is_no_tag_is_left_out() {
        assert_eq!(chunks(Bytes::from_static(&[9, 0, 0]).into()), (VecDeque::new(), 0));
        assert_eq!(chunks(SharedTag::default()), (VecDeque::new(), 0));
    }

    #[test]
    fn commands_longer_than_a_chunk_go_in_several() {
        let mut out = BytesMut::new();
        let header = Header { chunk_stream: COMMANDS, kind: 20, timestamp: 0, stream: 0 };
        put_message(FIRST_CHUNK_SIZE, header, &[1; 300], &mut out);
        assert_eq!(out.len(), 12 + 300 + 2);
        let message = Reader::default().read(&mut &out[..]).unwrap().unwrap();
        assert_eq!((message.kind, message.body), (20, vec![1; 300]));
    }
}
