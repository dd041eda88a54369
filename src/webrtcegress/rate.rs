//! How many bits the encoder may make: what the viewers' networks carry. Pure; time is an argument.
//!
//! All viewers get one encoding, so the slowest decides, but not one that is hopeless: what it cannot take is left out for
//! it alone (its session drops to the next keyframe), and the others keep their picture. Down at once, since everything
//! that is sent too much waits in a queue; up by steps, as an estimate that rose may fall again.

use std::time::{Duration, Instant};

/// Less than this is no picture. A viewer whose network carries less does not count.
const LEAST: u32 = 150_000;
/// Of what is estimated: keyframes, repairs and packet headers are in there as well.
const SHARE: f64 = 0.85;
/// Changes below this are not worth an encoder's trouble.
const NOTABLE: f64 = 0.05;
/// Steps upwards: from 400 kbit/s to 2.5 Mbit/s in two seconds, if estimates follow.
const STEP: f64 = 1.5;
const STEP_PAUSE: Duration = Duration::from_millis(400);

/// The rate of the encoder, and how it came to be.
#[derive(Debug)]
pub(super) struct Rate {
    most: u32,
    current: u32,
    changed: Option<Instant>,
}

impl Rate {
    /// Begins with all that may be used.
    pub(super) fn new(most: u32) -> Self {
        Self { most, current: most, changed: None }
    }

    /// In bit/s.
    pub(super) fn current(&self) -> u32 {
        self.current
    }

    /// The upper bound, which the user may change at any time.
    pub(super) fn set_most(&mut self, most: u32) {
        self.most = most;
        self.current = most;
    }

    /// Decides anew. `estimates` are the viewers', `other` is what else goes to each.
    pub(super) fn decide(&mut self, estimates: &[Option<u64>], other: u32, now: Instant) -> u32 {
        let target = self.target(estimates, other);
        let (current, wanted) = (f64::from(self.current), f64::from(target));
        if wanted < current * (1.0 - NOTABLE) {
            (self.current, self.changed) = (target, Some(now));
        } else if wanted > current * (1.0 + NOTABLE) || (target == self.most && target > self.current) {
            let is_due = self.changed.is_none_or(|last| now.saturating_duration_since(last) >= STEP_PAUSE);
            if is_due {
                let next = (current * STEP).min(wanted) as u32;
                (self.current, self.changed) = (next.max(self.current.saturating_add(1)).min(target), Some(now));
            }
        }
        self.current
    }

    fn target(&self, estimates: &[Option<u64>], other: u32) -> u32 {
        let least = LEAST.min(self.most);
        let usable = |estimate: u64| (estimate as f64 * SHARE) as u64;
        let for_video = |estimate: &u64| usable(*estimate).saturating_sub(other.into());
        let known: Vec<u64> = estimates.iter().flatten().map(for_video).collect();
        match known.iter().copied().filter(|rate| *rate >= u64::from(least)).min() {
            Some(rate) => u32::try_from(rate).unwrap_or(u32::MAX).clamp(least, self.most),
            // Nobody can be helped by less; nobody says anything.
            None if known.is_empty() => self.most,
            None => least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn without_estimates_everything_is_used() {
        let (mut rate, now) = (Rate::new(2_500_000), Instant::now());
        assert_eq!(rate.decide(&[], 0, now), 2_500_000);
        assert_eq!(rate.decide(&[None, None], 0, now), 2_500_000);
    }

    #[test]
    fn the_slowest_viewer_decides_at_once() {
        let (mut rate, now) = (Rate::new(2_500_000), Instant::now());
        assert_eq!(rate.decide(&[Some(5_000_000), Some(1_000_000), None], 50_000, now), 800_000);
        assert_eq!(rate.decide(&[Some(5_000_000), Some(500_000)], 50_000, now + ms(1)), 375_000);
    }

    #[test]
    fn a_hopeless_viewer_spoils_nothing_for_the_others() {
        let (mut rate, now) = (Rate::new(2_500_000), Instant::now());
        assert_eq!(rate.decide(&[Some(5_000_000), Some(100_000)], 0, now), 2_500_000);
        assert_eq!(rate.decide(&[Some(100_000)], 0, now), LEAST, "alone it gets the least that is a picture");
    }

    #[test]
    fn up_again_within_ten_seconds_by_steps() {
        let (mut rate, now) = (Rate::new(2_500_000), Instant::now());
        rate.decide(&[Some(450_000)], 0, now);
        let (mut last, mut at) = (rate.current(), ms(0));
        while last < 2_500_000 {
            at += ms(100);
            let next = rate.decide(&[Some(4_000_000)], 0, now + at);
            assert!(f64::from(next) <= f64::from(last) * STEP + 1.0);
            last = next;
            assert!(at < ms(4000), "{last} after {at:?}");
        }
    }

    #[test]
    fn an_estimate_that_varies_a_little_changes_nothing() {
        let (mut rate, now) = (Rate::new(2_500_000), Instant::now());
        let steady = rate.decide(&[Some(1_000_000)], 0, now);
        for step in 0..50 {
            let estimate = if step % 2 == 0 { 980_000 } else { 1_030_000 };
            assert_eq!(rate.decide(&[Some(estimate)], 0, now + ms(400 * step)), steady);
        }
    }

    #[test]
    fn a_bound_below_the_least_is_kept_to() {
        let (mut rate, now) = (Rate::new(80_000), Instant::now());
        assert_eq!(rate.decide(&[Some(5_000_000)], 0, now), 80_000);
        rate.set_most(1_000_000);
        assert_eq!(rate.decide(&[], 0, now), 1_000_000);
    }
}
