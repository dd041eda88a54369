//! How often one viewer may have its publisher make a keyframe. Pure.
//!
//! A keyframe costs every other viewer picture quality, so that one that asks all the time must not get all that it asks for.
//! What is asked for too early is not forgotten: it is due later, unless a keyframe has come by then.

use std::time::{Duration, Instant};

/// So many one after the other: who joins on a bad network may need some.
const AT_ONCE: u32 = 4;
/// One more after so much time.
const REGAINED: Duration = Duration::from_secs(2);

/// What one viewer wants of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    is_open: bool,
    /// Of what may be had at once, and since when one is being regained.
    spent: u32,
    since: Option<Instant>,
}

impl Wish {
    /// It needs a keyframe.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// It has got one.
    pub(super) fn fulfilled(&mut self) {
        self.is_open = false;
    }

    /// Whether to ask for one now; then that is done.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if !self.is_open {
            return false;
        }
        while let Some(regained) = self.since.map(|since| since + REGAINED).filter(|at| self.spent > 0 && *at <= now) {
            (self.spent, self.since) = (self.spent - 1, Some(regained));
        }
        if self.spent >= AT_ONCE {
            return false;
        }
        if self.spent == 0 {
            self.since = Some(now);
        }
        self.spent += 1;
        self.is_open = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_all_the_time_gets_one_now_and_then() {
        let (mut wish, start) = (Wish::default(), Instant::now());
        let asked = |step: &u32| {
            wish.open();
            wish.is_due(start + Duration::from_millis(10) * *step)
        };
        let times: Vec<u32> = (0..6000).filter(asked).collect();
        assert_eq!(times[..6], [0, 1, 2, 3, 200, 400]);
        assert_eq!(times.len(), AT_ONCE as usize + 29);
    }

    #[test]
    fn what_was_too_early_is_due_later_unless_it_has_come() {
        let (mut wish, start) = (Wish::default(), Instant::now());
        for _ in 0..AT_ONCE {
            wish.open();
            assert!(wish.is_due(start));
        }
        assert!(!wish.is_due(start), "it does not want any");
        wish.open();
        assert!(!wish.is_due(start + REGAINED / 2));
        assert!(wish.is_due(start + REGAINED));
        wish.open();
        wish.fulfilled();
        assert!(!wish.is_due(start + REGAINED * 2));
        wish.open();
        let later = start + Duration::from_secs(3600);
        assert!(wish.is_due(later), "a long time makes good");
        assert_eq!((wish.spent, wish.since), (1, Some(later)));
    }
}
