//! What goes out on each track, and when something has to stand in for it. Pure.
//!
//! A track that never comes can be made up (`missing-track`), and the whole show can be kept up when input stops
//! (`gap-grace`). What stands in leaves at a keyframe of the real one. All times are in ns of running time.

use super::{
    reorder::Reorder,
    timeline::{LEAST_STEP, Repair, Stamps},
};
use crate::rtmp::Track;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// How long a track may take to come. Destinations wait for video for 2 s: the picture has to be there before that.
const MISSING_AFTER: i64 = 1_900 * MS;
/// How long before that the picture is made.
const PREPARE: i64 = 900 * MS;
/// Input has stopped when nothing came for so long. Networks stall for half of it and go on.
const STOPPED_AFTER: i64 = SECOND;
/// It has not while the source is merely slow: a still screen has a frame every few seconds.
const SLOW_PARTS: i64 = 3;
const STOPPED_AT_LAST: i64 = 10 * SECOND;
/// A track is no longer there when nothing went out on it for so long.
const GONE_AFTER: i64 = 5 * SECOND;
/// More than this is not made up afterwards.
const MOST_FILLED: i64 = 10 * SECOND;
/// A picture that stands in stays so far behind, so that the real video finds room for its first one when it comes back.
const BEHIND: i64 = 100 * MS;
/// Steps of what stands in: a still picture five times a second, and AAC at 48 kHz.
pub(super) const PICTURE_STEP: i64 = 200 * MS;
const FRAME_STEP: i64 = 1024 * SECOND / 48_000;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// A track that does not come is made up.
    pub(super) synthesise: bool,
    /// How long the show goes on without input.
    pub(super) grace_ns: i64,
}

/// What becomes of a real unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Send {
        dts: i64,
        pts: i64,
        repair: Option<Repair>,
    },
    /// Something else stands in its place still.
    Drop,
    /// The same, until a keyframe comes.
    DropAndAsk,
}

/// Both tracks.
#[derive(Debug, Default)]
pub(super) struct Show {
    policy: Policy,
    tracks: [Channel; 2],
    reorder: Reorder,
    ended: bool,
}

#[derive(Debug, Default)]
struct Channel {
    first: Option<Seen>,
    /// The newest real unit.
    seen: Option<Seen>,
    /// How far the newest ones were apart.
    rhythm: [i64; 4],
    /// The newest one sent, real or not.
    sent: Option<Seen>,
    /// When the next one that stands in is due.
    fill: Option<i64>,
    /// Whether what was sent last was not real: decoders know nothing of what the real ones refer to.
    foreign: bool,
    /// How far those that stand in are apart, where it is not as usual.
    step: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    now: i64,
    dts: i64,
}

impl Seen {
    /// Where that track is at `now`.
    fn at(&self, now: i64) -> i64 {
        self.dts + (now - self.now)
    }
}

impl Channel {
    /// How long it may pause and still be there.
    fn patience(&self) -> i64 {
        let slowest = self.rhythm.iter().max().copied().unwrap_or_default();
        (slowest * SLOW_PARTS).clamp(STOPPED_AFTER, STOPPED_AT_LAST)
    }

    fn see(&mut self, seen: Seen) {
        if let Some(last) = self.seen.filter(|last| seen.now >= last.now) {
            self.rhythm.rotate_right(1);
            self.rhythm[0] = (seen.now - last.now).min(STOPPED_AT_LAST / SLOW_PARTS);
        }
        self.first.get_or_insert(seen);
        self.seen = Some(seen);
    }

    fn silent_for(&self, now: i64) -> Option<i64> {
        self.seen.map(|seen| now - seen.now)
    }
}

impl Show {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The stamps of a picture of a file, which may be sent before others that are shown earlier.
    pub(super) fn in_order(&mut self, stamps: Stamps) -> Stamps {
        match stamps {
            Stamps { dts: None, pts: Some(pts) } => Stamps { dts: Some(self.reorder.decoded_at(pts)), pts: Some(pts) },
            stamps => stamps,
        }
    }

    /// Decides what becomes of a real unit that comes at `now`.
    pub(super) fn unit(&mut self, track: Track, keyframe: bool, stamps: Stamps, now: i64) -> Verdict {
        let channel = &mut self.tracks[index(track)];
        let last = channel.sent.map(|sent| sent.dts);
        let given = stamps.dts.or(stamps.pts);
        let made_up = channel.seen.map_or(now, |seen| seen.at(now));
        let raw = given.unwrap_or(made_up);
        channel.see(Seen { now, dts: raw });
        if channel.foreign {
            match track {
                Track::Video if !keyframe => return Verdict::DropAndAsk,
                // Silence is there already, and nobody hears the difference.
                Track::Audio if last.is_some_and(|last| (1..SECOND).contains(&(last + LEAST_STEP - raw))) => {
                    return Verdict::Drop;
                }
                _ => {}
            }
        }
        let took_over = std::mem::take(&mut channel.foreign);
        channel.fill = None;
        let dts = last.map_or(raw, |last| if raw > last { raw } else { last + LEAST_STEP });
        let pts = stamps.pts.unwrap_or(dts).max(dts);
        let repair = match given {
            None => Some(Repair::Missing),
            Some(_) if dts != raw && took_over => None,
            Some(given) if last == Some(given) => Some(Repair::Duplicate),
            Some(given) if dts != given || stamps.pts.is_some_and(|pts| pts < dts) => Some(Repair::Backward),
            Some(_) => None,
        };
        channel.sent = Some(Seen { now, dts });
        Verdict::Send { dts, pts, repair }
    }

    /// What has to be sent by `now` in place of what does not come: tracks and decoding times, in order. Without a picture
    /// nothing stands in for video yet.
    pub(super) fn tick(&mut self, now: i64, has_picture: bool) -> Vec<(Track, i64)> {
        let mut fills = Vec::new();
        for track in [Track::Video, Track::Audio] {
            if !self.stands_in(track, now) || (track == Track::Video && !has_picture) {
                self.tracks[index(track)].fill = None;
                continue;
            }
            let other = &self.tracks[1 - index(track)];
            let (beside, joined) = (other.seen, other.first);
            let channel = &mut self.tracks[index(track)];
            let Some(target) = channel.seen.or(beside).map(|seen| seen.at(now)) else { continue };
            let target = if track == Track::Video { target - BEHIND } else { target };
            let step = channel.step.unwrap_or(if track == Track::Video { PICTURE_STEP } else { FRAME_STEP });
            let begin = match (channel.sent, joined) {
                (Some(sent), _) => sent.dts + step,
                // The connection opens with the picture, and the sound from the start belongs to it.
                (None, Some(joined)) if track == Track::Video => joined.dts,
                (None, _) => target,
            };
            let mut next = channel.fill.unwrap_or(begin);
            if target - next > MOST_FILLED {
                next = target;
            }
            while next <= target {
                fills.push((track, next));
                channel.sent = Some(Seen { now, dts: next });
                channel.foreign = true;
                next += step;
            }
            channel.fill = Some(next);
        }
        fills.sort_by_key(|(_, dts)| *dts);
        fills
    }

    /// Whether a picture will be needed before long, so that it should be made.
    pub(super) fn needs_picture(&self, now: i64) -> bool {
        let never_came = self.tracks[index(Track::Video)].seen.is_none();
        self.stands_in(Track::Video, if never_came { now + PREPARE } else { now })
    }

    /// Whether something stands in for a track.
    pub(super) fn is_filling(&self, track: Track) -> bool {
        self.tracks[index(track)].fill.is_some()
    }

    /// Whether anything went out on a track lately, real or not.
    pub(super) fn is_present(&self, track: Track, now: i64) -> bool {
        let channel = &self.tracks[index(track)];
        channel.sent.is_some_and(|sent| now - sent.now <= GONE_AFTER.max(channel.patience()))
    }

    /// How far those that stand in for a track are apart.
    pub(super) fn set_step(&mut self, track: Track, step: i64) {
        self.tracks[index(track)].step = Some(step.max(LEAST_STEP));
    }

    /// The end has come: nothing stands in any more.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    fn stands_in(&self, track: Track, now: i64) -> bool {
        if self.ended {
            return false;
        }
        let channel = &self.tracks[index(track)];
        let other = &self.tracks[1 - index(track)];
        let Some(newest) = self.tracks.iter().filter_map(|channel| channel.seen).map(|seen| seen.now).max() else {
            return false;
        };
        let silence = now - newest;
        let fresh = |channel: &&Channel| channel.seen.is_some_and(|seen| newest - seen.now <= STOPPED_AT_LAST);
        let patience = self.tracks.iter().filter(fresh).map(Channel::patience).min().unwrap_or(STOPPED_AFTER);
        let stopped = silence >= patience;

        let keeps_up = stopped && silence <= self.policy.grace_ns && channel.sent.is_some();
        let absent = match channel.silent_for(now) {
            Some(silence) => silence >= channel.patience().max(MISSING_AFTER),
            None => other.first.is_some_and(|first| now - first.now >= MISSING_AFTER),
        };
        let missing =
            self.policy.synthesise && absent && other.silent_for(now).is_some_and(|time| time < other.patience());
        // Input is back, but has no keyframe yet.
        let hands_over = channel.fill.is_some()
            && !stopped
            && channel.silent_for(now).is_some_and(|silence| silence <= self.policy.grace_ns.max(STOPPED_AT_LAST));
        keeps_up || missing || hands_over
    }
}

fn index(track: Track) -> usize {
    usize::from(track == Track::Audio)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILL: Policy = Policy { synthesise: true, grace_ns: 0 };

    fn grace(seconds: i64) -> Policy {
        Policy { synthesise: false, grace_ns: seconds * SECOND }
    }

    /// A show in ms: what is sent on each track, and whether it is real.
    struct Stage {
        show: Show,
        sent: Vec<(Track, i64, bool)>,
        asked: u32,
    }

    impl Stage {
        fn new(policy: Policy) -> Self {
            Self { show: Show::new(policy), sent: Vec::new(), asked: 0 }
        }

        fn unit(&mut self, track: Track, keyframe: bool, at_ms: i64, now_ms: i64) -> Verdict {
            let stamps = Stamps { dts: Some(at_ms * MS), pts: Some(at_ms * MS) };
            let verdict = self.show.unit(track, keyframe, stamps, now_ms * MS);
            match verdict {
                Verdict::Send { dts, .. } => self.sent.push((track, dts / MS, true)),
                Verdict::DropAndAsk => self.asked += 1,
                Verdict::Drop => {}
            }
            verdict
        }

        fn tick(&mut self, now_ms: i64) {
            let fills = self.show.tick(now_ms * MS, true);
            self.sent.extend(fills.into_iter().map(|(track, at)| (track, at / MS, false)));
        }

        /// Input with 40 ms of latency for a while: video each 40 ms with a keyframe a second, audio each 20.
        fn run(&mut self, from_ms: i64, to_ms: i64, tracks: &[Track]) {
            for at in (from_ms..to_ms).step_by(20) {
                self.tick(at + 40);
                if tracks.contains(&Track::Audio) {
                    self.unit(Track::Audio, true, at, at + 40);
                }
                if tracks.contains(&Track::Video) && at % 40 == 0 {
                    self.unit(Track::Video, at % 1000 == 0, at, at + 40);
                }
            }
        }

        fn of(&self, wanted: Track, real: bool) -> Vec<i64> {
            self.sent.iter().filter(|(track, _, is)| *track == wanted && *is == real).map(|(_, at, _)| *at).collect()
        }

        fn widest(&self, wanted: Track) -> i64 {
            let times: Vec<_> = self.sent.iter().filter(|sent| sent.0 == wanted).map(|sent| sent.1).collect();
            assert!(times.is_sorted_by(|a, b| a < b), "{wanted:?} rises: {times:?}");
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        }
    }

    const BOTH: &[Track] = &[Track::Video, Track::Audio];

    #[test]
    fn nothing_stands_in_unless_asked() {
        let mut stage = Stage::new(Policy::default());
        stage.run(0, 3000, &[Track::Audio]);
        stage.run(20_000, 21_000, BOTH);
        stage.tick(60_000);
        assert!(stage.sent.iter().all(|(_, _, real)| *real));
    }

    #[test]
    fn thirty_seconds_without_input_have_no_hole() {
        let mut stage = Stage::new(grace(60));
        stage.run(0, 5000, BOTH);
        for now in (5000..35_000).step_by(40) {
            stage.tick(now + 40);
        }
        stage.run(35_000, 40_000, BOTH);
        assert!(stage.widest(Track::Video) <= 240, "{}", stage.widest(Track::Video));
        assert!(stage.widest(Track::Audio) <= 42, "{}", stage.widest(Track::Audio));
        assert_eq!(stage.asked, 0, "35 s is a keyframe");
        let filled = stage.of(Track::Video, false);
        assert!((4_980..5_200).contains(&filled[0]) && *filled.last().unwrap() <= 35_000, "{filled:?}");
        assert_eq!(stage.of(Track::Video, true).len(), 250);
    }

    #[test]
    fn show_goes_on_until_a_keyframe_and_not_longer() {
        let mut stage = Stage::new(grace(60));
        stage.run(0, 5000, BOTH);
        for now in (5000..8500).step_by(40) {
            stage.tick(now);
        }
        stage.run(8520, 10_000, BOTH);
        assert!(stage.asked > 5);
        let real = stage.of(Track::Video, true);
        assert_eq!(real.iter().find(|at| **at > 5000), Some(&9000));
        let filled = stage.of(Track::Video, false);
        assert!(filled.iter().all(|at| *at < 9000) && *filled.last().unwrap() > 8600, "{filled:?}");
        let heard = stage.of(Track::Audio, true);
        assert!(heard.iter().find(|at| **at > 5000).is_some_and(|at| *at < 8600), "sound needs no keyframe");
    }

    #[test]
    fn after_the_grace_all_is_quiet_until_a_keyframe() {
        let mut stage = Stage::new(grace(3));
        stage.run(0, 1000, BOTH);
        for now in (1000..20_000).step_by(40) {
            stage.tick(now);
        }
        assert!(stage.sent.iter().all(|(_, at, _)| *at <= 4040), "{:?}", stage.sent);
        assert!(stage.of(Track::Audio, false).last().is_some_and(|at| *at > 3900));
        assert_eq!(stage.unit(Track::Video, false, 20_000, 20_040), Verdict::DropAndAsk);
        assert!(matches!(stage.unit(Track::Video, true, 20_040, 20_080), Verdict::Send { .. }));
        stage.tick(20_100);
        assert_eq!(stage.sent.last(), Some(&(Track::Video, 20_040, true)));
    }

    #[test]
    fn stall_of_half_a_second_is_no_stop() {
        let mut stage = Stage::new(grace(60));
        stage.run(0, 1000, BOTH);
        for now in (1000..1800).step_by(40) {
            stage.tick(now);
        }
        stage.run(1000, 2000, BOTH);
        assert!(stage.sent.iter().all(|(_, _, real)| *real));
    }

    #[test]
    fn still_screen_is_no_stop() {
        let mut stage = Stage::new(grace(60));
        stage.run(0, 1000, &[Track::Video]);
        // Slower and slower, down to a frame every three seconds.
        let mut at = 1000;
        for pause in [500, 900, 1400, 2000, 2500, 3000, 3000, 3000, 3000] {
            for now in (at..at + pause).step_by(40) {
                stage.tick(now + 40);
            }
            at += pause;
            stage.unit(Track::Video, false, at, at + 40);
        }
        assert!(stage.sent.iter().all(|(_, _, real)| *real), "{:?}", stage.sent);
    }

    #[test]
    fn missing_picture_is_there_before_destinations_stop_waiting_and_from_the_start() {
        let mut stage = Stage::new(FILL);
        stage.run(0, 1960, &[Track::Audio]);
        let filled = stage.of(Track::Video, false);
        assert_eq!((filled.first(), filled.get(1)), (Some(&0), Some(&200)));
        stage.run(1960, 6040, &[Track::Audio]);
        stage.run(6040, 9000, BOTH);
        let real = stage.of(Track::Video, true);
        assert_eq!(real[0], 7000, "it takes over at its keyframe");
        assert!(stage.of(Track::Video, false).iter().all(|at| *at < 7000));
        assert!(stage.widest(Track::Video) <= 240);
    }

    #[test]
    fn missing_sound_is_silence_from_then_on() {
        let mut stage = Stage::new(FILL);
        stage.run(0, 4000, &[Track::Video]);
        let filled = stage.of(Track::Audio, false);
        assert!((1840..1920).contains(&filled[0]), "{filled:?}");
        stage.run(4000, 5000, BOTH);
        assert!(stage.widest(Track::Audio) <= 42, "{}", stage.widest(Track::Audio));
        assert!(stage.of(Track::Audio, true)[0] <= 4040);
    }

    #[test]
    fn track_that_leaves_is_made_up_as_well() {
        let mut stage = Stage::new(FILL);
        stage.run(0, 2000, BOTH);
        stage.run(2000, 6000, &[Track::Video]);
        assert!(stage.widest(Track::Audio) <= 42);
        assert!(stage.show.is_present(Track::Audio, 6000 * MS));
        let mut stage = Stage::new(Policy::default());
        stage.run(0, 2000, BOTH);
        stage.run(2000, 7500, &[Track::Video]);
        assert!(!stage.show.is_present(Track::Audio, 7500 * MS));
        assert!(stage.show.is_present(Track::Video, 7500 * MS));
    }

    #[test]
    fn after_the_end_nothing_stands_in() {
        let mut stage = Stage::new(Policy { synthesise: true, ..grace(60) });
        stage.run(0, 2000, BOTH);
        stage.show.end();
        stage.tick(5000);
        assert!(stage.sent.iter().all(|(_, _, real)| *real));
    }

    #[test]
    fn time_rises_and_what_is_wrong_is_said() {
        let mut show = Show::default();
        let mut send =
            |dts: Option<i64>, pts: Option<i64>, now| match show.unit(Track::Video, true, Stamps { dts, pts }, now) {
                Verdict::Send { dts, pts, repair } => (dts, pts, repair),
                verdict => panic!("{verdict:?}"),
            };
        let step = LEAST_STEP;
        assert_eq!(send(Some(0), Some(66 * MS), 500), (0, 66 * MS, None));
        assert_eq!(send(None, Some(70 * MS), 500), (70 * MS, 70 * MS, None));
        assert_eq!(send(Some(70 * MS), Some(90 * MS), 500), (70 * MS + step, 90 * MS, Some(Repair::Duplicate)));
        assert_eq!(send(Some(60 * MS), Some(60 * MS), 500), (72 * MS, 72 * MS, Some(Repair::Backward)));
        assert_eq!(send(Some(99 * MS), Some(90 * MS), 500), (99 * MS, 99 * MS, Some(Repair::Backward)));
        assert_eq!(send(None, None, 500 + 40 * MS), (139 * MS, 139 * MS, Some(Repair::Missing)));
    }
}
