//! What a viewer is told in place of a packet's own numbers: one stream without breaks, whichever streams it is made of. Pure.
//!
//! Packets may come in any order; each has its place by its number in the stream that it is of. What came of a stream before
//! the keyframe that it was begun with has none. Numbers that never come are losses of the publisher's, and stay gaps.

use std::time::{Duration, Instant};

use super::streams::SourcePacket;

/// How long packets of a stream that was left still find their place.
const TAIL: Duration = Duration::from_secs(1);
/// The first number: packets from before it have room.
const FIRST: i64 = 1 << 32;

/// A packet's numbers as a viewer gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) number: u64,
    pub(super) timestamp: u32,
    /// The VP8 picture and the number of its lowest layer, if they are not the payload's own.
    pub(super) renumbered: Option<(u16, u8)>,
}

/// One stream of one viewer.
#[derive(Debug)]
pub(super) struct Rewrite {
    clock_rate: u32,
    current: Option<Piece>,
    /// The stream before it.
    tail: Option<(Piece, Instant)>,
    newest: Option<Newest>,
}

/// A stream that is part of the outgoing one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    stream: u64,
    /// Its numbers that are taken.
    from: i64,
    to: i64,
    number: i64,
    timestamp: u32,
    picture: u16,
    layer_zero: u8,
}

/// The newest packet that went out.
#[derive(Clone, Copy, Debug)]
struct Newest {
    number: i64,
    timestamp: u32,
    at: Instant,
    arrival: Instant,
    picture: u16,
    layer_zero: u8,
    is_open: bool,
}

impl Rewrite {
    pub(super) fn new(clock_rate: u32) -> Self {
        Self { clock_rate, current: None, tail: None, newest: None }
    }

    /// The stream that goes out.
    pub(super) fn stream(&self) -> Option<u64> {
        self.current.map(|piece| piece.stream)
    }

    /// How much later outgoing timestamps are than those of the stream that goes out.
    pub(super) fn timestamp_offset(&self) -> Option<u32> {
        self.current.map(|piece| piece.timestamp)
    }

    /// Goes over to the stream of this packet, which starts a keyframe. `by_capture`: both streams' capture times are of one
    /// clock.
    pub(super) fn begin(&mut self, first: &SourcePacket, by_capture: bool) {
        let Some(newest) = self.newest else {
            self.current = Some(Piece {
                stream: first.stream,
                from: first.number,
                to: i64::MAX,
                number: FIRST - first.number,
                timestamp: 0,
                picture: 0,
                layer_zero: 0,
            });
            return;
        };
        let elapsed = if by_capture {
            first.at.saturating_duration_since(newest.at)
        } else {
            first.arrival.saturating_duration_since(newest.arrival)
        };
        let ticks = (elapsed.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000) as u32;
        let timestamp = newest.timestamp.wrapping_add(ticks.max(self.clock_rate / 1000));
        // A picture that was cut off must not look whole.
        let number = newest.number + if newest.is_open { 2 } else { 1 };
        let vp8 = first.vp8.unwrap_or_default();
        if let Some(current) = &mut self.current {
            current.to = newest.number - current.number;
            self.tail = Some((*current, first.arrival));
        }
        self.current = Some(Piece {
            stream: first.stream,
            from: first.number,
            to: i64::MAX,
            number: number - first.number,
            timestamp: timestamp.wrapping_sub(first.timestamp),
            picture: newest.picture.wrapping_add(1).wrapping_sub(vp8.picture.map_or(0, |(picture, _)| picture)),
            layer_zero: newest.layer_zero.wrapping_add(1).wrapping_sub(vp8.layer_zero.unwrap_or(0)),
        });
    }

    /// A packet's numbers; `None` if it has no place in what goes out.
    pub(super) fn rewrite(&mut self, packet: &SourcePacket) -> Option<Rewritten> {
        let current = self.current.filter(|piece| piece.has(packet));
        let is_current = current.is_some();
        let piece = current.or_else(|| {
            let (tail, since) = self.tail?;
            let is_late = packet.arrival.saturating_duration_since(since) >= TAIL;
            (tail.has(packet) && !is_late).then_some(tail)
        })?;
        let number = packet.number + piece.number;
        let timestamp = packet.timestamp.wrapping_add(piece.timestamp);
        let (mut picture, mut layer_zero, mut renumbered) = (0, 0, None);
        if let Some(vp8) = packet.vp8 {
            picture = vp8.picture.map_or(0, |(picture, _)| picture).wrapping_add(piece.picture) & 0x7FFF;
            layer_zero = vp8.layer_zero.unwrap_or(0).wrapping_add(piece.layer_zero);
            if vp8.picture.is_some() && (piece.picture, piece.layer_zero) != (0, 0) {
                renumbered = Some((picture, layer_zero));
            }
        }
        if is_current && self.newest.is_none_or(|newest| number > newest.number) {
            let (at, arrival) = (packet.at, packet.arrival);
            // Padding comes between pictures and is no part of one; it has no picture's number either.
            let before = self.newest.filter(|_| packet.payload.is_empty());
            let is_open = before.map_or(!packet.marker, |before| before.is_open);
            if let Some(before) = before {
                (picture, layer_zero) = (before.picture, before.layer_zero);
            }
            self.newest = Some(Newest { number, timestamp, at, arrival, picture, layer_zero, is_open });
        }
        Some(Rewritten { number: u64::try_from(number).ok()?, timestamp, renumbered })
    }
}

impl Piece {
    fn has(&self, packet: &SourcePacket) -> bool {
        packet.stream == self.stream && (self.from..=self.to).contains(&packet.number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::codec::Vp8Descriptor;

    fn packet(stream: u64, number: i64, start: Instant) -> SourcePacket {
        // A picture of three packets every 33 ms.
        let picture = number.div_euclid(3);
        let at = start + Duration::from_millis(33) * u32::try_from(picture.rem_euclid(1 << 20)).unwrap();
        SourcePacket {
            stream,
            number,
            timestamp: (picture as u32).wrapping_mul(2970).wrapping_add(stream as u32 * 1_000_000),
            marker: number.rem_euclid(3) == 2,
            starts_keyframe: false,
            payload: Bytes::from_static(&[1]),
            stored: 0,
            vp8: Some(Vp8Descriptor {
                picture: Some(((picture as u16).wrapping_add(100 * stream as u16) & 0x7FFF, true)),
                layer_zero: Some((picture as u8).wrapping_add(50)),
                temporal: None,
            }),
            at,
            arrival: at,
        }
    }

    #[test]
    fn a_viewer_begins_with_the_keyframe_and_gets_nothing_from_before() {
        let (mut rewrite, start) = (Rewrite::new(90_000), Instant::now());
        assert_eq!(rewrite.rewrite(&packet(1, 9, start)), None);
        rewrite.begin(&packet(1, 12, start), true);
        let first = rewrite.rewrite(&packet(1, 12, start)).unwrap();
        assert_eq!((first.number, first.renumbered), (FIRST as u64, None));
        assert_eq!(rewrite.rewrite(&packet(1, 11, start)), None);
        assert_eq!(rewrite.rewrite(&packet(1, 15, start)).unwrap().number, first.number + 3);
        assert_eq!(rewrite.rewrite(&packet(1, 13, start)).unwrap().number, first.number + 1, "late, in its place");
    }

    #[test]
    fn another_layer_goes_on_in_number_time_and_picture() {
        let (mut rewrite, start) = (Rewrite::new(90_000), Instant::now());
        rewrite.begin(&packet(1, 0, start), true);
        let last = (0..6).map(|number| rewrite.rewrite(&packet(1, number, start)).unwrap()).last().unwrap();
        rewrite.begin(&packet(2, 6, start), true);
        let next = rewrite.rewrite(&packet(2, 6, start)).unwrap();
        assert_eq!((next.number, next.timestamp), (last.number + 1, last.timestamp + 2970));
        let (picture, layer_zero) = next.renumbered.unwrap();
        assert_eq!((picture, layer_zero), (102, 52), "100 and 101 were the first layer's");
        assert_eq!(rewrite.rewrite(&packet(1, 6, start)), None, "the layer that was left");
        assert!(rewrite.rewrite(&packet(1, 4, start)).is_some(), "but not what it still owes");
    }

    #[test]
    fn a_picture_that_was_cut_off_leaves_a_gap() {
        let (mut rewrite, start) = (Rewrite::new(90_000), Instant::now());
        rewrite.begin(&packet(1, 0, start), true);
        let last = rewrite.rewrite(&packet(1, 1, start)).unwrap();
        rewrite.begin(&packet(2, 3, start), true);
        assert_eq!(rewrite.rewrite(&packet(2, 3, start)).unwrap().number, last.number + 2);
    }

    #[test]
    fn another_publisher_goes_on_by_when_it_comes() {
        let (mut rewrite, start) = (Rewrite::new(90_000), Instant::now());
        rewrite.begin(&packet(1, 2, start), true);
        let last = rewrite.rewrite(&packet(1, 2, start)).unwrap();
        let mut first = packet(9, 30_000, start);
        (first.arrival, first.at) = (start + Duration::from_secs(5), start);
        rewrite.begin(&first, false);
        let next = rewrite.rewrite(&first).unwrap();
        assert_eq!((next.number, next.timestamp.wrapping_sub(last.timestamp)), (last.number + 1, 450_000));
    }

    /// Whatever order packets come in, and however often streams are changed: no number is given to two, each packet keeps its
    /// distance to its neighbours, and numbers only leave out what did not come.
    #[test]
    fn numbers_are_unique_and_keep_the_order_of_each_stream() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut rewrite, start) = (Rewrite::new(90_000), Instant::now());
            let mut given: HashSet<u64> = HashSet::new();
            let mut next = random.random_range(-70_000..70_000_i64);
            let mut newest_time: Option<u32> = None;
            for stream in 1..random.random_range(3..8) {
                let length = random.random_range(1..60);
                let mut numbers: Vec<i64> = (next..next + length).collect();
                for place in 1..numbers.len() {
                    // Up to some places late.
                    let other = place.saturating_sub(random.random_range(0..4));
                    numbers.swap(place, other);
                }
                numbers.retain(|_| random.random_range(0..10) > 0);
                let Some(&first) = numbers.first() else { continue };
                rewrite.begin(&packet(stream, first, start), true);
                let mut by_number: Vec<(i64, Rewritten)> = Vec::new();
                for number in numbers {
                    if let Some(rewritten) = rewrite.rewrite(&packet(stream, number, start)) {
                        assert!(given.insert(rewritten.number), "seed {seed}: {} twice", rewritten.number);
                        by_number.push((number, rewritten));
                    } else {
                        assert!(number < first, "seed {seed}: {number} has no place");
                    }
                }
                for pair in by_number.windows(2) {
                    let ((a, left), (b, right)) = (pair[0], pair[1]);
                    assert_eq!(b - a, right.number as i64 - left.number as i64, "seed {seed}");
                }
                let begun = by_number[0].1.timestamp;
                assert!(newest_time.is_none_or(|newest| begun.wrapping_sub(newest).cast_signed() > 0), "seed {seed}");
                by_number.sort_by_key(|(number, _)| *number);
                newest_time = by_number.last().map(|(_, rewritten)| rewritten.timestamp);
                next += length;
            }
            let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
            assert!(most - least < given.len() as u64 * 2 + 60, "seed {seed}: numbers are left out");
        }
    }
}
