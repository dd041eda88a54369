//! A sender with clocks of its own, a network, and hours of both in simulated time.

use super::super::{IN_SYNC, MILLISECOND, Nanos, Report, SECOND, Stamp, Sync, SyncStats};
use crate::codec::MediaKind;

pub(super) const VIDEO: usize = 0;
pub(super) const AUDIO: usize = 1;
pub(super) const NAMES: [&str; 2] = ["video", "audio"];

/// One track of the sender and its way here.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    pub(super) clock_rate: i64,
    /// Between two frames.
    pub(super) interval: Nanos,
    /// By how many parts per million the RTP clock is faster than ours.
    pub(super) ppm: i64,
    /// RTP timestamp at time 0.
    pub(super) base: u32,
    pub(super) ssrc: u32,
    /// The network's least delay, encoding included, and what may be added to it.
    pub(super) transit: Nanos,
    pub(super) jitter: Nanos,
    /// Between two reports; 0 for none.
    pub(super) reports: Nanos,
    /// By how much the clock that reports tell is wrong.
    pub(super) lie: Nanos,
}

pub(super) const CAMERA: Sender = Sender {
    clock_rate: 90_000,
    interval: SECOND / 30,
    ppm: 0,
    base: u32::MAX - 450_000, // wraps after 5 s
    ssrc: 1,
    transit: 50 * MILLISECOND,
    jitter: 20 * MILLISECOND,
    reports: SECOND,
    lie: 0,
};

pub(super) const MICROPHONE: Sender = Sender {
    clock_rate: 48_000,
    interval: 20 * MILLISECOND,
    base: u32::MAX - 48_000 * 8,
    ssrc: 2,
    reports: 5 * SECOND,
    ..CAMERA
};

impl Sender {
    fn rtp_time(&self, at: Nanos) -> u32 {
        let ticks = i128::from(at) * i128::from(1_000_000 + self.ppm) / 1_000_000 * i128::from(self.clock_rate);
        self.base.wrapping_add((ticks / i128::from(SECOND)) as u32)
    }
}

/// Everything that goes on, in our time, which starts at 100 s of running time.
pub(super) struct World {
    pub(super) sync: Sync,
    pub(super) senders: [Sender; 2],
    /// By how many parts per million the clock of the reports is faster than ours.
    pub(super) wall_ppm: i64,
    pub(super) now: Nanos,
    pub(super) next_frame: [Nanos; 2],
    pub(super) next_report: [Nanos; 2],
    /// For each track: its last stamp and by how much that is later than its capture.
    pub(super) last: [Option<(Stamp, Nanos)>; 2],
    /// Until when a track does not send.
    pub(super) muted: [Nanos; 2],
    /// Until when the network holds everything up.
    pub(super) stalled: Nanos,
    pub(super) random: u64,
}

pub(super) const START: Nanos = 100 * SECOND;

impl World {
    pub(super) fn new(video: Sender, audio: Sender) -> Self {
        let tracks = [(MediaKind::Video, 90_000, None), (MediaKind::Audio, 48_000, None)];
        Self {
            sync: Sync::new(tracks),
            senders: [video, audio],
            wall_ppm: 0,
            now: 0,
            next_frame: [0, 7 * MILLISECOND],
            // The first half a second after the start, as browsers do.
            next_report: [SECOND / 2, 2 * SECOND],
            last: [None; 2],
            muted: [0; 2],
            stalled: 0,
            random: 1,
        }
    }

    pub(super) fn random(&mut self, below: Nanos) -> Nanos {
        // Knuth's MMIX generator: the same in each run.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if below == 0 { 0 } else { ((self.random >> 33) % below as u64) as Nanos }
    }

    fn arrival(&mut self, track: usize) -> Nanos {
        let Sender { transit, jitter, .. } = self.senders[track];
        START + (self.now + transit + self.random(jitter)).max(self.stalled)
    }

    pub(super) fn report_of(&mut self, track: usize) -> Report {
        let sender = self.senders[track];
        let noise = self.random(10 * MILLISECOND) - 5 * MILLISECOND;
        let wall = 3_900_000_000 * SECOND
            + (i128::from(self.now) * i128::from(1_000_000 + self.wall_ppm) / 1_000_000) as Nanos
            + sender.lie
            + noise;
        let ntp_time = (((wall / SECOND) as u64) << 32) | ((((wall % SECOND) as u64) << 32) / SECOND as u64);
        Report { ssrc: sender.ssrc, ntp_time, rtp_time: sender.rtp_time(self.now), arrival: self.arrival(track) }
    }

    /// Goes on for a while; `look` sees the world after each frame that is stamped.
    pub(super) fn run_and(&mut self, duration: Nanos, mut look: impl FnMut(&Self, usize)) {
        let end = self.now + duration;
        loop {
            let at = self.next_frame.into_iter().chain(self.next_report).min().unwrap();
            if at >= end {
                self.now = end;
                return;
            }
            self.now = at;
            for track in [VIDEO, AUDIO] {
                if self.next_frame[track] == at {
                    self.next_frame[track] += self.senders[track].interval;
                    if at >= self.muted[track] {
                        self.frame(track);
                        look(self, track);
                    }
                }
                if self.next_report[track] == at {
                    let interval = self.senders[track].reports;
                    self.next_report[track] += if interval == 0 { SECOND } else { interval };
                    if interval > 0 && at >= self.muted[track] {
                        let report = self.report_of(track);
                        self.sync.report(track, report);
                    }
                }
            }
        }
    }

    pub(super) fn run(&mut self, duration: Nanos) {
        self.run_and(duration, |_, _| ());
    }

    /// A frame of three packets.
    fn frame(&mut self, track: usize) {
        let (ssrc, rtp_time) = (self.senders[track].ssrc, self.senders[track].rtp_time(self.now));
        let arrival = self.arrival(track);
        let stamp = self.sync.stamp(track, ssrc, rtp_time, arrival).unwrap();
        for later in [1, 2] {
            let same = self.sync.stamp(track, ssrc, rtp_time, arrival + later * MILLISECOND);
            assert_eq!(same, Some(stamp), "one frame, one timestamp");
        }
        if let Some((before, _)) = self.last[track] {
            assert!(stamp.dts >= before.dts, "{} backwards at {} ns", NAMES[track], self.now);
            assert!(stamp.pts > before.pts, "{} stands still at {} ns", NAMES[track], self.now);
        }
        self.last[track] = Some((stamp, stamp.pts as Nanos - START - self.now));
    }

    /// By how much audio is presented later than video of the same instant: the truth, which the policy cannot see.
    pub(super) fn offset(&self) -> Nanos {
        self.lateness(AUDIO) - self.lateness(VIDEO)
    }

    /// From capture to timestamp.
    pub(super) fn lateness(&self, track: usize) -> Nanos {
        self.last[track].unwrap().1
    }

    pub(super) fn stats(&self) -> SyncStats {
        self.sync.stats()
    }

    /// Runs on and asserts that the tracks are together all the time.
    #[track_caller]
    pub(super) fn stays_in_sync_for(&mut self, duration: Nanos) {
        let mut worst: Nanos = 0;
        self.run_and(duration, |world, _| worst = worst.max(world.offset().abs()));
        assert!(worst <= IN_SYNC, "{worst} ns apart");
        let stats = self.stats();
        let told = stats.offset.unwrap();
        assert!(
            stats.in_sync && (told - self.offset() as f64 / 1e6).abs() < 15.0,
            "{stats:?}, in truth {}",
            self.offset()
        );
    }

    /// The same while a track has no report yet.
    #[track_caller]
    pub(super) fn stays_in_sync_for_all_but_reports(&mut self, duration: Nanos) {
        let mut worst: Nanos = 0;
        self.run_and(duration, |world, _| worst = worst.max(world.offset().abs()));
        assert!(worst <= IN_SYNC, "{worst} ns apart");
    }
}
