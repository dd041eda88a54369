//! What follows a failure: another attempt, or the end. Pure.

use std::time::Duration;

use super::Failure;
use crate::backoff::Backoff;

/// A connection that lived this long has proven itself: the next failure is a new outage and starts the delays over.
/// One that dies sooner was accepted and thrown out, as servers do that check the key late; those must not be hammered.
const PROVEN: Duration = Duration::from_secs(3);

/// What follows a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after the delay; `first` in this outage, so tell the user.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Whether this is the outage's first failure.
        first: bool,
    },
    /// The server said no to a destination that was never live: another attempt would only repeat it.
    Refused,
    /// max-retries is used up.
    GiveUp,
}

/// Counts failures and decides.
#[derive(Debug)]
pub struct Retry {
    backoff: Backoff,
    max_retries: Option<u32>,
    failures: u32,
    ever_live: bool,
}

impl Retry {
    /// `max_retries` of `None`: no limit.
    pub fn new(backoff: Backoff, max_retries: Option<u32>) -> Self {
        Self { backoff, max_retries, failures: 0, ever_live: false }
    }

    /// `live_for` is how long the failed connection had been live, if it was; `random` is from 0 to 1.
    pub fn decide(&mut self, failure: &Failure, live_for: Option<Duration>, random: f64) -> Decision {
        self.ever_live |= live_for.is_some();
        if live_for.is_some_and(|live_for| live_for >= PROVEN) {
            self.failures = 0;
            self.backoff.reset();
        }
        self.failures += 1;
        // After a connection was live the server may still hold it and refuse the new one for minutes: that is not final.
        if matches!(failure, Failure::Refused(_)) && !self.ever_live {
            return Decision::Refused;
        }
        if self.max_retries.is_some_and(|max| self.failures > max) {
            return Decision::GiveUp;
        }
        Decision::Retry { after: self.backoff.next_delay(random), first: self.failures == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(max: Option<u32>) -> Retry {
        Retry::new(Backoff::new(Duration::from_millis(500), Duration::from_secs(5)), max)
    }

    fn again(ms: u64, first: bool) -> Decision {
        Decision::Retry { after: Duration::from_millis(ms), first }
    }

    #[test]
    fn only_the_first_failure_of_an_outage_is_told() {
        let mut retry = retry(None);
        assert_eq!(retry.decide(&Failure::Unreachable, None, 0.5), again(500, true));
        assert_eq!(retry.decide(&Failure::Unreachable, None, 0.5), again(1000, false));
        assert_eq!(retry.decide(&Failure::Lost, Some(Duration::from_secs(60)), 0.5), again(500, true));
    }

    #[test]
    fn connection_thrown_out_at_once_does_not_reset_the_delays() {
        let mut retry = retry(None);
        assert_eq!(retry.decide(&Failure::Lost, Some(Duration::from_millis(5)), 0.5), again(500, true));
        assert_eq!(retry.decide(&Failure::Lost, Some(Duration::from_millis(5)), 0.5), again(1000, false));
    }

    #[test]
    fn refusal_is_final_only_when_never_live() {
        let refused = Failure::Refused("no".into());
        assert_eq!(retry(None).decide(&refused, None, 0.5), Decision::Refused);
        let mut retry = retry(None);
        retry.decide(&Failure::Lost, Some(Duration::from_secs(60)), 0.5);
        assert_eq!(retry.decide(&refused, None, 0.5), again(1000, false));
        let mut retry = self::retry(None);
        retry.decide(&Failure::Lost, Some(Duration::from_millis(5)), 0.5);
        assert_eq!(retry.decide(&refused, None, 0.5), again(1000, false), "however short it was");
    }

    #[test]
    fn max_retries_counts_retries_not_attempts() {
        let mut retry = retry(Some(1));
        assert_eq!(retry.decide(&Failure::Unreachable, None, 0.5), again(500, true));
        assert_eq!(retry.decide(&Failure::Unreachable, None, 0.5), Decision::GiveUp);
        assert_eq!(self::retry(Some(0)).decide(&Failure::Unreachable, None, 0.5), Decision::GiveUp);
    }
}
