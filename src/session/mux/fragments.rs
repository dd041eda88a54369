//! Puts the fragments of DTLS handshake messages together before the stack sees them.
//!
//! The stack below joins fragments only where one ends and the next begins as they were first sent. OpenSSL cuts a flight
//! that it sends again elsewhere; once a fragment of the first is lost, the handshake hangs for good. Peers with a small MTU
//! meet this often: GStreamer's has 256 bytes. RFC 6347 section 4.2.3 wants overlapping ranges taken. Plaintext handshake
//! messages are handed on whole; encrypted records are fragments of nothing and go as they are.
//!
//! Nor does the stack see a message again once it takes part: it would stop its retransmission timer for it, which alone
//! can get a server's last flight sent again (the client's Finished is encrypted, and only the stack can renumber it).

use std::collections::BTreeMap;

use super::records::Records;

const RECORD_HEADER: usize = 13;
const HANDSHAKE: u8 = 22;
/// Type, length, message number, fragment offset, fragment length (RFC 6347 section 4.2.2).
const MESSAGE_HEADER: usize = 12;
/// A chain of certificates has a few KB.
const LONGEST_MESSAGE: usize = 16 << 10;
/// A flight has five messages at most; what is beyond are remains of flights sent again.
const MOST_MESSAGES: usize = 8;
/// What goes to the stack in one datagram; longer messages are cut at its multiples, always the same.
const CHUNK: usize = 1200;

/// The incomplete messages of one session's peer.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    messages: BTreeMap<u16, Message>,
    /// Those handed on, a bit each.
    delivered: u64,
    /// The stack has sent something. Before that it may have missed what it was handed.
    takes_part: bool,
    records: Records,
}

#[derive(Debug)]
struct Message {
    typ: u8,
    body: Vec<u8>,
    arrived: Vec<bool>,
    missing: usize,
}

/// One fragment as it came.
struct Fragment<'a> {
    typ: u8,
    length: usize,
    number: u16,
    offset: usize,
    content: &'a [u8],
}

impl Fragments {
    /// Takes a DTLS datagram; returns those to hand on in its place.
    pub(super) fn take(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), datagram);
        while let Some((header, tail)) = rest.split_first_chunk::<RECORD_HEADER>() {
            let [typ, v0, v1, e0, e1, .., l0, l1] = *header;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let Some((mut content, tail)) = tail.split_at_checked(length) else { break };
            if typ == HANDSHAKE && (e0, e1) == (0, 0) {
                while let Some((fragment, after)) = Fragment::parse(content) {
                    self.add(&fragment, [v0, v1], &mut out);
                    content = after;
                }
            } else {
                append(&mut out, &[header.as_slice(), content].concat());
            }
            rest = tail;
        }
        // What was sent once may now go on several times: no two may have one number.
        out.iter_mut().for_each(|datagram| self.records.number(datagram));
        out
    }

    /// Messages that are incomplete.
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The stack has sent something.
    pub(super) fn takes_part(&mut self) {
        self.takes_part = true;
    }

    fn add(&mut self, fragment: &Fragment<'_>, version: [u8; 2], out: &mut Vec<Vec<u8>>) {
        // A handshake has a dozen messages.
        let Some(bit) = 1_u64.checked_shl(fragment.number.into()) else { return };
        if fragment.length > LONGEST_MESSAGE || self.takes_part && self.delivered & bit != 0 {
            return;
        }
        let message = self.messages.entry(fragment.number).or_insert_with(|| Message::new(fragment));
        message.fill(fragment);
        if message.missing == 0 {
            if let Some(message) = self.messages.remove(&fragment.number) {
                message.write(fragment.number, version, out);
                self.delivered |= bit;
            }
        } else if self.messages.len() > MOST_MESSAGES {
            self.messages.pop_first();
        }
    }
}

impl<'a> Fragment<'a> {
    fn parse(content: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, tail) = content.split_first_chunk::<MESSAGE_HEADER>()?;
        let [typ, n0, n1, n2, s0, s1, o0, o1, o2, l0, l1, l2] = *header;
        let three = |a, b, c| u32::from_be_bytes([0, a, b, c]) as usize;
        let (content, after) = tail.split_at_checked(three(l0, l1, l2))?;
        let (length, offset) = (three(n0, n1, n2), three(o0, o1, o2));
        let number = u16::from_be_bytes([s0, s1]);
        (offset + content.len() <= length).then_some((Self { typ, length, number, offset, content }, after))
    }
}

impl Message {
    fn new(fragment: &Fragment<'_>) -> Self {
        let length = fragment.length;
        Self { typ: fragment.typ, body: vec![0; length], arrived: vec![false; length], missing: length }
    }

    fn fill(&mut self, fragment: &Fragment<'_>) {
        if (fragment.typ, fragment.length) != (self.typ, self.body.len()) {
            return; // not of this message
        }
        let body = self.body.iter_mut().zip(&mut self.arrived).skip(fragment.offset);
        for ((byte, arrived), new) in body.zip(fragment.content) {
            *byte = *new;
            self.missing -= usize::from(!std::mem::replace(arrived, true));
        }
    }

    fn write(&self, number: u16, [v0, v1]: [u8; 2], out: &mut Vec<Vec<u8>>) {
        let empty: [&[u8]; 1] = [&[]]; // a message without a body is a fragment as well
        let chunks = self.body.chunks(CHUNK).chain(empty.into_iter().filter(|_| self.body.is_empty()));
        let [_, n0, n1, n2] = (self.body.len() as u32).to_be_bytes();
        let [s0, s1] = number.to_be_bytes();
        for (index, chunk) in chunks.enumerate() {
            let [_, o0, o1, o2] = ((index * CHUNK) as u32).to_be_bytes();
            let [_, l0, l1, l2] = (chunk.len() as u32).to_be_bytes();
            let [r0, r1] = ((MESSAGE_HEADER + chunk.len()) as u16).to_be_bytes();
            let record = [HANDSHAKE, v0, v1, 0, 0, 0, 0, 0, 0, 0, 0, r0, r1];
            let message = [self.typ, n0, n1, n2, s0, s1, o0, o1, o2, l0, l1, l2];
            append(out, &[record.as_slice(), &message, chunk].concat());
        }
    }
}

/// Appends a record to the last datagram if there is room, else as one of its own.
fn append(out: &mut Vec<Vec<u8>>, record: &[u8]) {
    match out.last_mut() {
        Some(last) if last.len() + record.len() <= CHUNK => last.extend_from_slice(record),
        _ => out.push(record.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const VERSION: [u8; 2] = [254, 253];

    fn body(range: Range<usize>) -> impl Iterator<Item = u8> {
        range.map(|i| (i % 251) as u8)
    }

    /// A datagram with the part of message `number` from `from` to `to`.
    fn part(number: u16, length: usize, from: usize, to: usize) -> Vec<u8> {
        let mut content = vec![11];
        content.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        content.extend_from_slice(&number.to_be_bytes());
        content.extend_from_slice(&(from as u32).to_be_bytes()[1..]);
        content.extend_from_slice(&((to - from) as u32).to_be_bytes()[1..]);
        content.extend(body(from..to));
        let mut record = vec![HANDSHAKE, VERSION[0], VERSION[1], 0, 0, 0, 0, 0, 0, 0, 9];
        record.extend_from_slice(&(content.len() as u16).to_be_bytes());
        record.extend_from_slice(&content);
        record
    }

    fn numbered(number: u8, mut datagram: Vec<u8>) -> Vec<u8> {
        datagram[10] = number;
        datagram
    }

    #[test]
    fn a_flight_that_is_sent_again_in_other_pieces_completes_the_first() {
        let mut fragments = Fragments::default();
        // As OpenSSL does: the first time behind another message, the second time alone.
        for (from, to) in [(0, 108), (108, 339), (570, 689), (0, 230)] {
            assert!(fragments.take(&part(1, 689, from, to)).is_empty());
        }
        assert!(fragments.take(&part(1, 689, 230, 461)).is_empty());
        assert_eq!(fragments.take(&part(1, 689, 461, 689)), [numbered(0, part(1, 689, 0, 689))]);
        assert_eq!(fragments.take(&part(1, 689, 0, 689)), [numbered(1, part(1, 689, 0, 689))], "and once more");
    }

    #[test]
    fn whole_messages_and_what_is_no_handshake_pass_in_their_order() {
        let change: Vec<u8> = vec![20, 254, 253, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 1];
        let finished: Vec<u8> = vec![22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 9, 9, 9];
        let datagram = [part(2, 40, 0, 40), part(3, 0, 0, 0), change.clone(), finished.clone()].concat();
        let expected =
            [numbered(0, part(2, 40, 0, 40)), numbered(1, part(3, 0, 0, 0)), numbered(2, change), finished].concat();
        assert_eq!(Fragments::default().take(&datagram), [expected]);
    }

    #[test]
    fn a_stack_that_takes_part_sees_each_message_once() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.take(&part(1, 40, 0, 40)).len(), 1);
        assert_eq!(fragments.take(&part(1, 40, 0, 40)).len(), 1, "it may not have been ready");
        fragments.takes_part();
        assert!(fragments.take(&part(1, 40, 0, 40)).is_empty());
        assert_eq!(fragments.take(&part(2, 40, 0, 40)).len(), 1, "the next");
        assert!(fragments.take(&part(64, 40, 0, 40)).is_empty());
    }

    #[test]
    fn long_messages_are_cut_the_same_each_time() {
        let mut fragments = Fragments::default();
        let mut last = Vec::new();
        for from in (0..3000).step_by(100) {
            last = fragments.take(&part(1, 3000, from, from + 100));
        }
        let expected = [(0, 1200), (1200, 2400), (2400, 3000)];
        let expected = expected.iter().zip(0..).map(|((from, to), n)| numbered(n, part(1, 3000, *from, *to)));
        assert_eq!(last, expected.collect::<Vec<_>>());
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut fragments = Fragments::default();
        for number in 0..1000 {
            fragments.take(&part(number, 10_000, 0, 1));
            fragments.take(&part(number, 200_000, 0, 1));
        }
        assert!(fragments.messages.len() <= MOST_MESSAGES);
        let whole = part(1, 50, 0, 50);
        for length in 0..whole.len() {
            assert!(fragments.take(&whole[..length]).is_empty());
        }
        assert!(fragments.take(&part(1, 10, 0, 10)[..]).len() == 1, "goes on");
    }

    #[test]
    fn a_fragment_that_reaches_beyond_its_message_is_dropped() {
        let mut beyond = part(1, 50, 40, 50);
        beyond[RECORD_HEADER + 8] = 45; // offset
        assert!(Fragments::default().take(&beyond).is_empty());
    }
}
