//! What follows a failure: another attempt, or the end. Pure.

use std::time::{Duration, Instant};

use super::Failure;
use crate::backoff::Backoff;

/// A connection that lived this long has proven itself: the next failure is a new outage and starts the delays over.
/// One that dies sooner was accepted and thrown out, as servers do that check the key late; those must not be hammered.
const PROVEN: Duration = Duration::from_secs(3);

/// A server that lost sight of us may hold our old connection, and refuse the new one as a second publisher, until its own
/// timeout: up to a minute by default with common servers. A refusal counts against max-retries only after this time.
const OLD_CONNECTION_HELD: Duration = Duration::from_secs(120);

/// What follows a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after so long.
    Retry(Duration),
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
    outage_since: Option<Instant>,
    ever_live: bool,
}

impl Retry {
    /// `max_retries` of `None`: no limit. `was_live`: the server has taken this very stream before.
    pub fn new(backoff: Backoff, max_retries: Option<u32>, was_live: bool) -> Self {
        Self { backoff, max_retries, failures: 0, outage_since: None, ever_live: was_live }
    }

    /// `live_for` is how long the failed connection had been live, if it was; `random` is from 0 to 1.
    pub fn decide(&mut self, failure: &Failure, live_for: Option<Duration>, now: Instant, random: f64) -> Decision {
        self.ever_live |= live_for.is_some();
        if live_for.is_some_and(|live_for| live_for >= PROVEN) {
            self.failures = 0;
            self.outage_since = None;
            self.backoff.reset();
        }
        self.failures += 1;
        let outage_since = *self.outage_since.get_or_insert(now);
        let refused = matches!(failure, Failure::Refused(_));
        if refused && !self.ever_live {
            return Decision::Refused;
        }
        let may_be_held = refused && now.duration_since(outage_since) < OLD_CONNECTION_HELD;
        if !may_be_held && self.max_retries.is_some_and(|max| self.failures > max) {
            return Decision::GiveUp;
        }
        Decision::Retry(self.backoff.next_delay(random))
    }

    /// Whether the last failure began an outage, so that the user has to be told.
    pub fn is_first(&self) -> bool {
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(60));
    const SHORT: Option<Duration> = Some(Duration::from_millis(5));

    fn retry(max: Option<u32>) -> Retry {
        Retry::new(Backoff::new(Duration::from_millis(500), Duration::from_secs(5)), max, false)
    }

    /// The decision at the beginning of time, and whether it began an outage.
    fn decide(retry: &mut Retry, failure: &Failure, live_for: Option<Duration>) -> (Decision, bool) {
        let decision = retry.decide(failure, live_for, Instant::now(), 0.5);
        (decision, retry.is_first())
    }

    fn again(ms: u64, first: bool) -> (Decision, bool) {
        (Decision::Retry(Duration::from_millis(ms)), first)
    }

    fn refused() -> Failure {
        Failure::Refused("no".into())
    }

    #[test]
    fn only_the_first_failure_of_an_outage_is_told() {
        let mut retry = retry(None);
        assert_eq!(decide(&mut retry, &Failure::Unreachable, None), again(500, true));
        assert_eq!(decide(&mut retry, &Failure::Unreachable, None), again(1000, false));
        assert_eq!(decide(&mut retry, &Failure::Lost, LONG), again(500, true));
    }

    #[test]
    fn connection_thrown_out_at_once_does_not_reset_the_delays() {
        let mut retry = retry(None);
        assert_eq!(decide(&mut retry, &Failure::Lost, SHORT), again(500, true));
        assert_eq!(decide(&mut retry, &Failure::Lost, SHORT), again(1000, false));
    }

    #[test]
    fn refusal_is_final_only_when_never_live() {
        assert_eq!(decide(&mut retry(None), &refused(), None), (Decision::Refused, true));
        let mut retry = retry(None);
        decide(&mut retry, &Failure::Lost, LONG);
        assert_eq!(decide(&mut retry, &refused(), None), again(1000, false));
        let mut retry = self::retry(None);
        decide(&mut retry, &Failure::Lost, SHORT);
        assert_eq!(decide(&mut retry, &refused(), None), again(1000, false), "however short it was");
        let mut retry = Retry::new(Backoff::new(Duration::from_millis(500), Duration::from_secs(5)), None, true);
        assert_eq!(
            decide(&mut retry, &refused(), None),
            again(500, true),
            "live before it was taken away and added again"
        );
    }

    #[test]
    fn refusal_after_live_is_retried_for_two_minutes_whatever_max_retries_says() {
        let start = Instant::now();
        let mut retry = retry(Some(1));
        retry.decide(&Failure::Lost, LONG, start, 0.5);
        for seconds in 1..120 {
            let decision = retry.decide(&refused(), None, start + Duration::from_secs(seconds), 0.5);
            assert!(matches!(decision, Decision::Retry(_)), "after {seconds} s: {decision:?}");
        }
        let late = start + Duration::from_secs(120);
        assert_eq!(retry.decide(&refused(), None, late, 0.5), Decision::GiveUp);
        // A later outage has its own two minutes.
        retry.decide(&Failure::Lost, LONG, late, 0.5);
        assert_ne!(retry.decide(&refused(), None, late + Duration::from_secs(119), 0.5), Decision::GiveUp);
    }

    #[test]
    fn max_retries_counts_retries_not_attempts() {
        let mut retry = retry(Some(1));
        assert_eq!(decide(&mut retry, &Failure::Unreachable, None), again(500, true));
        assert_eq!(decide(&mut retry, &Failure::Unreachable, None), (Decision::GiveUp, false));
        assert_eq!(decide(&mut self::retry(Some(0)), &Failure::Unreachable, None), (Decision::GiveUp, true));
    }
}
