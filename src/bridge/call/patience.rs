//! When a call is tried again, and when it is over. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, signaling::client::Verdict};

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// Where the end of the stream ends everything: how long a connection that was lost is waited for.
const OUTAGE: Duration = Duration::from_secs(30);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again after this time.
    Retry(Duration),
    /// It is over.
    End,
    /// Trying again is of no use; somebody has to change something.
    Fail,
}

/// Remembers what matters between attempts.
#[derive(Debug)]
pub(super) struct Patience {
    backoff: Backoff,
    /// Whether it is over when the other one goes.
    ends: bool,
    /// Since when media that came is missing.
    missing: Option<Instant>,
}

impl Patience {
    pub(super) fn new(ends: bool) -> Self {
        Self { backoff: Backoff::new(SHORTEST, LONGEST), ends, missing: None }
    }

    /// The connection is there.
    pub(super) fn connected(&mut self) {
        self.backoff.reset();
        self.missing = None;
    }

    /// The signaling server could not be reached, does not let us in, or does not answer any more.
    pub(super) fn failed(&mut self, verdict: Verdict, now: Instant, random: f64) -> Next {
        match verdict {
            Verdict::Final => Next::Fail,
            Verdict::NoStream => self.again(None, now, random),
            Verdict::Retry(wish) => self.again(wish, now, random),
        }
    }

    /// A connection to the other one is over: because he went, or it was lost.
    pub(super) fn ended(&mut self, had_media: bool, went: bool, now: Instant, random: f64) -> Next {
        if had_media && went && self.ends {
            return Next::End;
        }
        if had_media {
            self.missing = Some(now);
        }
        self.again(None, now, random)
    }

    /// When waiting for what was lost is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.missing.filter(|_| self.ends).map(|since| since + OUTAGE)
    }

    fn again(&mut self, wish: Option<Duration>, now: Instant, random: f64) -> Next {
        match self.deadline() {
            Some(deadline) if now >= deadline => Next::End,
            _ => Next::Retry(self.backoff.next_delay(random).max(wish.unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partner_who_goes_ends_it_or_is_waited_for() {
        let now = Instant::now();
        assert_eq!(Patience::new(true).ended(true, true, now, 0.5), Next::End);
        assert_eq!(Patience::new(true).ended(false, true, now, 0.5), Next::Retry(SHORTEST), "nothing has begun");
        let mut waiting = Patience::new(false);
        assert_eq!(waiting.ended(true, true, now, 0.5), Next::Retry(SHORTEST));
        assert_eq!(waiting.deadline(), None);
    }

    #[test]
    fn what_was_lost_is_waited_for_30_seconds() {
        let (now, mut patience) = (Instant::now(), Patience::new(true));
        assert_eq!(patience.ended(true, false, now, 0.5), Next::Retry(SHORTEST));
        assert_eq!(patience.deadline(), Some(now + OUTAGE));
        let early = now + OUTAGE - Duration::from_millis(1);
        assert!(matches!(patience.failed(Verdict::Retry(None), early, 0.5), Next::Retry(_)));
        assert_eq!(patience.failed(Verdict::Retry(None), now + OUTAGE, 0.5), Next::End);
        patience.connected();
        assert_eq!(patience.deadline(), None);
    }

    #[test]
    fn a_server_is_called_ever_more_slowly_and_a_mistake_is_not_repeated() {
        let (now, mut patience) = (Instant::now(), Patience::new(true));
        let mut next = |verdict| patience.failed(verdict, now, 0.5);
        assert_eq!(next(Verdict::Retry(None)), Next::Retry(Duration::from_millis(500)));
        assert_eq!(next(Verdict::NoStream), Next::Retry(Duration::from_secs(1)));
        assert_eq!(next(Verdict::Retry(Some(Duration::from_secs(9)))), Next::Retry(Duration::from_secs(9)));
        assert_eq!(next(Verdict::Final), Next::Fail);
    }
}
