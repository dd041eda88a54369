//! Whether the peer still wants to be sent to (RFC 7675): pure policy, time is an argument.
//!
//! What says so is an answer to one of our checks that was made with the peer's password, and nothing else: media that comes
//! may be sent by somebody who does not know where it goes any more, and checks of the peer's own say that it wants to be
//! heard. The stack asks every second (its keepalive), but takes the peer's checks for a sign of life as well; so its own and
//! their answers are looked at on their way.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::checks::Transaction;

/// How long an answer is good for (RFC 7675 section 5.1).
pub(super) const LASTS: Duration = Duration::from_secs(30);
/// Checks whose answer counts: those of half a minute.
const MOST_ASKED: usize = 16;

/// One session's consent.
#[derive(Debug, Default)]
pub(super) struct Consent {
    asked: VecDeque<Transaction>,
    given: Option<Instant>,
}

impl Consent {
    /// A check goes to where media goes.
    pub(super) fn asked(&mut self, transaction: Transaction) {
        if self.asked.len() >= MOST_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back(transaction);
    }

    /// Whether this answers one of the checks, so that its integrity is worth looking at.
    pub(super) fn was_asked(&self, transaction: Transaction) -> bool {
        self.asked.contains(&transaction)
    }

    /// An answer whose integrity holds has come; each check can be answered once.
    pub(super) fn given(&mut self, transaction: Transaction, now: Instant) {
        self.asked.retain(|asked| *asked != transaction);
        self.given = Some(now);
    }

    /// Until when the last answer is good; `None` before the first.
    pub(super) fn until(&self) -> Option<Instant> {
        self.given.map(|given| given + LASTS)
    }

    /// ICE is restarted: what was asked before says nothing of the new credentials.
    pub(super) fn restart(&mut self) {
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_half_a_minute_and_each_check_has_one() {
        let (mut consent, start) = (Consent::default(), Instant::now());
        assert_eq!(consent.until(), None);
        consent.asked([1; 12]);
        assert!(consent.was_asked([1; 12]) && !consent.was_asked([2; 12]));
        consent.given([1; 12], start);
        assert_eq!(consent.until(), Some(start + LASTS));
        assert!(!consent.was_asked([1; 12]), "an answer that is sent again is none");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_restart_forgets_it() {
        let mut consent = Consent::default();
        (0..=255_u8).for_each(|number| consent.asked([number; 12]));
        let remembered = (0..=255_u8).filter(|number| consent.was_asked([*number; 12])).count();
        assert_eq!(remembered, MOST_ASKED);
        assert!(consent.was_asked([255; 12]), "the latest are");
        consent.restart();
        assert!(!consent.was_asked([255; 12]));
    }
}
