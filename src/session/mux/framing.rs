//! Datagrams in a stream of bytes: what TURN (RFC 8656 section 3.1) and ICE over TCP (RFC 4571) make of TCP. Pure.

use std::collections::VecDeque;

/// How the end of a datagram is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By the lengths that STUN and ChannelData messages have in their headers.
    Turn,
    /// By two bytes in front of each.
    Rfc4571,
}

/// The bytes are none of the expected messages; there is no way to find the next one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream holds something that is no message")]
pub(super) struct Broken;

/// What has come of a stream and was not taken yet.
#[derive(Debug)]
pub(super) struct Frames {
    framing: Framing,
    bytes: VecDeque<u8>,
}

impl Frames {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, bytes: VecDeque::new() }
    }

    /// Takes what has come. Who takes each frame before the next bytes has never more here than one frame and these.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole datagram.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let Some(start) = self.start() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([start[2], start[3]]));
        let (before, payload, after) = match (self.framing, start[0] >> 6) {
            (Framing::Rfc4571, _) => (2, usize::from(u16::from_be_bytes([start[0], start[1]])), 0),
            (Framing::Turn, 0) => (0, 20 + length, 0),
            // Channel numbers begin with 01; over a stream the message is padded (RFC 8656 section 12.5).
            (Framing::Turn, 1) => (0, 4 + length, (4 - length % 4) % 4),
            (Framing::Turn, _) => return Err(Broken),
        };
        if self.bytes.len() < before + payload + after {
            return Ok(None);
        }
        let frame: Vec<u8> = self.bytes.drain(..before + payload + after).skip(before).take(payload).collect();
        Ok(Some(frame))
    }

    /// The first four bytes; of a frame of two bytes or fewer, those that there are.
    fn start(&self) -> Option<[u8; 4]> {
        let needed = if self.framing == Framing::Turn { 4 } else { 2 };
        let at = |place: usize| self.bytes.get(place).copied();
        (self.bytes.len() >= needed).then(|| [0, 1, 2, 3].map(|place| at(place).unwrap_or_default()))
    }
}

/// A datagram as it is written to the stream; `None` if it is too long.
pub(super) fn framed(framing: Framing, datagram: &[u8]) -> Option<Vec<u8>> {
    match framing {
        // STUN's lengths are multiples of four, and ChannelData is padded to one (RFC 8656 section 12.5).
        Framing::Turn => {
            let mut padded = datagram.to_vec();
            padded.resize(datagram.len().next_multiple_of(4), 0);
            Some(padded)
        }
        Framing::Rfc4571 => {
            let length = u16::try_from(datagram.len()).ok()?;
            Some([&length.to_be_bytes(), datagram].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(framing: Framing, bytes: &[u8], portion: usize) -> Result<Vec<Vec<u8>>, Broken> {
        let (mut frames, mut all) = (Frames::new(framing), Vec::new());
        for part in bytes.chunks(portion) {
            frames.push(part);
            while let Some(frame) = frames.next()? {
                all.push(frame);
            }
        }
        Ok(all)
    }

    #[test]
    fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut() {
        let sent: Vec<Vec<u8>> = [0, 1, 2, 3, 1200, 65_535].iter().map(|length| vec![7; *length]).collect();
        let stream: Vec<u8> = sent.iter().flat_map(|datagram| framed(Framing::Rfc4571, datagram).unwrap()).collect();
        for portion in [1, 3, 1000, 70_000] {
            assert_eq!(all(Framing::Rfc4571, &stream, portion).unwrap(), sent);
        }
        assert_eq!(framed(Framing::Rfc4571, &[0; 65_536]), None);
    }

    #[test]
    fn turn_messages_tell_their_own_length_and_channels_are_padded() {
        let stun = [&[0, 1, 0, 4][..], &[9; 20]].concat();
        let channel = [&[0x40, 0, 0, 5][..], b"hello"].concat();
        let stream = [&stun[..], &channel, &[0; 3], &stun].concat();
        assert_eq!(framed(Framing::Turn, &channel).unwrap(), [&channel[..], &[0; 3]].concat());
        assert_eq!(framed(Framing::Turn, &stun).unwrap(), stun);
        for portion in [1, 5, 100] {
            assert_eq!(all(Framing::Turn, &stream, portion).unwrap(), [&stun[..], &channel, &stun]);
        }
    }

    #[test]
    fn what_is_no_turn_message_ends_the_stream() {
        assert_eq!(all(Framing::Turn, b"\xffTTP/1.1 400 Bad Request", 100), Err(Broken));
    }
}
