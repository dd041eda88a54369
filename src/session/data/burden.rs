//! When a peer has sent more than is to be kept for it. Pure.
//!
//! The stack counts messages, not bytes: some hundred of each channel wait in it for a sink that takes its time, and it puts
//! no bound to a message that never ends. So what has come and what has been taken are held against each other, for all
//! channels together. What has come is known from the datagrams' lengths only, so a little more is taken off for each
//! message than it is long; what repetitions and heartbeats add wears off.

/// Bytes that may have come and not have been taken: a channel whose sink takes its time, with the 512 largest messages that
/// the stack keeps for it before the peer has to wait, and two more.
const MOST_HELD: u64 = 256 * 1024 * 1024;

/// Where nobody takes messages: setting a connection up, and some channels that are refused.
const MOST_UNWANTED: u64 = 1024 * 1024;

/// What wears off from one look to the next: it keeps an idle connection alive, for days on end.
const WEARS_OFF: u64 = 16;

/// What stands around a message, and the padding behind it (RFC 9260 section 3.3.1).
const AROUND_MESSAGE: u64 = 20;

/// Of a message's length: what it was repeated in vain.
const REPEATED: u64 = 64;

/// What has been seen at the last look.
#[derive(Debug)]
pub(super) struct Burden {
    most: u64,
    held: u64,
    seen: Seen,
}

/// What has been counted of a session so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Bytes that have come.
    pub(super) came: u64,
    /// Messages that a sink was given.
    pub(super) messages: u64,
    /// Bytes of these.
    pub(super) taken: u64,
    /// Bytes that were sent, which the peer acknowledges.
    pub(super) sent: u64,
}

impl Burden {
    /// Nothing so far. `are_wanted`: there is somebody who takes messages.
    pub(super) fn new(are_wanted: bool) -> Self {
        let most = if are_wanted { MOST_HELD } else { MOST_UNWANTED };
        Self { most, held: 0, seen: Seen::default() }
    }

    /// Whether it is too much by now. To be asked a few times a second.
    pub(super) fn is_too_much(&mut self, now: Seen) -> bool {
        let before = std::mem::replace(&mut self.seen, now);
        let came = now.came.saturating_sub(before.came);
        let taken = now.taken.saturating_sub(before.taken);
        let messages = now.messages.saturating_sub(before.messages);
        // Gaps in what is sent make acknowledgements longer, by a fraction of it.
        let acknowledged = now.sent.saturating_sub(before.sent) / REPEATED;
        let off = taken + taken / REPEATED + messages * AROUND_MESSAGE + acknowledged + WEARS_OFF;
        self.held = (self.held + came).saturating_sub(off);
        self.held > self.most
    }

    /// Bytes that have come and have not been taken, about.
    pub(super) fn held(&self) -> u64 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So much of each comes from now on.
    fn more(seen: &mut Seen, came: u64, messages: u64, taken: u64) -> Seen {
        (seen.came, seen.messages, seen.taken) = (seen.came + came, seen.messages + messages, seen.taken + taken);
        *seen
    }

    #[test]
    fn a_message_that_never_ends_is_too_much_and_many_that_are_taken_are_not() {
        let (mut burden, mut seen) = (Burden::new(true), Seen::default());
        assert!(!burden.is_too_much(more(&mut seen, MOST_HELD, 0, 0)));
        assert!(burden.is_too_much(more(&mut seen, 100, 0, 0)));
        let (mut burden, mut seen) = (Burden::new(true), Seen::default());
        for second in 0..10_000 {
            // Of 16 KiB, with what stands around each of their pieces, and one in a hundred repeated in vain.
            assert!(!burden.is_too_much(more(&mut seen, 66_300_000, 4000, 65_536_000)), "{second}");
        }
        assert!(burden.held() < MOST_HELD / 100, "{}", burden.held());
    }

    #[test]
    fn what_waits_for_a_slow_sink_is_bounded_for_all_channels_together_however_often_one_message_is_taken() {
        let (mut burden, mut seen) = (Burden::new(true), Seen::default());
        let looks = (0..).find(|_| burden.is_too_much(more(&mut seen, 1 << 20, 1, 256 << 10))).unwrap();
        let waits = seen.came - seen.taken;
        assert!(waits > MOST_HELD && waits < MOST_HELD + (8 << 20), "{waits} after {looks}");
    }

    #[test]
    fn what_was_held_up_is_no_burden_once_it_is_taken() {
        let (mut burden, mut seen) = (Burden::new(true), Seen::default());
        for _ in 0..100 {
            assert!(!burden.is_too_much(more(&mut seen, MOST_HELD - 1000, 0, 0)));
            assert!(!burden.is_too_much(more(&mut seen, 0, 500, MOST_HELD - 1000)));
            assert_eq!(burden.held(), 0);
        }
    }

    #[test]
    fn who_wants_no_messages_bears_next_to_nothing() {
        let (mut burden, mut seen) = (Burden::new(false), Seen::default());
        assert!(!burden.is_too_much(more(&mut seen, MOST_UNWANTED, 0, 0)));
        assert!(burden.is_too_much(more(&mut seen, 100, 0, 0)));
    }

    #[test]
    fn an_idle_connection_is_borne_for_ever() {
        let (mut burden, mut seen) = (Burden::new(false), Seen::default());
        // A heartbeat and what answers it every 30 s, for a month.
        for look in 0..30 * 24 * 3600 * 4 {
            let came = if look % 120 == 0 { 200 } else { 0 };
            assert!(!burden.is_too_much(more(&mut seen, came, 0, 0)), "{look}");
        }
    }

    #[test]
    fn acknowledgements_of_what_is_sent_are_no_burden_and_excuse_no_flood() {
        let (mut burden, mut seen) = (Burden::new(true), Seen::default());
        for _ in 0..10_000 {
            seen.sent += 1 << 20;
            assert!(!burden.is_too_much(more(&mut seen, 10_000, 0, 0)));
        }
        let flood = (0..).find(|_| {
            seen.sent += 1 << 20;
            burden.is_too_much(more(&mut seen, 1 << 20, 0, 0))
        });
        assert!(flood.is_some_and(|looks| looks < 300), "{flood:?}");
    }
}
