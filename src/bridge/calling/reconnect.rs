//! When a client tries again, when the stream is over for it, and when it gives up. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

use crate::{backoff::Backoff, signaling::client::Verdict};

/// Short enough that a publisher who comes is seen soon, long enough not to bother a server that waits for one.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);

/// With `on-disconnect=eos`, a stream that was live and cannot be had again for so long is over: a restart of the server
/// or an outage of the network is bridged, and a recording still ends by itself.
const OUTAGE: Duration = Duration::from_secs(30);

/// What has been lost is tried again at once no more often than that: two that take one place from each other, or a server
/// that puts us out as soon as we are in, would go round and round.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is no session.
    Failed(Verdict),
    /// There was one, and it is over.
    Ended {
        /// Whether any media came.
        had_media: bool,
    },
}

/// What to do then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again after this time.
    Retry(Duration),
    /// The stream is over.
    End,
    /// Trying again is of no use; somebody has to change something.
    Fail,
}

/// Remembers what matters between attempts.
#[derive(Debug)]
pub(super) struct Reconnect {
    backoff: Backoff,
    /// Whether the end of the stream is to be EOS, or something to wait for.
    eos: bool,
    /// Since when a stream that was live is missing.
    missing_since: Option<Instant>,
    /// When it was tried again at once last.
    at_once: Option<Instant>,
}

impl Reconnect {
    pub(super) fn new(eos: bool) -> Self {
        Self { backoff: Backoff::new(SHORTEST, LONGEST), eos, missing_since: None, at_once: None }
    }

    pub(super) fn next(&mut self, outcome: Outcome, now: Instant, random: f64) -> Next {
        let wish = match outcome {
            Outcome::Failed(Verdict::Final) => return Next::Fail,
            // The server knows of no such stream: it has not begun, or it is over.
            Outcome::Failed(Verdict::NoStream) if self.eos && self.missing_since.is_some() => return Next::End,
            Outcome::Failed(Verdict::NoStream) => None,
            Outcome::Failed(Verdict::Retry(wish)) => wish,
            Outcome::Ended { had_media: true } => {
                self.missing_since = Some(now);
                // What was lost is most likely the network's fault, or the server has just been restarted.
                if self.at_once.is_none_or(|last| now.saturating_duration_since(last) >= AT_ONCE) {
                    self.backoff.reset();
                    self.at_once = Some(now);
                    return Next::Retry(Duration::ZERO);
                }
                None
            }
            Outcome::Ended { had_media: false } => None,
        };
        let outage = self.missing_since.is_some_and(|since| now.saturating_duration_since(since) >= OUTAGE);
        if self.eos && outage {
            return Next::End;
        }
        Next::Retry(self.backoff.next_delay(random).max(wish.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_STREAM: Outcome = Outcome::Failed(Verdict::NoStream);
    const UNREACHABLE: Outcome = Outcome::Failed(Verdict::Retry(None));
    const LOST: Outcome = Outcome::Ended { had_media: true };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn before_it_was_live_a_stream_is_waited_for_without_end() {
        for eos in [false, true] {
            let (mut reconnect, start) = (Reconnect::new(eos), Instant::now());
            let delays: Vec<_> =
                (0..6).map(|i| reconnect.next(NO_STREAM, start + Duration::from_secs(3600 * i), 0.5)).collect();
            assert_eq!(delays, [500, 1000, 2000, 4000, 5000, 5000].map(|delay| Next::Retry(ms(delay))));
            assert_eq!(reconnect.next(UNREACHABLE, start, 0.5), Next::Retry(LONGEST));
        }
    }

    #[test]
    fn a_lost_session_is_tried_again_at_once_and_then_with_back_off() {
        let (mut reconnect, now) = (Reconnect::new(true), Instant::now());
        for _ in 0..5 {
            reconnect.next(UNREACHABLE, now, 0.5);
        }
        assert_eq!(reconnect.next(LOST, now, 0.5), Next::Retry(Duration::ZERO));
        assert_eq!(reconnect.next(UNREACHABLE, now, 0.5), Next::Retry(ms(500)));
        assert_eq!(reconnect.next(UNREACHABLE, now, 0.5), Next::Retry(ms(1000)));
    }

    #[test]
    fn what_is_lost_as_soon_as_it_is_there_is_tried_with_back_off() {
        let (mut reconnect, start) = (Reconnect::new(true), Instant::now());
        assert_eq!(reconnect.next(LOST, start, 0.5), Next::Retry(Duration::ZERO));
        // Each session lasts for as long as it takes to connect.
        let (mut now, mut sessions) = (start, 0);
        while now < start + Duration::from_secs(60) {
            let Next::Retry(after) = reconnect.next(LOST, now, 0.5) else { panic!("it may still come to last") };
            now += after + ms(50);
            sessions += 1;
        }
        assert!(sessions < 40, "{sessions} in a minute");
        let later = now + Duration::from_secs(3600);
        assert_eq!(reconnect.next(LOST, later, 0.5), Next::Retry(Duration::ZERO), "one that lasted");
        assert_eq!(reconnect.next(LOST, later + ms(50), 0.5), Next::Retry(ms(500)));
    }

    #[test]
    fn a_session_without_media_is_no_success() {
        let (mut reconnect, now) = (Reconnect::new(true), Instant::now());
        let empty = Outcome::Ended { had_media: false };
        assert_eq!(reconnect.next(empty, now, 0.5), Next::Retry(ms(500)));
        assert_eq!(reconnect.next(empty, now, 0.5), Next::Retry(ms(1000)));
        assert_eq!(reconnect.next(NO_STREAM, now, 0.5), Next::Retry(ms(2000)), "it was never live");
    }

    #[test]
    fn a_stream_that_was_live_and_is_no_more_has_ended() {
        let now = Instant::now();
        let after_live = |eos| {
            let mut reconnect = Reconnect::new(eos);
            reconnect.next(LOST, now, 0.5);
            reconnect.next(NO_STREAM, now, 0.5)
        };
        assert_eq!(after_live(true), Next::End);
        assert_eq!(after_live(false), Next::Retry(ms(500)), "on-disconnect=wait");
    }

    #[test]
    fn an_outage_is_bridged_for_30_seconds_or_for_ever() {
        let now = Instant::now();
        let after = |eos, seconds| {
            let mut reconnect = Reconnect::new(eos);
            reconnect.next(LOST, now, 0.5);
            reconnect.next(UNREACHABLE, now + Duration::from_secs(seconds), 0.5)
        };
        assert_eq!(after(true, 29), Next::Retry(ms(500)));
        assert_eq!(after(true, 30), Next::End);
        assert_eq!(after(false, 3600), Next::Retry(ms(500)));
    }

    #[test]
    fn a_new_session_ends_the_outage() {
        let (mut reconnect, now) = (Reconnect::new(true), Instant::now());
        reconnect.next(LOST, now, 0.5);
        let later = now + Duration::from_secs(60);
        reconnect.next(LOST, later, 0.5);
        assert_eq!(reconnect.next(UNREACHABLE, later + Duration::from_secs(29), 0.5), Next::Retry(ms(500)));
    }

    #[test]
    fn a_servers_wish_lengthens_the_wait_and_never_shortens_it() {
        let (mut reconnect, now) = (Reconnect::new(false), Instant::now());
        let wish = |seconds| Outcome::Failed(Verdict::Retry(Some(Duration::from_secs(seconds))));
        assert_eq!(reconnect.next(wish(7), now, 0.5), Next::Retry(ms(7000)));
        assert_eq!(reconnect.next(wish(0), now, 0.5), Next::Retry(ms(1000)));
    }

    #[test]
    fn what_only_a_person_can_change_is_not_tried_again() {
        assert_eq!(Reconnect::new(false).next(Outcome::Failed(Verdict::Final), Instant::now(), 0.5), Next::Fail);
    }
}
