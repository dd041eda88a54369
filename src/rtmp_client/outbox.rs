//! What waits for the socket, and since when.

use std::{
    collections::VecDeque,
    io::IoSlice,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};

use super::writer;
use crate::flv::SharedTag;

/// What may wait for a server at most, whatever its time: a file can be pushed faster than real time.
pub const MOST_BYTES: usize = 64 << 20;

/// Answers that may wait. A server that takes nothing and asks on is up to no good.
const MOST_ANSWERS: usize = 64 << 10;

/// Pieces that go out with one system call at most: several pictures, of two pieces each.
pub(super) const BATCH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// When each tag came, and where it ends, counted as `queued` is. Waiting is counted on the wall clock: media time jumps
    /// when a publisher pauses, and comes in bursts.
    tags: VecDeque<(Instant, u64)>,
    queued: u64,
    written: u64,
    /// How far answers have been queued that may still wait, and how many bytes of them.
    answers: (u64, usize),
}

/// Too many answers wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flooded;

impl Outbox {
    /// Queues a tag.
    pub(super) fn push_tag(&mut self, tag: SharedTag, stream: u32, now: Instant) {
        self.queued += writer::put_tag(tag, stream, &mut self.pieces) as u64;
        self.tags.push_back((now, self.queued));
    }

    /// Queues what is no media.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), Flooded> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.queued += bytes.len() as u64;
        let (until, waiting) = self.answers;
        self.answers = (self.queued, bytes.len() + if until > self.written { waiting } else { 0 });
        self.pieces.push_back(bytes);
        if self.answers.1 > MOST_ANSWERS { Err(Flooded) } else { Ok(()) }
    }

    /// What to write next; how many slices that is.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; BATCH]) -> usize {
        let pieces = self.pieces.iter().zip(slices.iter_mut());
        pieces.map(|(piece, slice)| *slice = IoSlice::new(piece)).count()
    }

    /// So much has been written.
    pub(super) fn wrote(&mut self, mut bytes: usize) {
        self.written += bytes as u64;
        while let Some(piece) = self.pieces.front_mut() {
            if bytes < piece.len() {
                piece.advance(bytes);
                break;
            }
            bytes -= piece.len();
            self.pieces.pop_front();
        }
        while self.tags.front().is_some_and(|(_, end)| *end <= self.written) {
            self.tags.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How long the oldest tag has been waiting. For ever, if too much waits.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        if self.queued - self.written > MOST_BYTES as u64 {
            return Duration::MAX;
        }
        self.tags.front().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::{Tag, TagType};

    const S: Duration = Duration::from_secs(1);

    fn tag(data: &Bytes) -> SharedTag {
        Tag::new(TagType::Audio, 0, 2).put(&[0xaf, 1]).finish_around(data).unwrap()
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_tag_that_is_not_out_to_its_last_byte() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let data = Bytes::from(vec![1; 100]);
        outbox.push_tag(tag(&data), 1, now);
        outbox.push_tag(tag(&data), 1, now + S);
        assert_eq!(outbox.lag(now + 3 * S), 3 * S);
        outbox.wrote(113);
        assert_eq!(outbox.lag(now + 3 * S), 3 * S);
        outbox.wrote(1);
        assert_eq!(outbox.lag(now + 3 * S), 2 * S);
        outbox.wrote(114);
        assert_eq!((outbox.lag(now + 3 * S), outbox.is_empty()), (Duration::ZERO, true));
    }

    #[test]
    fn bytes_come_out_as_they_went_in_whatever_the_socket_takes() {
        let mut outbox = Outbox::default();
        for byte in 0..100 {
            outbox.push_tag(tag(&vec![byte; 100].into()), 1, Instant::now());
        }
        let expected: Vec<u8> = outbox.pieces.iter().flatten().copied().collect();
        let mut written: Vec<u8> = Vec::new();
        for step in (1..=7).cycle() {
            let mut slices = [IoSlice::new(&[]); BATCH];
            let count = outbox.fill(&mut slices);
            let bytes: Vec<u8> =
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(step * 50).collect();
            if bytes.is_empty() {
                break;
            }
            written.extend(&bytes);
            outbox.wrote(bytes.len());
        }
        assert_eq!(written, expected);
        assert!(outbox.is_empty() && outbox.tags.is_empty());
    }

    #[test]
    fn more_than_memory_is_for_counts_as_waiting_for_ever() {
        let mut outbox = Outbox::default();
        let data = Bytes::from(vec![0; 8 << 20]);
        (0..8).for_each(|_| outbox.push_tag(tag(&data), 1, Instant::now()));
        assert_eq!(outbox.lag(Instant::now()), Duration::MAX);
    }

    #[test]
    fn answers_that_nobody_takes_are_bounded_and_those_taken_do_not_count() {
        let mut outbox = Outbox::default();
        let answer = Bytes::from(vec![0; MOST_ANSWERS / 4]);
        for _ in 0..20 {
            assert_eq!(outbox.push(answer.clone()), Ok(()));
            outbox.wrote(answer.len());
        }
        let results: Vec<bool> = (0..5).map(|_| outbox.push(answer.clone()).is_ok()).collect();
        assert_eq!(results, [true, true, true, true, false]);
    }
}
