//! When a peer has sent too much that came to nothing. Pure.
//!
//! The stack puts no bound to a message that never ends: as long as nothing else is readable it takes the next piece even
//! where its receive window is used up. What comes without any message coming of it is therefore counted.

/// Bytes of the connection's data without a message: more than the 512 largest ones that the stack keeps for a sink that
/// takes its time, so that a peer which is only held up is not taken for one that floods.
const MOST_UNFINISHED: u64 = 192 * 1024 * 1024;

/// Where nobody takes messages: setting a connection up, and some channels that are refused.
const MOST_UNWANTED: u64 = 1024 * 1024;

/// Bytes from one look to the next that keep an idle connection alive, for days on end.
const KEEPING_ALIVE: u64 = 16;

/// What has been seen when a message came last.
#[derive(Debug)]
pub(super) struct Burden {
    most: u64,
    messages: u64,
    came: u64,
    sent: u64,
}

impl Burden {
    /// Nothing so far. `are_wanted`: there is somebody who takes messages.
    pub(super) fn new(are_wanted: bool) -> Self {
        let most = if are_wanted { MOST_UNFINISHED } else { MOST_UNWANTED };
        Self { most, messages: 0, came: 0, sent: 0 }
    }

    /// Whether it is too much by now, by what has come of bytes and of messages so far, and by what has been sent, which the
    /// peer acknowledges. To be asked a few times a second.
    pub(super) fn is_too_much(&mut self, came: u64, messages: u64, sent: u64) -> bool {
        if messages != self.messages {
            (self.messages, self.came, self.sent) = (messages, came, sent);
        }
        self.came = came.min(self.came + KEEPING_ALIVE);
        came.saturating_sub(self.came) > self.most + sent.saturating_sub(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_never_ends_is_too_much_and_many_messages_are_not() {
        let mut burden = Burden::new(true);
        assert!(!burden.is_too_much(MOST_UNFINISHED, 0, 0));
        assert!(burden.is_too_much(MOST_UNFINISHED + 100, 0, 0));
        for second in 0..100 {
            assert!(!burden.is_too_much(second * MOST_UNFINISHED, second, 0), "{second}");
        }
        assert!(burden.is_too_much(101 * MOST_UNFINISHED, 99, 0));
    }

    #[test]
    fn who_wants_no_messages_bears_next_to_nothing() {
        let mut burden = Burden::new(false);
        assert!(!burden.is_too_much(MOST_UNWANTED, 0, 0));
        assert!(burden.is_too_much(MOST_UNWANTED + 100, 0, 0));
    }

    #[test]
    fn an_idle_connection_is_borne_for_ever() {
        let mut burden = Burden::new(false);
        // A heartbeat and what answers it every 30 s, for a month.
        for look in 0..30 * 24 * 3600 * 4 {
            assert!(!burden.is_too_much(look / 120 * 200, 0, 0), "{look}");
        }
    }

    #[test]
    fn acknowledgements_of_what_is_sent_are_no_burden() {
        let mut burden = Burden::new(true);
        for megabytes in 0..10_000 {
            assert!(!burden.is_too_much(megabytes << 15, 0, megabytes << 20));
        }
        assert!(burden.is_too_much((1000 << 20) + MOST_UNFINISHED, 0, 999 << 20), "telemetry excuses no flood");
    }
}
