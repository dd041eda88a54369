//! Shows in which input is late, stops and comes back.

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

#[test]
fn units_closer_than_flv_can_tell_have_different_timestamps() {
    let mut show = Show::new(Policy::default());
    let mut sent_at = |us: i64| {
        let stamps = Stamps { dts: Some(us * 1_000), pts: Some(us * 1_000) };
        let Verdict::Send { dts, pts, .. } = show.unit(Track::Audio, true, stamps, us * 1_000) else { return None };
        Some((dts / MS, pts / MS))
    };
    assert_eq!([1_112_100, 1_112_900, 1_133_433].map(&mut sent_at), [1_112, 1_113, 1_133].map(|ms| Some((ms, ms))));
}
