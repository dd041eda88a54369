//! What a viewer is told in place of a packet's own numbers: one stream without breaks, whichever streams it is made of. Pure.
//!
//! Packets may come in any order; each has its place by its number in the stream that it is of. What came of a stream before
//! the keyframe that it was begun with has none. Numbers that never come are losses of the publisher's, and stay gaps; those
//! of packets that a viewer does not get are closed up (`numbering`).

use std::time::{Duration, Instant};

use super::{
    numbering::{Numbering, Placed},
    streams::SourcePacket,
    thin::Verdict,
};
use crate::codec::{Codec, Renumbered};

/// How long packets of a stream that was left still find their place.
const TAIL: Duration = Duration::from_secs(1);
/// The first number: packets from before it have room.
const FIRST: i64 = 1 << 32;

/// A packet's numbers as a viewer gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) number: u64,
    pub(super) timestamp: u32,
    /// The last packet of its picture, as far as that goes out.
    pub(super) marker: bool,
    /// The picture's numbers, if they are not the payload's own.
    pub(super) renumbered: Option<Renumbered>,
    /// Only its number goes out.
    pub(super) is_void: bool,
}

/// One stream of one viewer.
#[derive(Debug)]
pub(super) struct Rewrite {
    codec: Codec,
    current: Option<Piece>,
    /// The stream before it.
    tail: Option<(Piece, Instant)>,
    newest: Option<Newest>,
}

/// A stream that is part of the outgoing one.
#[derive(Clone, Debug)]
struct Piece {
    stream: u64,
    numbering: Numbering,
    /// Its last number that is taken.
    to: i64,
    timestamp: u32,
    picture: u16,
    layer_zero: u8,
}

/// The newest packet that went out.
#[derive(Clone, Copy, Debug)]
struct Newest {
    /// The stream that it is of, and its number there.
    of: (u64, i64),
    number: i64,
    timestamp: u32,
    at: Instant,
    arrival: Instant,
    picture: u16,
    layer_zero: u8,
    is_open: bool,
}

impl Rewrite {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, current: None, tail: None, newest: None }
    }

    /// The stream that goes out.
    pub(super) fn stream(&self) -> Option<u64> {
        self.current.as_ref().map(|piece| piece.stream)
    }

    /// How much later outgoing timestamps are than those of the stream that goes out.
    pub(super) fn timestamp_offset(&self) -> Option<u32> {
        self.current.as_ref().map(|piece| piece.timestamp)
    }

    /// Goes over to the stream of this packet, which starts a keyframe. `by_capture`: both streams' capture times are of one
    /// clock.
    pub(super) fn begin(&mut self, first: &SourcePacket, by_capture: bool) {
        let (stream, to) = (first.stream, i64::MAX);
        let Some(newest) = self.newest else {
            let numbering = Numbering::new(first.number, FIRST);
            self.current = Some(Piece { stream, numbering, to, timestamp: 0, picture: 0, layer_zero: 0 });
            return;
        };
        let elapsed = if by_capture {
            first.at.saturating_duration_since(newest.at)
        } else {
            first.arrival.saturating_duration_since(newest.arrival)
        };
        let clock_rate = self.codec.clock_rate();
        let ticks = (elapsed.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32;
        let timestamp = newest.timestamp.wrapping_add(ticks.max(clock_rate / 1000));
        // A picture that was cut off must not look whole.
        let number = newest.number + if newest.is_open { 2 } else { 1 };
        let info = first.info.unwrap_or_default();
        if let Some(mut left) = self.current.take() {
            left.to = if newest.of.0 == left.stream { newest.of.1 } else { i64::MIN };
            self.tail = Some((left, first.arrival));
        }
        self.current = Some(Piece {
            stream,
            numbering: Numbering::new(first.number, number),
            to,
            timestamp: timestamp.wrapping_sub(first.timestamp),
            picture: newest.picture.wrapping_add(1).wrapping_sub(info.picture.map_or(0, |(picture, _)| picture)),
            layer_zero: newest.layer_zero.wrapping_add(1).wrapping_sub(info.layer_zero.unwrap_or(0)),
        });
    }

    /// A packet's numbers; `None` if it has no place in what goes out.
    pub(super) fn rewrite(&mut self, packet: &SourcePacket, verdict: Verdict) -> Option<Rewritten> {
        let is_current = self.stream() == Some(packet.stream);
        let piece = if is_current {
            self.current.as_mut()?
        } else {
            let (tail, since) = self.tail.as_mut()?;
            let is_late = packet.arrival.saturating_duration_since(*since) >= TAIL;
            Some(tail).filter(|tail| tail.stream == packet.stream && packet.number <= tail.to && !is_late)?
        };
        let Placed { number, pictures, is_void } = piece.numbering.place(packet, verdict.keeps)?;
        let timestamp = packet.timestamp.wrapping_add(piece.timestamp);
        let marker = !is_void && (packet.marker || verdict.ends);
        let (mut picture, mut layer_zero, mut renumbered) = (0, 0, None);
        if let Some(info) = packet.info {
            let shift = piece.picture.wrapping_sub(pictures);
            // As many bits of it count as the payload has.
            picture = info.picture.map_or(0, |(picture, _)| picture).wrapping_add(shift);
            layer_zero = info.layer_zero.unwrap_or(0).wrapping_add(piece.layer_zero);
            if info.picture.is_some() && (shift, piece.layer_zero) != (0, 0) && !is_void {
                renumbered = Some(Renumbered { codec: self.codec, picture, layer_zero });
            }
        }
        if is_current && self.newest.is_none_or(|newest| number > newest.number) {
            let (at, arrival, of) = (packet.at, packet.arrival, (packet.stream, packet.number));
            // Padding comes between pictures and is no part of one; it has no picture's number either.
            let before = self.newest.filter(|_| packet.payload.is_empty() || is_void);
            let is_open = before.map_or(!marker, |before| before.is_open);
            if let Some(before) = before {
                (picture, layer_zero) = (before.picture, before.layer_zero);
            }
            self.newest = Some(Newest { of, number, timestamp, at, arrival, picture, layer_zero, is_open });
        }
        Some(Rewritten { number: u64::try_from(number).ok()?, timestamp, marker, renumbered, is_void })
    }
}

#[cfg(test)]
pub(super) mod tests;
