//! How the numbers of one stream become outgoing ones where packets of it are left out on purpose: what is left out closes
//! up, what was lost stays a gap. Pure.
//!
//! Packets come in any order. One that is missing when a later one goes out has a number from then on: it may yet come. If
//! it turns out to be one that is left out, its number is filled by an empty packet, so that nobody asks for it for ever.

use std::collections::VecDeque;

use super::streams::SourcePacket;

/// Changes between what goes out and what is left out that are remembered: several seconds.
const MOST_RUNS: usize = 256;

/// The numbers of one stream.
#[derive(Clone, Debug)]
pub(super) struct Numbering {
    /// The oldest first.
    runs: VecDeque<Run>,
    newest: i64,
    /// The time of the newest packet if it was left out.
    left_out: Option<u32>,
    /// What is added to the next number that goes out.
    shift: i64,
    /// Pictures that were left out.
    pictures: u16,
    /// The newest picture's number.
    picture: Option<u16>,
}

/// Numbers from here on that go the same way.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: i64,
    is_left_out: bool,
    shift: i64,
    pictures: u16,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) number: i64,
    /// Pictures that were left out before it.
    pub(super) pictures: u16,
    /// Only its number goes out.
    pub(super) is_void: bool,
}

impl Numbering {
    /// From this number on, which becomes that one.
    pub(super) fn new(from: i64, number: i64) -> Self {
        let shift = number - from;
        let first = Run { from, is_left_out: false, shift, pictures: 0 };
        Self { runs: [first].into(), newest: from - 1, left_out: None, shift, pictures: 0, picture: None }
    }

    /// Where a packet goes; `None` for nowhere. `keeps`: it is one that goes out.
    pub(super) fn place(&mut self, packet: &SourcePacket, keeps: bool) -> Option<Placed> {
        if packet.number > self.newest {
            self.advance(packet, keeps);
        }
        let run = self.runs.iter().rev().find(|run| run.from <= packet.number)?;
        let placed = Placed { number: packet.number + run.shift, pictures: run.pictures, is_void: !keeps };
        (!run.is_left_out).then_some(placed)
    }

    fn advance(&mut self, packet: &SourcePacket, keeps: bool) {
        let next = self.newest + 1;
        // What is missing between two packets of a picture is of that picture.
        let is_same = !keeps && self.left_out == Some(packet.timestamp);
        if keeps || (packet.number > next && !is_same) {
            self.run(next, false);
        }
        let is_new_picture = self.is_new_picture(packet);
        if !keeps {
            let from = if is_same { next } else { packet.number };
            self.run(from, true);
            self.shift -= packet.number - from + 1;
            self.pictures = self.pictures.wrapping_add(u16::from(is_new_picture));
        }
        self.left_out = (!keeps).then_some(packet.timestamp);
        self.newest = packet.number;
    }

    /// Whether with this packet, the newest, another picture begins; it is remembered.
    fn is_new_picture(&mut self, packet: &SourcePacket) -> bool {
        let info = packet.info.filter(|info| info.counts_pictures);
        let Some((picture, is_long)) = info.and_then(|info| info.picture) else { return false };
        let most: u16 = if is_long { 0x7FFF } else { 0x7F };
        let is_new = self.picture.is_none_or(|newest| {
            let ahead = picture.wrapping_sub(newest) & most;
            ahead > 0 && ahead <= most / 2
        });
        if is_new {
            self.picture = Some(picture);
        }
        is_new
    }

    fn run(&mut self, from: i64, is_left_out: bool) {
        if self.runs.back().is_none_or(|run| run.is_left_out != is_left_out) {
            self.runs.push_back(Run { from, is_left_out, shift: self.shift, pictures: self.pictures });
            if self.runs.len() > MOST_RUNS {
                self.runs.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::rewrite::tests::packet;

    /// Places packets by number, the time and whether they are kept.
    fn placed(packets: &[(i64, u32, bool)]) -> Vec<Option<(i64, bool)>> {
        let mut numbering = Numbering::new(10, 100);
        let start = std::time::Instant::now();
        let place = |(number, timestamp, keeps): &(i64, u32, bool)| {
            let packet = SourcePacket { timestamp: *timestamp, ..packet(1, *number, start) };
            numbering.place(&packet, *keeps).map(|placed| (placed.number, placed.is_void))
        };
        packets.iter().map(place).collect()
    }

    #[test]
    fn what_is_left_out_closes_up() {
        let placed =
            placed(&[(10, 0, true), (11, 1, false), (12, 1, false), (13, 2, true), (14, 3, false), (15, 4, true)]);
        assert_eq!(placed, [Some((100, false)), None, None, Some((101, false)), None, Some((102, false))]);
    }

    #[test]
    fn what_was_lost_stays_a_gap_and_finds_its_place_when_it_comes() {
        let placed = placed(&[(10, 0, true), (12, 1, true), (13, 2, false), (14, 3, true), (11, 1, true)]);
        assert_eq!(placed, [Some((100, false)), Some((102, false)), None, Some((103, false)), Some((101, false))]);
    }

    #[test]
    fn what_turns_out_to_be_left_out_fills_the_number_that_it_has_already() {
        let placed = placed(&[(10, 0, true), (12, 2, true), (11, 1, false), (13, 3, true)]);
        assert_eq!(placed, [Some((100, false)), Some((102, false)), Some((101, true)), Some((103, false))]);
    }

    #[test]
    fn what_is_missing_within_a_picture_that_is_left_out_is_left_out() {
        let placed =
            placed(&[(10, 0, true), (11, 1, false), (14, 1, false), (15, 2, true), (12, 1, false), (13, 1, true)]);
        assert_eq!(placed, [Some((100, false)), None, None, Some((101, false)), None, None]);
    }
}
