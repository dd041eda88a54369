//! Whether an encoder still answers: frames go in, and some have to come out. Pure.

use std::time::{Duration, Instant};

/// With this many frames in and none out for so long it is stuck. Encoders may look ahead: x264enc's longest default
/// holds some 60 frames back.
const FRAMES: u32 = 90;
const TIME: Duration = Duration::from_secs(3);
/// The same for input of few frames a second.
const FEW_FRAMES: u32 = 10;
const LONG_TIME: Duration = Duration::from_secs(10);
/// No frame taken, with three waiting, for so long.
const BLOCKED: Duration = Duration::from_secs(5);

/// Counts what an encoder owes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    owed: u32,
    since: Option<Instant>,
    /// What is behind it holds it up: a clock, a paused pipeline. Not its fault.
    held_up: bool,
}

impl Watch {
    /// A frame is offered to it, whether or not it has room.
    pub(super) fn frame_in(&mut self, now: Instant) {
        self.owed = self.owed.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// A frame comes out, and goes downstream for as long as that takes.
    pub(super) fn frame_out(&mut self) {
        *self = Self { held_up: true, ..Self::default() };
    }

    /// Downstream has taken it; what came in meanwhile could not be answered.
    pub(super) fn frame_gone(&mut self) {
        *self = Self::default();
    }

    /// Whether what is behind it holds it up at present.
    pub(super) fn is_held_up(&self) -> bool {
        self.held_up
    }

    /// Whether it has to be given up. `blocked` is for how long it has taken no frame.
    pub(super) fn is_stuck(&self, now: Instant, blocked: Duration) -> bool {
        let waited = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let owes = |frames, time| self.owed >= frames && waited >= time;
        !self.held_up && (owes(FRAMES, TIME) || owes(FEW_FRAMES, LONG_TIME) || blocked >= BLOCKED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers frames at a rate; the time in ms after which the encoder is stuck.
    fn stuck_after(frame_ms: u64, until_ms: u64, mut watch: Watch) -> Option<u64> {
        let start = Instant::now();
        (0..until_ms / frame_ms).map(|frame| frame * frame_ms).find(|ms| {
            let now = start + Duration::from_millis(*ms);
            watch.frame_in(now);
            watch.is_stuck(now, Duration::ZERO)
        })
    }

    #[test]
    fn silence_counts_by_frames_and_by_time() {
        assert_eq!(stuck_after(33, 20_000, Watch::default()), Some(3003));
        assert_eq!(stuck_after(16, 20_000, Watch::default()), Some(3008));
        assert_eq!(stuck_after(500, 20_000, Watch::default()), Some(10_000));
        // One frame in five seconds, each of which could still come out.
        assert_eq!(stuck_after(5000, 40_000, Watch::default()), None);
    }

    #[test]
    fn a_frame_that_comes_out_settles_all() {
        let (start, mut watch) = (Instant::now(), Watch::default());
        for ms in (0..60_000).step_by(33) {
            let now = start + Duration::from_millis(ms);
            watch.frame_in(now);
            assert!(!watch.is_stuck(now, Duration::ZERO));
            if ms % 2 == 0 {
                watch.frame_out();
                watch.frame_gone();
            }
        }
    }

    #[test]
    fn what_is_behind_it_may_take_its_time() {
        let mut watch = Watch::default();
        watch.frame_out();
        let since = Instant::now();
        for ms in (0..20_000).step_by(33) {
            let now = since + Duration::from_millis(ms);
            watch.frame_in(now);
            assert!(watch.is_held_up() && !watch.is_stuck(now, Duration::ZERO));
        }
        watch.frame_gone();
        assert_eq!(stuck_after(33, 20_000, watch), Some(3003));
    }

    #[test]
    fn taking_no_frame_is_as_bad() {
        let watch = Watch::default();
        assert!(!watch.is_stuck(Instant::now(), Duration::from_secs(4)));
        assert!(watch.is_stuck(Instant::now(), Duration::from_secs(5)));
    }
}
