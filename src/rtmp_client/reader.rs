//! The server's chunks become messages again (section 5.3), within bounds whatever it sends.

use std::collections::BTreeMap;

/// What servers tell a publisher is a few hundred bytes long.
const LONGEST: usize = 64 << 10;
/// Servers use two or three.
const MOST_STREAMS: usize = 16;
/// Until the server says another (section 5.4.1).
const CHUNK_SIZE: usize = 128;
/// Basic header, message header, extended timestamp.
const LONGEST_HEADER: usize = 3 + 11 + 4;
/// The timestamp that says that an extended one follows.
const EXTENDED: u32 = 0x00ff_ffff;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// What is wrong with the chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

#[derive(Debug)]
pub(super) struct Reader {
    chunk_size: usize,
    header: Vec<u8>,
    /// The chunk stream whose chunk is being read, and how much of the chunk is still to come.
    current: Option<(u32, usize)>,
    streams: BTreeMap<u32, Stream>,
}

/// What later chunks of a chunk stream leave out, and the message so far.
#[derive(Debug, Default)]
struct Stream {
    kind: u8,
    length: usize,
    extended: bool,
    body: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { chunk_size: CHUNK_SIZE, header: Vec::new(), current: None, streams: BTreeMap::new() }
    }
}

impl Reader {
    /// Set Chunk Size has come. No message is longer than fits any of them.
    pub(super) fn set_chunk_size(&mut self, size: u32) -> Result<(), Malformed> {
        self.chunk_size = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 { Err(Malformed("a chunk size of 0")) } else { Ok(()) }
    }

    /// Abort Message has come: forgets what there is of one.
    pub(super) fn abort(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.body.clear();
        }
    }

    /// Takes bytes off `bytes` up to the end of a message; `None` when there is no more.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, Malformed> {
        loop {
            let (id, left) = match self.current {
                Some(current) => current,
                None => match self.read_header(bytes)? {
                    Some(id) => (id, usize::MAX),
                    None => return Ok(None),
                },
            };
            let Some(stream) = self.streams.get_mut(&id) else { return Err(Malformed("no such chunk stream")) };
            let left = left.min(self.chunk_size).min(stream.length - stream.body.len());
            let (now, rest) = bytes.split_at(left.min(bytes.len()));
            *bytes = rest;
            stream.body.extend_from_slice(now);
            let left = left - now.len();
            self.current = (left > 0).then_some((id, left));
            if left > 0 {
                return Ok(None);
            }
            if stream.body.len() == stream.length {
                return Ok(Some(Message { kind: stream.kind, body: std::mem::take(&mut stream.body) }));
            }
        }
    }

    /// Reads a chunk's header; the chunk stream, once it is complete.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Result<Option<u32>, Malformed> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.header.push(*byte);
            if let Some(id) = self.parse_header()? {
                self.header.clear();
                return Ok(Some(id));
            }
            if self.header.len() >= LONGEST_HEADER {
                return Err(Malformed("a chunk header without an end"));
            }
        }
        Ok(None)
    }

    /// Section 5.3.1. `None` while bytes are missing.
    fn parse_header(&mut self) -> Result<Option<u32>, Malformed> {
        let (id, rest) = match *self.header.as_slice() {
            [first, second, ref rest @ ..] if first & 0x3f == 0 => (64 + u32::from(second), rest),
            [first, second, third, ref rest @ ..] if first & 0x3f == 1 => {
                (64 + u32::from(second) + 256 * u32::from(third), rest)
            }
            [first, ref rest @ ..] if first & 0x3f > 1 => (u32::from(first & 0x3f), rest),
            _ => return Ok(None),
        };
        let format = self.header.first().map_or(0, |first| first >> 6);
        let known = self.streams.get(&id);
        if format > 0 && known.is_none() {
            return Err(Malformed("a chunk that goes on with nothing"));
        }
        let extended_length = |extended: bool| if extended { 4 } else { 0 };
        let begins = match *rest {
            [a, b, c, d, e, f, kind, _, _, _, _, ..] if format == 0 => Some(([a, b, c], Some(([d, e, f], kind)), 11)),
            [a, b, c, d, e, f, kind, ..] if format == 1 => Some(([a, b, c], Some(([d, e, f], kind)), 7)),
            [a, b, c, ..] if format == 2 => Some(([a, b, c], None, 3)),
            _ if format == 3 => None,
            _ => return Ok(None),
        };
        let (extended, used) = match begins {
            Some((timestamp, _, used)) => (u24(timestamp) == EXTENDED, used),
            None => (known.is_some_and(|stream| stream.extended), 0),
        };
        if rest.len() < used + extended_length(extended) {
            return Ok(None);
        }
        if known.is_none() && self.streams.len() >= MOST_STREAMS {
            return Err(Malformed("too many chunk streams"));
        }
        let stream = self.streams.entry(id).or_default();
        if let Some((_, message, _)) = begins {
            stream.extended = extended;
            stream.body.clear(); // a message that was not completed never will be
            if let Some((length, kind)) = message {
                (stream.length, stream.kind) = (u24(length) as usize, kind);
            }
        }
        if stream.length > LONGEST { Err(Malformed("a message that is too long")) } else { Ok(Some(id)) }
    }
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut Reader, mut bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
        let mut messages = Vec::new();
        while let Some(message) = reader.read(&mut bytes)? {
            messages.push(message);
        }
        assert!(bytes.is_empty());
        Ok(messages)
    }

    fn message(kind: u8, body: &[u8]) -> Message {
        Message { kind, body: body.to_vec() }
    }

    /// 130 bytes in two chunks with one of another stream between, all forms of header, and extended timestamps.
    fn stream() -> (Vec<u8>, Vec<Message>) {
        let long = [7; 130];
        let mut bytes = vec![3, 0, 0, 0, 0, 0, 130, 20, 1, 0, 0, 0];
        bytes.extend(&long[..128]);
        bytes.extend([2, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 9]);
        bytes.extend([0xc3, 7, 7]);
        bytes.extend([0x43, 0xff, 0xff, 0xff, 0, 0, 129, 17, 0, 0, 0, 9]);
        bytes.extend(&long[..128]);
        bytes.extend([0xc3, 0, 0, 0, 9, 7]);
        bytes.extend([0x82, 0, 0, 5, 8]);
        bytes.extend([0, 6, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        (
            bytes,
            vec![message(1, &[9]), message(20, &long), message(17, &long[..129]), message(1, &[8]), message(4, &[])],
        )
    }

    #[test]
    fn messages_are_put_together_however_the_bytes_come() {
        let (bytes, messages) = stream();
        assert_eq!(all(&mut Reader::default(), &bytes), Ok(stream().1));
        let mut reader = Reader::default();
        let one_by_one: Vec<Message> = bytes.iter().flat_map(|byte| all(&mut reader, &[*byte]).unwrap()).collect();
        assert_eq!(one_by_one, messages);
    }

    #[test]
    fn chunk_size_of_the_server_is_followed() {
        let mut reader = Reader::default();
        reader.set_chunk_size(0x7fff_ffff).unwrap();
        let mut bytes = vec![3, 0, 0, 0, 0, 1, 0, 20, 1, 0, 0, 0];
        bytes.extend([7; 256]);
        assert_eq!(all(&mut reader, &bytes), Ok(vec![message(20, &[7; 256])]));
        assert!(reader.set_chunk_size(0).is_err());
    }

    #[test]
    fn nothing_is_kept_without_bounds() {
        assert!(all(&mut Reader::default(), &[3, 0, 0, 0, 1, 0, 1, 20, 1, 0, 0, 0]).is_err());
        assert!(all(&mut Reader::default(), &[0xc3]).is_err());
        let mut reader = Reader::default();
        let begun = |id: u8| [id, 0, 0, 0, 0, 0, 9, 20, 1, 0, 0, 0, 1];
        let results: Vec<bool> = (2..60)
            .map(|id| {
                let mut bytes = &begun(id)[..];
                let read = reader.read(&mut bytes);
                reader.current = None;
                read.is_ok()
            })
            .collect();
        assert_eq!(results.iter().filter(|ok| **ok).count(), MOST_STREAMS);
    }
}
