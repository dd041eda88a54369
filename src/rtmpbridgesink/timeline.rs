//! The time of both tracks as they come in: good timestamps are left alone, bad ones are made to go on. Pure.
//!
//! A track that jumps gets an offset, and the other one the same if it jumps as well: what was in sync stays in sync. All
//! times are in ns of running time. What the encoders and parsers behind make of them is seen to by `show`.

use crate::rtmp::Track;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// The least that two frames are apart: what FLV can tell.
pub(super) const LEAST_STEP: i64 = MS;
/// A step that needs no second look.
const ORDINARY: i64 = SECOND;
/// Further back than this is another timeline. Reordered pictures and sloppy clocks stay well below.
const MOST_BACK: i64 = SECOND;
/// So much further than the wall clock is one as well. Sources that pause go on with it, and players bridge less.
const MOST_AHEAD: i64 = 10 * SECOND;
/// How far frames without timestamps may drift from the clock.
const MOST_DRIFT: i64 = 500 * MS;
/// Where 32 bits of milliseconds begin anew, as those of an FLV file do.
const WRAP: i64 = (1 << 32) * MS;

/// What had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// A step back, or a presentation before its decoding: moved up to where it is possible.
    Backward,
    /// The time of the frame before: moved up.
    Duplicate,
    /// Another timeline: everything from here on is moved.
    Jump,
    /// 32 bits of milliseconds were over.
    Wrap,
    /// No timestamp at all: made up.
    Missing,
}

/// A buffer's timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps {
    pub(super) dts: Option<i64>,
    pub(super) pts: Option<i64>,
}

/// What a pad's buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One frame after the other, in the order of presentation: raw media and codecs without reordering.
    Frames,
    /// One encoded picture after the other, in the order of decoding.
    Pictures,
    /// Pieces of an encoded stream that a parser has yet to order: only jumps can be told.
    Stream,
}

/// Where a buffer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) stamps: Stamps,
    pub(super) repair: Option<Repair>,
}

/// Both tracks.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    tracks: [TrackTime; 2],
    /// From placed time to the clock's, where somebody waits for it.
    pace: i64,
    /// The clock when it was last looked at.
    clock: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct TrackTime {
    /// From the input's time to ours.
    offset: i64,
    last: Option<Last>,
    /// A flush has ended the timeline that `offset` is for.
    flushed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: i64,
    /// The latest presentation so far.
    shown: i64,
    /// The clock when it came.
    now: i64,
    /// How far it was from the frame before.
    step: i64,
    /// How far timestamps are ahead of the clock.
    lead: i64,
}

impl Last {
    /// Where the next one belongs if it comes now.
    fn expected(&self, now: i64) -> i64 {
        self.at + (now - self.now).max(self.step)
    }
}

impl Timeline {
    /// Places a buffer that comes at `now`.
    pub(super) fn place(&mut self, track: Track, stamps: Stamps, kind: Kind, now: i64) -> Placed {
        let Some(raw) = stamps.dts.or(stamps.pts) else { return self.make_up(track, kind, now) };
        let (offset, mut repair) = self.offset_for(track, raw, stamps.pts, now);
        let me = &mut self.tracks[index(track)];
        let mut at = raw + offset;
        if std::mem::take(&mut me.flushed) {
            // A seek is no trouble. What comes first is due now, and the other track joins it.
            if repair.take().is_some() {
                self.pace = now - at;
            }
        }
        me.offset = offset;
        let mut stamps = Stamps { dts: stamps.dts.map(|dts| dts + offset), pts: stamps.pts.map(|pts| pts + offset) };
        let falls_back = |last: &Last| match kind {
            Kind::Pictures if stamps.dts.is_none() => at == last.at,
            Kind::Frames | Kind::Pictures => at <= last.at,
            Kind::Stream => false,
        };
        if let Some(last) = me.last.filter(falls_back) {
            repair = repair.or(Some(if at == last.at { Repair::Duplicate } else { Repair::Backward }));
            at = last.at + LEAST_STEP;
            stamps.dts = stamps.dts.map(|dts| dts.max(at));
            stamps.pts = stamps.pts.map(|pts| pts.max(at));
        }
        self.note(track, at, stamps.pts, now, at - now);
        Placed { stamps, repair }
    }

    /// Where a time of the input is now, for what is no buffer.
    pub(super) fn shift(&self, track: Track, raw: i64) -> i64 {
        raw + self.tracks[index(track)].offset
    }

    /// A flush: the next buffer begins a new timeline, which continues ours.
    pub(super) fn flushed(&mut self, track: Track) {
        self.tracks[index(track)].flushed = true;
    }

    /// What to add to a placed time for the clock's that it is due at. One that is out of reach is due now.
    pub(super) fn pace(&mut self, track: Track, now: i64) -> i64 {
        // Running time begins anew some time after a flush, if anything in the pipeline prerolls.
        if now < self.clock - MOST_DRIFT {
            self.pace += now - self.clock;
        }
        self.clock = now;
        if let Some(last) = self.tracks[index(track)].last
            && last.at + self.pace - now > MOST_AHEAD + ORDINARY
        {
            self.pace = now - last.at;
        }
        self.pace
    }

    fn offset_for(&self, track: Track, raw: i64, pts: Option<i64>, now: i64) -> (i64, Option<Repair>) {
        let me = &self.tracks[index(track)];
        let other = &self.tracks[1 - index(track)];
        let Some(last) = me.last else {
            // Joins the other one, or begins the show.
            let Some(expected) = other.last.map(|last| last.expected(now)) else { return (0, None) };
            return if (raw + other.offset - expected).abs() <= MOST_AHEAD {
                (other.offset, None)
            } else {
                (expected - raw, Some(Repair::Jump))
            };
        };
        let own = raw + me.offset - last.at;
        if !me.flushed && (1..=ORDINARY).contains(&own) {
            return (me.offset, None);
        }
        let expected = last.expected(now);
        // Where the clock says nothing, because nobody waits for it, the other track may.
        let latest = |offset: i64| {
            let beside = other.last.filter(|_| other.offset == offset).map_or(expected, |last| last.at);
            expected.max(beside) + MOST_AHEAD
        };
        let fits = |offset: i64| raw + offset >= last.at - MOST_BACK && raw + offset <= latest(offset);
        let deviation = |offset: i64| (raw + offset - expected).abs();
        let own = Some(me.offset).filter(|_| !me.flushed);
        let others = other.last.filter(|_| !other.flushed).map(|_| other.offset);
        // A small step here may be a jump there: the one that explains more.
        let best = own.into_iter().chain(others).filter(|offset| fits(*offset)).min_by_key(|offset| deviation(*offset));
        if let Some(offset) = best {
            return (offset, None);
        }
        for wrapped in [me.offset + WRAP, me.offset - WRAP] {
            if deviation(wrapped) <= ORDINARY {
                return (wrapped, Some(Repair::Wrap));
            }
        }
        // Behind the last picture to be shown as well, which reordering may have sent ahead.
        let behind_shown = pts.map_or(i64::MIN, |pts| last.shown + last.step.max(LEAST_STEP) - pts);
        ((expected - raw).max(behind_shown), Some(Repair::Jump))
    }

    /// A frame without time goes behind the one before it, and not far from the clock.
    fn make_up(&mut self, track: Track, kind: Kind, now: i64) -> Placed {
        if kind != Kind::Frames {
            return Placed { stamps: Stamps::default(), repair: None };
        }
        let last = self.tracks[index(track)].last;
        let lead = last.or(self.tracks[1 - index(track)].last).map_or(0, |last| last.lead);
        let clock = now + lead;
        let at = last.map_or(clock, |last| {
            let next = last.at + last.step.max(LEAST_STEP);
            if (next - clock).abs() <= MOST_DRIFT { next } else { clock.max(last.at + LEAST_STEP) }
        });
        self.note(track, at, None, now, lead);
        Placed { stamps: Stamps { dts: None, pts: Some(at) }, repair: Some(Repair::Missing) }
    }

    fn note(&mut self, track: Track, at: i64, pts: Option<i64>, now: i64, lead: i64) {
        let last = &mut self.tracks[index(track)].last;
        // Reordered pictures go back and forth: the furthest one counts.
        let at = last.map_or(at, |last| at.max(last.at));
        let step = last.map_or(0, |last| match at - last.at {
            step if (1..=ORDINARY).contains(&step) => step,
            _ => last.step,
        });
        let shown = pts.unwrap_or(at).max(last.map_or(i64::MIN, |last| last.shown));
        *last = Some(Last { at, shown, now, step, lead });
    }
}

fn index(track: Track) -> usize {
    usize::from(track == Track::Audio)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * SECOND;

    /// Feeds both tracks in ms and keeps the time.
    #[derive(Default)]
    struct Input {
        timeline: Timeline,
        now: i64,
    }

    impl Input {
        /// Frames at a time of the input, at the clock's; returns the placed time in ms and what was done.
        fn frame(&mut self, track: Track, at_ms: i64) -> (i64, Option<Repair>) {
            let stamps = Stamps { dts: None, pts: Some(at_ms * MS) };
            let placed = self.timeline.place(track, stamps, Kind::Frames, self.now);
            (placed.stamps.pts.unwrap_or_default() / MS, placed.repair)
        }

        fn at(&mut self, now_ms: i64) -> &mut Self {
            self.now = now_ms * MS;
            self
        }

        /// Both tracks for a while, from a time of the input that is `ahead_ms` of the clock: video each 40 ms, audio each 20.
        fn run(&mut self, from_ms: i64, to_ms: i64, ahead_ms: i64) -> Vec<(Track, i64, Option<Repair>)> {
            let mut placed = Vec::new();
            for now in (from_ms..to_ms).step_by(20) {
                self.at(now);
                let (at, repair) = self.frame(Track::Audio, now + ahead_ms);
                placed.push((Track::Audio, at, repair));
                if now % 40 == 0 {
                    let (at, repair) = self.frame(Track::Video, now + ahead_ms);
                    placed.push((Track::Video, at, repair));
                }
            }
            placed
        }
    }

    fn as_they_were(from_ms: i64, to_ms: i64) -> Vec<(Track, i64, Option<Repair>)> {
        let mut times = Vec::new();
        for at in (from_ms..to_ms).step_by(20) {
            times.push((Track::Audio, at, None));
            if at % 40 == 0 {
                times.push((Track::Video, at, None));
            }
        }
        times
    }

    #[test]
    fn late_and_early_arrival_changes_nothing() {
        let mut input = Input::default();
        for frame in 0..1000 {
            let late = if frame % 10 == 3 { (frame * 7) % 200 } else { 0 };
            assert_eq!(input.at(frame * 33 + late).frame(Track::Video, frame * 33), (frame * 33, None));
        }
        // A stall of the network: all at once, after 5 s.
        for frame in 1000..1150 {
            assert_eq!(input.at(38_000).frame(Track::Video, frame * 33), (frame * 33, None));
        }
    }

    #[test]
    fn pictures_out_of_order_are_not_touched() {
        let mut timeline = Timeline::default();
        for pts in [0, 132, 66, 33, 99, 264, 198] {
            let stamps = Stamps { dts: None, pts: Some(pts * MS) };
            let placed = timeline.place(Track::Video, stamps, Kind::Stream, pts * MS);
            assert_eq!(placed, Placed { stamps, repair: None });
        }
    }

    #[test]
    fn new_timeline_of_reordered_pictures_begins_behind_the_last_one_shown() {
        let mut timeline = Timeline::default();
        let mut place = |dts: i64, pts: i64, now: i64| {
            let stamps = Stamps { dts: Some(dts * MS), pts: Some(pts * MS) };
            let placed = timeline.place(Track::Video, stamps, Kind::Pictures, now * MS);
            (placed.stamps.dts.unwrap_or_default() / MS, placed.stamps.pts.unwrap_or_default() / MS, placed.repair)
        };
        assert_eq!(place(50_000, 50_040, 0), (50_000, 50_040, None));
        assert_eq!(place(50_040, 50_160, 40), (50_040, 50_160, None));
        assert_eq!(place(0, 40, 80), (50_160, 50_200, Some(Repair::Jump)));
        assert_eq!(place(40, 160, 120), (50_200, 50_320, None));
        assert_eq!(place(40, 120, 160), (50_201, 50_280, Some(Repair::Duplicate)));
    }

    #[test]
    fn small_steps_back_and_duplicates_move_up_one_by_one() {
        let mut input = Input::default();
        assert_eq!(input.at(0).frame(Track::Video, 1000), (1000, None));
        assert_eq!(input.at(33).frame(Track::Video, 1000), (1001, Some(Repair::Duplicate)));
        assert_eq!(input.at(66).frame(Track::Video, 940), (1002, Some(Repair::Backward)));
        assert_eq!(input.at(99).frame(Track::Video, 1099), (1099, None));
    }

    #[test]
    fn jump_of_both_tracks_is_one_jump() {
        for jump in [HOUR / MS, -HOUR / MS, 7 * HOUR / MS, -20_000] {
            let mut input = Input::default();
            let start = 2 * HOUR / MS;
            assert_eq!(input.run(start, start + 2000, 0), as_they_were(start, start + 2000));
            let placed = input.run(start + 2000, start + 4000, jump);
            let repairs: Vec<_> = placed.iter().filter_map(|(_, _, repair)| *repair).collect();
            assert_eq!(repairs, [Repair::Jump], "{jump}");
            let times: Vec<_> = placed.iter().map(|(track, at, _)| (*track, *at, None)).collect();
            assert_eq!(times, as_they_were(start + 2000, start + 4000), "{jump}");
        }
    }

    #[test]
    fn jump_at_the_edge_of_what_is_let_pass_keeps_both_tracks_together() {
        // Audio sees a step of 10,020 ms more than the clock, video one of 10,000.
        for jump in (9_900..10_100).chain(-1_100..-900) {
            let mut input = Input::default();
            input.run(100_000, 102_000, 0);
            let placed = input.run(102_000, 103_200, jump);
            let apart = |track| placed.iter().rev().find(|placed| placed.0 == track).map(|placed| placed.1);
            let (audio, video) = (apart(Track::Audio).unwrap_or(0), apart(Track::Video).unwrap_or(0));
            assert_eq!(audio - video, 20, "after a jump of {jump} ms");
        }
    }

    #[test]
    fn jump_of_one_track_leaves_the_other() {
        let mut input = Input::default();
        input.run(50_000, 52_000, 0);
        assert_eq!(input.at(52_000).frame(Track::Audio, 20), (52_000, Some(Repair::Jump)));
        assert_eq!(input.at(52_000).frame(Track::Video, 52_000), (52_000, None));
        assert_eq!(input.at(52_020).frame(Track::Audio, 40), (52_020, None));
        assert_eq!(input.at(52_040).frame(Track::Video, 52_040), (52_040, None));
    }

    #[test]
    fn pause_that_the_clock_confirms_is_kept() {
        let mut input = Input::default();
        input.run(0, 2000, 0);
        assert_eq!(input.run(HOUR / MS, HOUR / MS + 200, 0), as_they_were(HOUR / MS, HOUR / MS + 200));
    }

    #[test]
    fn gap_of_one_track_is_kept_when_the_other_got_there_without_the_clock() {
        let mut input = Input::default();
        input.run(0, 200, 0);
        for at in (200..60_000).step_by(40) {
            assert_eq!(input.at(200).frame(Track::Video, at), (at, None));
        }
        assert_eq!(input.at(200).frame(Track::Audio, 60_000), (60_000, None));
    }

    #[test]
    fn thirty_two_bits_of_milliseconds_go_on_exactly() {
        let wrap = WRAP / MS;
        let mut input = Input::default();
        assert_eq!(input.at(0).frame(Track::Video, wrap - 50), (wrap - 50, None));
        assert_eq!(input.at(0).frame(Track::Audio, wrap - 30), (wrap - 30, None));
        // 17 ms late.
        assert_eq!(input.at(57).frame(Track::Video, -10 + 4), (wrap - 6, Some(Repair::Wrap)));
        assert_eq!(input.at(60).frame(Track::Audio, 12), (wrap + 12, None));
        assert_eq!(input.at(80).frame(Track::Video, 34), (wrap + 34, None));
    }

    #[test]
    fn track_that_joins_late_on_its_own_time_joins_the_present() {
        let mut input = Input::default();
        for at in (0..100_000).step_by(40) {
            input.at(at).frame(Track::Video, at);
        }
        assert_eq!(input.at(100_000).frame(Track::Audio, 0), (100_000, Some(Repair::Jump)));
        assert_eq!(input.at(100_020).frame(Track::Audio, 20), (100_020, None));
        let mut input = Input::default();
        for at in (0..100_000).step_by(40) {
            input.at(at).frame(Track::Video, at);
        }
        assert_eq!(input.at(100_100).frame(Track::Audio, 100_007), (100_007, None), "on the same time it keeps it");
    }

    #[test]
    fn frames_without_time_follow_each_other_and_the_clock() {
        let mut timeline = Timeline::default();
        let mut place = |now: i64, pts: Option<i64>| {
            let stamps = Stamps { dts: None, pts: pts.map(|pts| pts * MS) };
            let placed = timeline.place(Track::Video, stamps, Kind::Frames, now * MS);
            (placed.stamps.pts.unwrap_or_default() / MS, placed.repair)
        };
        let made_up = Some(Repair::Missing);
        assert_eq!(place(500, None), (500, made_up));
        assert_eq!(place(540, Some(540)), (540, None));
        assert_eq!(place(595, None), (580, made_up), "not when it came, but when it is due");
        assert_eq!(place(620, Some(620)), (620, None));
        assert_eq!(place(3000, None), (3000, made_up));
    }

    #[test]
    fn flush_continues_where_the_show_is_and_is_no_trouble() {
        let mut input = Input::default();
        input.run(0, 5000, 0);
        // The pipeline's running time begins anew with a flushing seek.
        for track in [Track::Audio, Track::Video] {
            input.timeline.flushed(track);
        }
        assert_eq!(input.at(0).frame(Track::Video, 0), (5000, None));
        assert_eq!(input.timeline.pace(Track::Video, 0), -5000 * MS, "due at 0 of the clock");
        assert_eq!(input.at(10).frame(Track::Audio, 20), (5020, None));
        assert_eq!(input.timeline.pace(Track::Audio, 10 * MS), -5000 * MS);
        assert_eq!(input.at(40).frame(Track::Video, 40), (5040, None));
    }

    #[test]
    fn flush_that_leaves_the_clock_alone_is_followed_and_so_is_the_clock_if_it_begins_anew_later() {
        let mut input = Input::default();
        input.run(0, 5000, 0);
        input.timeline.flushed(Track::Video);
        assert_eq!(input.at(4970).frame(Track::Video, 0), (5000, None));
        assert_eq!(input.timeline.pace(Track::Video, 4970 * MS), -30 * MS, "due now");
        assert_eq!(input.at(10).frame(Track::Video, 40), (5040, None));
        assert_eq!(input.timeline.pace(Track::Video, 10 * MS), -4990 * MS, "as long after that as before");
    }

    #[test]
    fn nothing_is_waited_for_that_is_out_of_reach() {
        let mut input = Input::default();
        input.at(0).frame(Track::Video, HOUR / MS);
        assert_eq!(input.timeline.pace(Track::Video, 0), -HOUR);
        let mut input = Input::default();
        input.at(0).frame(Track::Video, 900);
        assert_eq!(input.timeline.pace(Track::Video, 0), 0);
    }

    #[test]
    fn whatever_comes_the_time_rises() {
        let mut input = Input::default();
        let mut random = 7u64;
        let mut last = [i64::MIN; 2];
        for now in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let track = if random >> 40 & 1 == 0 { Track::Video } else { Track::Audio };
            let at = match random >> 41 & 7 {
                0 => (random >> 20) as i64 % 10_000_000,
                1 => now - 500,
                _ => now,
            };
            let (placed, _) = input.at(now).frame(track, at);
            let slot = &mut last[index(track)];
            assert!(placed > *slot, "{placed} after {slot}");
            *slot = placed;
        }
        assert!(last.iter().all(|at| *at < 60 * 20_000), "and does not run away: {last:?}");
    }
}
