//! Decides for each unit whether a connected destination gets it. Pure.
//!
//! A connection opens at a keyframe, because no player can begin elsewhere, and closes when it lags too far: then whole
//! groups of pictures are left out, never half a one.

use super::{Track, Tracks};

/// How long audio waits for the video of a linked pad before it goes on alone.
const VIDEO_GRACE_NS: i64 = 2_000_000_000;
/// A closed gate opens again once the backlog has drained to this part of the limit. Opening at the limit itself would
/// keep the viewer that far behind for ever.
const REOPEN_PART: i64 = 4;

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

/// The gate of one connection.
#[derive(Debug)]
pub struct Gate {
    max_lag_ns: i64,
    state: State,
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
        Self { max_lag_ns, state: State::Waiting, audio_alone_since: None }
    }

    /// Whether nothing has been sent yet.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether the connection waits for its first unit, or for room.
    pub fn is_closed(&self) -> bool {
        !matches!(self.state, State::Open { .. })
    }

    /// Decides for the next unit. `lag_ns` is how long the oldest queued one has been waiting.
    pub fn decide(&mut self, track: Track, dts: i64, keyframe: bool, tracks: Tracks, lag_ns: i64) -> Verdict {
        let video_missing = match track {
            Track::Video => {
                self.audio_alone_since = None;
                false
            }
            Track::Audio => !tracks.video || dts - *self.audio_alone_since.get_or_insert(dts) >= VIDEO_GRACE_NS,
        };
        match self.state {
            State::Open { base, .. } if lag_ns > self.max_lag_ns => {
                self.state = State::Behind { base };
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
            State::Behind { .. } if lag_ns > self.max_lag_ns / REOPEN_PART => Verdict::Drop,
            State::Behind { base } => self.open(base, track, keyframe, video_missing),
            State::Waiting => self.open(dts, track, keyframe, video_missing),
        }
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

    fn video(gate: &mut Gate, at_ms: i64, keyframe: bool, lag_ms: i64) -> Verdict {
        gate.decide(Track::Video, at_ms * MS, keyframe, BOTH, lag_ms * MS)
    }

    fn audio(gate: &mut Gate, at_ms: i64, tracks: Tracks, lag_ms: i64) -> Verdict {
        gate.decide(Track::Audio, at_ms * MS, true, tracks, lag_ms * MS)
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
        assert_eq!(video(&mut gate, 133, false, 700), Verdict::DropAndAsk);
        assert_eq!(audio(&mut gate, 140, BOTH, 700), Verdict::Drop);
        assert_eq!(video(&mut gate, 166, true, 700), pass(0));
        assert_eq!(audio(&mut gate, 170, BOTH, 700), pass(0));
    }

    #[test]
    fn audio_only_backlog_reopens_when_drained() {
        let tracks = Tracks { video: false, audio: true };
        let mut gate = gate();
        assert_eq!(audio(&mut gate, 0, tracks, 0), pass(0));
        assert_eq!(audio(&mut gate, 20, tracks, 3001), Verdict::Drop);
        assert_eq!(audio(&mut gate, 40, tracks, 751), Verdict::Drop);
        assert_eq!(audio(&mut gate, 60, tracks, 750), pass(0));
    }
}
