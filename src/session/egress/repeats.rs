//! How often a packet goes out again: as often as the peer asks at first, as repeated packets are lost too, then ever more
//! rarely. Pure.
//!
//! Peers ask on until they have it, some every 20 ms. Where packets take half a second, all that an outage has taken would go
//! twenty times before the first of them can have come, and fill the network as soon as it carries anything again.

use std::time::{Duration, Instant};

/// As long as that a packet is not repeated again: a second request is on its way before the first has an answer.
const PAUSE: Duration = Duration::from_millis(20);
/// Where packets take longer, it is this share of the round trip: more than one of four to be on their way at once helps little.
const SHARE: u32 = 4;
/// So often with that pause; then each is twice the one before.
const QUICK: u32 = 3;
/// Nobody asks for longer than what these make.
const MOST_DOUBLINGS: u32 = 8;

/// The repetitions of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeats {
    last: Option<Instant>,
    times: u32,
}

impl Repeats {
    /// Whether it goes out again now, to a peer that is so far away; it counts as sent.
    pub(super) fn take(&mut self, now: Instant, round_trip: Option<Duration>) -> bool {
        let pause = round_trip.map_or(PAUSE, |round_trip| PAUSE.max(round_trip / SHARE));
        let doublings = (self.times + 1).saturating_sub(QUICK).min(MOST_DOUBLINGS);
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < pause * (1 << doublings)) {
            return false;
        }
        (self.last, self.times) = (Some(now), self.times + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_asked_for_again_and_again_goes_quickly_at_first_and_then_ever_more_rarely() {
        assert_eq!(times(None), [0, 20, 40, 80, 160, 320, 640]);
    }

    #[test]
    fn as_many_are_on_their_way_at_once_wherever_the_peer_is() {
        assert_eq!(times(Some(Duration::from_millis(4)))[..3], [0, 20, 40]);
        assert_eq!(times(Some(Duration::from_millis(120)))[..3], [0, 30, 60]);
        assert_eq!(times(Some(Duration::from_millis(800))), [0, 200, 400, 800]);
    }

    /// When it goes out of a second in which it is asked for all the time.
    fn times(round_trip: Option<Duration>) -> Vec<u64> {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        (0..1000).step_by(10).filter(|ms| repeats.take(start + Duration::from_millis(*ms), round_trip)).collect()
    }
}
