//! How fast packets follow one another, so that a keyframe does not fill the network's queues at once. Pure.

use std::time::{Duration, Instant};

/// As libwebrtc's pacer: what an encoder makes varies around the estimate.
const FACTOR: f64 = 2.5;
/// A keyframe of 60 KB gets through in half a second whatever the estimate says.
const LEAST: f64 = 1_000_000.0;
/// Where nobody reports: 100 KB in 40 ms.
const UNKNOWN: f64 = 20_000_000.0;
/// Pictures of usual size go at once, which costs one turn of the connection instead of several.
const BURST: Duration = Duration::from_millis(10);
const LEAST_BURST: f64 = 12_000.0;
/// A turn of the connection costs as much as some packets.
const TICK: Duration = Duration::from_millis(5);

/// A bucket of bytes that may be sent.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    bytes: f64,
    filled: Option<Instant>,
}

impl Pacing {
    /// Fills up for the time that has passed at this estimate.
    pub(super) fn fill(&mut self, estimate: Option<u64>, now: Instant) {
        let rate = rate(estimate);
        let most = (rate * BURST.as_secs_f64()).max(LEAST_BURST);
        let elapsed = self.filled.map_or(Duration::from_secs(1), |filled| now.saturating_duration_since(filled));
        self.bytes = (self.bytes + rate * elapsed.as_secs_f64()).min(most);
        self.filled = Some(now);
    }

    /// Whether a packet may go now.
    pub(super) fn may_send(&self) -> bool {
        self.bytes > 0.0
    }

    /// A packet has gone, whether it might or not.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes -= bytes as f64;
    }

    /// When the next may go.
    pub(super) fn next(&self, estimate: Option<u64>, now: Instant) -> Instant {
        let wait = Duration::from_secs(1).mul_f64((-self.bytes / rate(estimate)).clamp(0.0, 10.0));
        now + wait.max(TICK)
    }
}

/// Bytes per second.
fn rate(estimate: Option<u64>) -> f64 {
    estimate.map_or(UNKNOWN, |estimate| (estimate as f64 * FACTOR).max(LEAST)) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long so many packets take.
    fn takes(packets: usize, estimate: Option<u64>) -> (Duration, usize) {
        let start = Instant::now();
        let (mut pacing, mut now, mut left, mut turns) = (Pacing::default(), start, packets, 0);
        loop {
            turns += 1;
            pacing.fill(estimate, now);
            while left > 0 && pacing.may_send() {
                pacing.sent(1200);
                left -= 1;
            }
            if left == 0 {
                return (now - start, turns);
            }
            now = pacing.next(estimate, now);
        }
    }

    #[test]
    fn a_usual_picture_goes_at_once_and_a_keyframe_is_spread() {
        assert_eq!(takes(8, Some(2_000_000)), (Duration::ZERO, 1));
        let (time, turns) = takes(60, Some(2_000_000));
        assert!((Duration::from_millis(70)..Duration::from_millis(130)).contains(&time), "{time:?}");
        assert!(turns <= 27, "{turns}");
        assert!(takes(60, None).0 < Duration::from_millis(40));
        assert!(takes(60, Some(100_000)).0 < Duration::from_millis(700), "however low the estimate");
    }
}
