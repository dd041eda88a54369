//! What came of a stream since its last keyframe, as long as that is little: who comes meanwhile begins with it, and has a
//! picture without waiting for a keyframe that would cost everybody else quality. Pure.

use std::time::{Duration, Instant};

use super::streams::SourcePacket;

/// Of an older keyframe on, a newcomer's picture would be behind for too long: all that came since goes to him at once.
const MOST_AGE: Duration = Duration::from_millis(500);
/// So much takes 60 ms to a network of which nothing is known (`session/egress/pacing`).
const MOST_BYTES: usize = 150_000;
/// However small they are.
const MOST_PACKETS: usize = 512;

/// The packets, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    packets: Vec<SourcePacket>,
    bytes: usize,
    /// The time of the last keyframe: each of its slices may look like its beginning.
    keyframe: Option<u32>,
}

impl Recent {
    /// A packet has come. `is_newest`: nothing of the stream has overtaken it; what has overtaken the beginning of a keyframe
    /// is not here.
    pub(super) fn add(&mut self, packet: &SourcePacket, is_newest: bool) {
        if packet.starts_keyframe && self.keyframe != Some(packet.timestamp) {
            self.clear();
            self.keyframe = Some(packet.timestamp);
            if !is_newest {
                return;
            }
        } else if self.packets.is_empty() {
            return;
        }
        self.bytes += packet.payload.len();
        let is_old = |first: &SourcePacket| packet.arrival.saturating_duration_since(first.arrival) > MOST_AGE;
        if self.bytes > MOST_BYTES || self.packets.len() >= MOST_PACKETS || self.packets.first().is_some_and(is_old) {
            return self.clear();
        }
        self.packets.push(packet.clone());
    }

    /// All since the keyframe; nothing if there is none that is good to begin with.
    pub(super) fn packets(&self, now: Instant) -> &[SourcePacket] {
        let is_young = |first: &SourcePacket| now.saturating_duration_since(first.arrival) <= MOST_AGE;
        if self.packets.first().is_some_and(is_young) { &self.packets } else { &[] }
    }

    fn clear(&mut self) {
        (self.packets, self.bytes) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::forward::rewrite::tests::packet;

    fn came(numbers: &[(i64, bool, bool)], payload: &Bytes) -> (Recent, Instant) {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for (number, starts_keyframe, is_newest) in numbers {
            let payload = payload.clone();
            let packet = SourcePacket { starts_keyframe: *starts_keyframe, payload, ..packet(1, *number, start) };
            recent.add(&packet, *is_newest);
        }
        (recent, start)
    }

    fn numbers(recent: &Recent, now: Instant) -> Vec<i64> {
        recent.packets(now).iter().map(|packet| packet.number).collect()
    }

    #[test]
    fn it_is_all_since_the_last_keyframe_and_for_a_while_only() {
        let payload = Bytes::from_static(&[1]);
        let (recent, now) = came(&[(0, false, true), (1, true, true), (2, false, true)], &payload);
        assert_eq!(numbers(&recent, now), [1, 2]);
        assert_eq!(numbers(&recent, now + MOST_AGE), [1, 2]);
        assert!(numbers(&recent, now + MOST_AGE * 2).is_empty());
        let (recent, now) = came(&[(1, true, true), (2, false, true), (6, true, true), (7, false, true)], &payload);
        assert_eq!(numbers(&recent, now), [6, 7]);
        // Three packets are a picture of 33 ms.
        let (recent, now) = came(&[(0, true, true), (48, false, true), (49, false, true)], &payload);
        assert!(numbers(&recent, now).is_empty(), "it does not go on half");
    }

    #[test]
    fn a_keyframe_of_several_slices_begins_with_the_first() {
        let payload = Bytes::from_static(&[1]);
        let (recent, now) = came(&[(3, true, true), (4, true, true), (5, true, true)], &payload);
        assert_eq!(numbers(&recent, now), [3, 4, 5]);
        let (recent, now) = came(&[(3, true, false), (4, true, true), (5, true, true)], &payload);
        assert!(numbers(&recent, now).is_empty());
    }

    #[test]
    fn a_keyframe_whose_beginning_came_late_is_no_beginning() {
        let payload = Bytes::from_static(&[1]);
        let (recent, now) = came(&[(0, true, true), (4, false, true), (3, true, false), (5, false, true)], &payload);
        assert!(numbers(&recent, now).is_empty());
    }

    #[test]
    fn it_is_bounded_in_bytes_and_packets() {
        let large = Bytes::from(vec![0; MOST_BYTES / 2]);
        let (recent, now) = came(&[(0, true, true), (1, false, true)], &large);
        assert_eq!(numbers(&recent, now), [0, 1]);
        let (recent, now) = came(&[(0, true, true), (1, false, true), (2, false, true)], &large);
        assert!(numbers(&recent, now).is_empty());
        let mut recent = Recent::default();
        for number in 0..=MOST_PACKETS as i64 {
            recent.add(&SourcePacket { starts_keyframe: number == 0, ..packet(1, number % 3, now) }, true);
        }
        assert!(numbers(&recent, now).is_empty());
    }
}
