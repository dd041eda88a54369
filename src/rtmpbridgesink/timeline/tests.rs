//! Both tracks through good and bad times, as the element would see them.

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
