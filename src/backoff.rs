//! Capped exponential back-off with jitter. Pure: the caller brings the randomness and does the waiting.

use std::time::Duration;

/// How far jitter shortens or lengthens a delay: a fifth keeps many bridges that lost one server from coming back in
/// step, and still lets a person predict the next attempt.
const JITTER: f64 = 0.2;

/// Trying again at once, and again, would be a busy loop.
pub const FLOOR: Duration = Duration::from_millis(50);

/// The delays between attempts: `min`, then twice as long each time, up to `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// A back-off between `min` and `max`, which are at least [`FLOOR`]; a `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(FLOOR);
        Self { min, max: max.max(min), attempt: 0 }
    }

    /// The next delay. `random` is from 0 to 1; 0.5 gives the delay without jitter.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        // 2^20 times any delay worth naming is above any cap, so the shift never overflows.
        let doubled = self.min.saturating_mul(1 << self.attempt.min(20)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        let jitter = 1.0 + JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        doubled.mul_f64(jitter).min(self.max)
    }

    /// Starts over with `min`: the last attempt has proven itself.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn no_delay_is_still_one() {
        assert_eq!(Backoff::new(ms(0), ms(0)).next_delay(0.5), FLOOR);
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut backoff = Backoff::new(ms(500), ms(5000));
        let delays: Vec<_> = (0..6).map(|_| backoff.next_delay(0.5)).collect();
        assert_eq!(delays, [ms(500), ms(1000), ms(2000), ms(4000), ms(5000), ms(5000)]);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_below_the_cap() {
        assert_eq!(Backoff::new(ms(500), ms(5000)).next_delay(0.0), ms(400));
        assert_eq!(Backoff::new(ms(500), ms(5000)).next_delay(1.0), ms(600));
        assert_eq!(Backoff::new(ms(500), ms(500)).next_delay(1.0), ms(500));
    }

    #[test]
    fn reset_starts_over() {
        let mut backoff = Backoff::new(ms(100), ms(5000));
        backoff.next_delay(0.5);
        backoff.next_delay(0.5);
        backoff.reset();
        assert_eq!(backoff.next_delay(0.5), ms(100));
    }

    #[test]
    fn hundreds_of_attempts_do_not_overflow() {
        let mut backoff = Backoff::new(ms(500), ms(5000));
        assert!((0..500).all(|_| backoff.next_delay(1.0) <= ms(5000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_set_and_rolled_a_delay_is_between_the_least_and_the_cap(
            min in 0..100_000_u64,
            max in 0..1_000_000_u64,
            rolls in prop::collection::vec(-1.0..2.0_f64, 1..60),
        ) {
            let (least, cap) = (ms(min).max(FLOOR), ms(max).max(ms(min)).max(FLOOR));
            let mut backoff = Backoff::new(ms(min), ms(max));
            for roll in rolls {
                let delay = backoff.next_delay(roll);
                prop_assert!(delay >= least.mul_f64(1.0 - JITTER - 1e-9) && delay <= cap, "{delay:?} of {least:?} to {cap:?}");
            }
        }

        #[test]
        fn without_jitter_no_delay_is_shorter_than_the_one_before_and_the_first_comes_again_after_a_reset(
            min in 0..100_000_u64,
            max in 0..1_000_000_u64,
            attempts in 1..200_usize,
        ) {
            let mut backoff = Backoff::new(ms(min), ms(max));
            let delays: Vec<_> = (0..attempts).map(|_| backoff.next_delay(0.5)).collect();
            prop_assert!(delays.is_sorted(), "{:?}", delays);
            prop_assert!(delays.windows(2).all(|pair| pair[1] <= pair[0] * 2));
            backoff.reset();
            prop_assert_eq!(backoff.next_delay(0.5), delays[0]);
        }
    }
}
