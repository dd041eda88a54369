//! Decides for each unit whether a connected destination gets it. Pure.
//!
//! A connection opens at a keyframe, because no player can begin elsewhere, and closes when it lags too far: then whole
//! groups of pictures are left out, never half a one.

use std::time::{Duration, Instant};

use super::{Track, Tracks};

/// How long audio waits for the video of a linked pad before it goes on alone.
const VIDEO_GRACE_NS: i64 = 2_000_000_000;
/// A closed gate opens again once the backlog has drained to this part of the limit, but at most to this much of it.
/// Opening at the limit itself would keep the viewer that far behind for ever.
const REOPEN_PART: i64 = 4;
const REOPEN_MOST_NS: i64 = 250_000_000;
/// A lag that a viewer notices. After a stall it has to go, also when the uplink is too slow to make up for it.
const LATE_NS: i64 = 500_000_000;
/// Lateness that lasts for so much longer than a stall may, which is the limit itself, is no stall: it stays.
const LATE_BEYOND_LIMIT: Duration = Duration::from_secs(1);

/// The gate's answer for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it out.
    Drop,
    /// Leave it out, and ask for a keyframe.
    DropAndAsk,
    /// Send it. The connection's timestamps count from `base` (ns of running time).
    Pass {
        /// Decoding time of the unit that opened the connection.
        base: i64,
    },
}

/// How far a connection lags, and when that was found.
#[derive(Clone, Copy, Debug)]
pub struct Lag {
    /// How long the oldest queued unit has been waiting.
    pub ns: i64,
    /// The wall clock then.
    pub now: Instant,
}

/// The gate of one connection.
#[derive(Debug)]
pub struct Gate {
    max_lag_ns: i64,
    state: State,
    /// Since when the connection has been late without a break.
    late_since: Option<Instant>,
    /// Decoding time of the first audio unit since the last video unit: how long video has been missing.
    audio_alone_since: Option<i64>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Open { base: i64, video: bool },
    Behind { base: i64 },
}

impl Gate {
    /// A gate that lets a connection lag by `max_lag_ns`.
    pub fn new(max_lag_ns: i64) -> Self {
        Self { max_lag_ns, state: State::Waiting, late_since: None, audio_alone_since: None }
    }

    /// Whether nothing has been sent yet.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether the connection waits for its first unit, or for room.
    pub fn is_closed(&self) -> bool {
        !matches!(self.state, State::Open { .. })
    }

    /// Decides for the next unit. `lag` is how long the oldest queued one has been waiting.
    pub fn decide(&mut self, track: Track, dts: i64, keyframe: bool, tracks: Tracks, lag: Lag) -> Verdict {
        let video_missing = match track {
            Track::Video => {
                self.audio_alone_since = None;
                false
            }
            Track::Audio => !tracks.video || dts - *self.audio_alone_since.get_or_insert(dts) >= VIDEO_GRACE_NS,
        };
        let lags_too_far = self.lags_too_far(lag);
        match self.state {
            State::Open { base, .. } if lags_too_far => {
                self.state = State::Behind { base };
                self.late_since = None;
                Verdict::Drop
            }
            State::Open { base, video } => match track {
                Track::Video if video || keyframe => {
                    self.state = State::Open { base, video: true };
                    Verdict::Pass { base }
                }
                Track::Video => Verdict::DropAndAsk,
                // Older than the keyframe that opened the connection: there is no time below zero.
                Track::Audio if dts < base => Verdict::Drop,
                Track::Audio => Verdict::Pass { base },
            },
            State::Behind { .. } if lag.ns > (self.max_lag_ns / REOPEN_PART).min(REOPEN_MOST_NS) => Verdict::Drop,
            State::Behind { base } => self.open(base, track, keyframe, video_missing),
            State::Waiting => self.open(dts, track, keyframe, video_missing),
        }
    }

    fn lags_too_far(&mut self, lag: Lag) -> bool {
        if lag.ns <= LATE_NS {
            self.late_since = None;
            return lag.ns > self.max_lag_ns;
        }
        let late_for = lag.now.duration_since(*self.late_since.get_or_insert(lag.now));
        let longest = Duration::from_nanos(self.max_lag_ns.max(0).unsigned_abs()).saturating_add(LATE_BEYOND_LIMIT);
        lag.ns > self.max_lag_ns || late_for > longest
    }

    fn open(&mut self, base: i64, track: Track, keyframe: bool, video_missing: bool) -> Verdict {
        let opens = match track {
            Track::Video => keyframe,
            Track::Audio => video_missing,
        };
        if opens {
            self.state = State::Open { base, video: track == Track::Video };
            return Verdict::Pass { base };
        }
        if track == Track::Video { Verdict::DropAndAsk } else { Verdict::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const BOTH: Tracks = Tracks { video: true, audio: true };

    fn gate() -> Gate {
        Gate::new(3000 * MS)
    }

    /// Time on the wall does not pass where a test has nothing to say about it.
    fn lag(ms: i64) -> Lag {
        Lag { ns: ms * MS, now: Instant::now() }
    }

    fn video(gate: &mut Gate, at_ms: i64, keyframe: bool, lag_ms: i64) -> Verdict {
        gate.decide(Track::Video, at_ms * MS, keyframe, BOTH, lag(lag_ms))
    }

    fn audio(gate: &mut Gate, at_ms: i64, tracks: Tracks, lag_ms: i64) -> Verdict {
        gate.decide(Track::Audio, at_ms * MS, true, tracks, lag(lag_ms))
    }

    fn pass(base_ms: i64) -> Verdict {
        Verdict::Pass { base: base_ms * MS }
    }

    #[test]
    fn opens_at_a_keyframe_and_counts_from_it() {
        let mut gate = gate();
        assert_eq!(video(&mut gate, 100, false, 0), Verdict::DropAndAsk);
        assert_eq!(audio(&mut gate, 110, BOTH, 0), Verdict::Drop);
        assert_eq!(video(&mut gate, 133, true, 0), pass(133));
        assert_eq!(audio(&mut gate, 120, BOTH, 0), Verdict::Drop);
        assert_eq!(audio(&mut gate, 140, BOTH, 0), pass(133));
        assert_eq!(video(&mut gate, 166, false, 0), pass(133));
    }

    #[test]
    fn audio_opens_alone_when_there_is_no_video_pad() {
        let tracks = Tracks { video: false, audio: true };
        assert_eq!(audio(&mut gate(), 500, tracks, 0), pass(500));
    }

    #[test]
    fn audio_goes_on_alone_after_two_seconds_and_video_joins_at_a_keyframe() {
        let mut gate = gate();
        assert_eq!(audio(&mut gate, 0, BOTH, 0), Verdict::Drop);
        assert_eq!(audio(&mut gate, 1999, BOTH, 0), Verdict::Drop);
        assert_eq!(audio(&mut gate, 2000, BOTH, 0), pass(2000));
        assert_eq!(video(&mut gate, 3000, false, 0), Verdict::DropAndAsk);
        assert_eq!(video(&mut gate, 3033, true, 0), pass(2000));
        assert_eq!(video(&mut gate, 3066, false, 0), pass(2000));
    }

    #[test]
    fn video_without_keyframe_keeps_audio_waiting() {
        let mut gate = gate();
        for at in (0..4000).step_by(20) {
            assert_eq!(audio(&mut gate, at, BOTH, 0), Verdict::Drop);
            assert_eq!(video(&mut gate, at, false, 0), Verdict::DropAndAsk);
        }
    }

    #[test]
    fn too_much_backlog_leaves_out_whole_groups_of_pictures() {
        let mut gate = gate();
        assert_eq!(video(&mut gate, 0, true, 0), pass(0));
        assert_eq!(video(&mut gate, 33, false, 3000), pass(0));
        assert_eq!(video(&mut gate, 66, false, 3001), Verdict::Drop);
        // Still full: not even a keyframe gets in, and none is asked for.
        assert_eq!(video(&mut gate, 100, true, 2900), Verdict::Drop);
        // Drained, but no keyframe yet.
        assert_eq!(video(&mut gate, 133, false, 250), Verdict::DropAndAsk);
        assert_eq!(audio(&mut gate, 140, BOTH, 250), Verdict::Drop);
        assert_eq!(video(&mut gate, 166, true, 250), pass(0));
        assert_eq!(audio(&mut gate, 170, BOTH, 250), pass(0));
    }

    #[test]
    fn audio_only_backlog_reopens_when_drained() {
        let tracks = Tracks { video: false, audio: true };
        let mut gate = gate();
        assert_eq!(audio(&mut gate, 0, tracks, 0), pass(0));
        assert_eq!(audio(&mut gate, 20, tracks, 3001), Verdict::Drop);
        assert_eq!(audio(&mut gate, 40, tracks, 251), Verdict::Drop);
        assert_eq!(audio(&mut gate, 60, tracks, 250), pass(0));
    }

    /// Runs the gate on a link that takes nothing for `stall_ms` and then `speed` times what the stream has, in steps of
    /// 10 ms. Returns how long after the stall the lag was back under 500 ms for good, and how much was dropped.
    fn after_a_stall(stall_ms: i64, speed: f64) -> (i64, i64) {
        let (mut gate, start) = (gate(), Instant::now());
        // Lag in terms of the newest unit: what the queue holds. The time at which each unit in it came.
        let mut queue = std::collections::VecDeque::new();
        let (mut credit, mut late_until, mut dropped) = (0.0, 0, 0);
        let mut asked = None;
        for at_ms in (0..30_000).step_by(10) {
            let now = start + Duration::from_millis(at_ms as u64);
            if at_ms >= 1000 && at_ms < 1000 + stall_ms {
                credit = 0.0;
            } else {
                credit += speed;
            }
            while credit >= 1.0 && queue.pop_front().is_some() {
                credit -= 1.0;
            }
            credit = credit.min(1.0);
            let lag_ms = queue.front().map_or(0, |came| at_ms - came);
            if lag_ms >= 500 {
                late_until = at_ms;
            }
            // A keyframe comes 100 ms after it was asked for; by itself every 10 s.
            let keyframe = at_ms % 10_000 == 0 || asked.is_some_and(|asked| at_ms == asked + 100);
            match gate.decide(Track::Video, at_ms * MS, keyframe, BOTH, Lag { ns: lag_ms * MS, now }) {
                Verdict::Pass { .. } => queue.push_back(at_ms),
                verdict => {
                    dropped += 1;
                    if verdict == Verdict::DropAndAsk && asked.is_none_or(|asked| at_ms > asked + 300) {
                        asked = Some(at_ms);
                    }
                }
            }
        }
        (late_until - 1000 - stall_ms, dropped)
    }

    #[test]
    fn two_seconds_of_stall_are_made_up_for_within_five() {
        let (back_after, dropped) = after_a_stall(2000, 10.0);
        assert!(back_after < 500 && dropped == 0, "a fast uplink loses nothing: {back_after} ms, {dropped} dropped");
        for speed in [1.0, 1.1, 1.5] {
            let (back_after, dropped) = after_a_stall(2000, speed);
            assert!(back_after < 5000, "at {speed} times the stream: {back_after} ms, {dropped} dropped");
        }
    }

    #[test]
    fn stall_up_to_the_limit_drops_nothing_and_a_longer_one_does() {
        assert_eq!(after_a_stall(2900, 10.0).1, 0);
        assert!(after_a_stall(3200, 10.0).1 > 0);
    }
}
