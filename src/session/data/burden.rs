//! When a peer has sent too much that came to nothing. Pure.
//!
//! The stack puts no bound to a message that never ends: as long as nothing else is readable it takes the next piece even
//! where its receive window is used up. What comes without any message coming of it is therefore counted.

/// Bytes of the connection's data without a message: more than the 512 largest ones that the stack keeps for a sink that
/// takes its time, so that a peer which is only held up is not taken for one that floods.
const MOST_UNFINISHED: u64 = 192 * 1024 * 1024;

/// What has been seen when a message came last.
#[derive(Debug, Default)]
pub(super) struct Burden {
    messages: u64,
    came: u64,
    sent: u64,
}

impl Burden {
    /// Whether it is too much by now, by what has come of bytes and of messages so far, and by what has been sent, which the
    /// peer acknowledges.
    pub(super) fn is_too_much(&mut self, came: u64, messages: u64, sent: u64) -> bool {
        if messages != self.messages {
            *self = Self { messages, came, sent };
        }
        came.saturating_sub(self.came) > MOST_UNFINISHED + sent.saturating_sub(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_never_ends_is_too_much_and_many_messages_are_not() {
        let mut burden = Burden::default();
        assert!(!burden.is_too_much(MOST_UNFINISHED, 0, 0));
        assert!(burden.is_too_much(MOST_UNFINISHED + 1, 0, 0));
        for second in 0..100 {
            assert!(!burden.is_too_much(second * MOST_UNFINISHED, second, 0), "{second}");
        }
        assert!(burden.is_too_much(101 * MOST_UNFINISHED, 99, 0));
    }

    #[test]
    fn acknowledgements_of_what_is_sent_are_no_burden() {
        let mut burden = Burden::default();
        for megabytes in 0..10_000 {
            assert!(!burden.is_too_much(megabytes << 15, 0, megabytes << 20));
        }
        assert!(burden.is_too_much((1000 << 20) + MOST_UNFINISHED, 0, 999 << 20), "telemetry excuses no flood");
    }
}
