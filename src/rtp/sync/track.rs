//! One track's timestamps: RTP time without its wraps and jumps, placed on running time and moved there gently. Pure.
//!
//! Leaves to the policy around it where the track should be.

use super::{
    MILLISECOND, Nanos, SECOND, Stamp,
    delay::{Drift, LeastDelay, WINDOW},
    reports::{Report, Reports},
};

/// A track moves by so much of the media time that passes: 10 ms a second. Nobody hears or sees that.
const FASTEST: i64 = 100;
/// An error is worked off in about this time, if that is not faster than [`FASTEST`]: quick enough to be in sync after
/// 10 s, slow enough to make nothing of jitter.
const GENTLY: Nanos = 2 * SECOND;
/// What 10 s of moving can correct, near enough. An error beyond that is corrected at once down to this.
pub(super) const MOST_MOVED: Nanos = 110 * MILLISECOND;

/// RTP time that runs ahead of ours by so much, or steps back, has jumped: packets do not come before they are sent.
const JUMP: Nanos = SECOND;
/// Between the last frame of one stream and the first of the next on a track.
const FRAME: Nanos = MILLISECOND;

/// One track.
#[derive(Debug)]
pub(super) struct Track {
    clock_rate: u32,
    stream: Option<Stream>,
    /// Of the report that came before its stream.
    pending: Option<Report>,
    delay: LeastDelay,
    drift: Drift,
    pub(super) reports: Reports,
    /// What is added to media time to get running time; `None` before the first packet.
    place: Option<Nanos>,
    /// By how much sync moved the track away from where arrivals would place it.
    pub(super) correction: Nanos,
    /// The highest timestamp so far, or what came before this session.
    furthest: Option<Nanos>,
    /// How far decoding goes ahead of presentation: 0 unless there are B-frames.
    reordering: Nanos,
    last_dts: Nanos,
    /// Whether timestamps go at half their speed just now.
    held_back: bool,
    pub(super) counts: TrackCounts,
}

/// What happened to a track's timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TrackCounts {
    pub(super) reports: u64,
    pub(super) rejected_reports: u64,
    /// Errors too large to be moved away.
    pub(super) steps: u64,
    /// New streams on the track and jumps of RTP time.
    pub(super) restarts: u64,
}

/// A run of RTP timestamps without a jump.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    /// Media time of the first packet.
    origin: Nanos,
    /// Ticks of the RTP clock from there to the last packet.
    ticks: i64,
    rtp_time: u32,
    arrival: Nanos,
    /// Whether the last packet has got its timestamp, and which.
    stamp: Option<Stamp>,
    /// Media time that the track was last moved at.
    moved: Option<Nanos>,
}

impl Stream {
    /// Media time of an RTP timestamp not more than half a wrap away from the last.
    fn media_time(&self, rtp_time: u32, clock_rate: u32) -> Nanos {
        let ticks = i128::from(self.ticks) + i128::from(rtp_time.wrapping_sub(self.rtp_time) as i32);
        self.origin + (ticks * i128::from(SECOND) / i128::from(clock_rate)) as Nanos
    }
}

impl Track {
    /// `floor` is where the timestamps of a session before this one ended.
    pub(super) fn new(clock_rate: u32, floor: Option<Nanos>) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            stream: None,
            pending: None,
            delay: LeastDelay::default(),
            drift: Drift::default(),
            reports: Reports::default(),
            place: None,
            correction: 0,
            furthest: floor,
            reordering: 0,
            last_dts: floor.unwrap_or(0),
            held_back: false,
            counts: TrackCounts::default(),
        }
    }

    /// Takes note of a packet. Returns its timestamp if that is known: that of the packet before it, of the same frame.
    pub(super) fn arrived(&mut self, ssrc: u32, rtp_time: u32, arrival: Nanos) -> Option<Stamp> {
        let media_time = match &self.stream {
            Some(stream) if !self.jumps(stream, ssrc, rtp_time, arrival) => {
                stream.media_time(rtp_time, self.clock_rate)
            }
            _ => self.restart(ssrc, rtp_time, arrival),
        };
        let delay = arrival - media_time;
        self.delay.add(arrival, delay);
        self.drift.add(arrival, delay);
        let stream = self.stream.as_mut()?;
        let step = rtp_time.wrapping_sub(stream.rtp_time) as i32;
        stream.ticks += i64::from(step);
        (stream.rtp_time, stream.arrival) = (rtp_time, arrival);
        if step != 0 {
            stream.stamp = None;
        }
        stream.stamp
    }

    fn jumps(&self, stream: &Stream, ssrc: u32, rtp_time: u32, arrival: Nanos) -> bool {
        let last = stream.media_time(stream.rtp_time, self.clock_rate);
        let media_time = stream.media_time(rtp_time, self.clock_rate);
        let (media_step, arrival_step) = (media_time - last, arrival - stream.arrival);
        let earliest = self.delay.least().is_some_and(|least| arrival - media_time < least - JUMP);
        ssrc != stream.ssrc
            || media_step < -JUMP
            || (earliest && media_step > arrival_step.max(0) + JUMP)
            // A clock that stood still. Packets that the network held up would be as late, but not for so long.
            || arrival_step > media_step + WINDOW
    }

    /// Begins a stream where the old one would be now.
    fn restart(&mut self, ssrc: u32, rtp_time: u32, arrival: Nanos) -> Nanos {
        let origin = arrival - self.delay.least().unwrap_or(arrival);
        if self.stream.is_some() {
            self.counts.restarts += 1;
        }
        self.delay.clear();
        self.drift.clear();
        self.reports = Reports::default();
        self.stream = Some(Stream { ssrc, origin, ticks: 0, rtp_time, arrival, stamp: None, moved: None });
        origin
    }

    /// The report that waited for the stream that has just begun.
    pub(super) fn take_pending(&mut self) -> Option<Report> {
        let stream = self.stream.as_ref().filter(|stream| stream.moved.is_none())?;
        self.pending.take_if(|report| report.ssrc == stream.ssrc)
    }

    /// Takes a report; false if there is nothing to learn from it yet, or at all.
    pub(super) fn report(&mut self, report: Report) -> bool {
        let Some(wall_clock) = report.wall_clock() else {
            self.counts.rejected_reports += 1;
            return false;
        };
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.ssrc == report.ssrc) else {
            self.pending = Some(report);
            return false;
        };
        let media_time = stream.media_time(report.rtp_time, self.clock_rate);
        let delay = report.arrival - media_time;
        if self.delay.least().is_some_and(|least| delay.abs_diff(least) > WINDOW as u64) {
            // Of before or after a jump of RTP time, or made up.
            self.counts.rejected_reports += 1;
            self.pending = Some(report);
            return false;
        }
        if !self.reports.add(wall_clock.saturating_sub(media_time), report.arrival) {
            self.counts.rejected_reports += 1;
        }
        true
    }

    /// Where arrivals place the track; `None` before the first packet.
    pub(super) fn arrival_place(&self) -> Option<Nanos> {
        self.delay.least()
    }

    /// When its last packet came.
    pub(super) fn last_arrival(&self) -> Option<Nanos> {
        self.stream.as_ref().map(|stream| stream.arrival)
    }

    /// Where the track is.
    pub(super) fn place(&self) -> Option<Nanos> {
        self.place
    }

    pub(super) fn drift_ppm(&self) -> Option<f64> {
        self.drift.ppm()
    }

    /// The timestamp of the packet that arrived last, with the track moved towards its target.
    pub(super) fn stamp(&mut self, target: Nanos) -> Option<Stamp> {
        let stream = self.stream.as_mut()?;
        let media_time = stream.media_time(stream.rtp_time, self.clock_rate);
        let mut place = match (self.place, stream.moved) {
            (None, _) => target,
            (Some(place), None) => place,
            (Some(place), Some(moved)) => {
                let elapsed = (media_time - moved).max(0);
                let (settled, moved) = without_excess(target, place, elapsed);
                let held_back = settled < place;
                self.counts.steps += u64::from(settled > place || held_back && !self.held_back);
                self.held_back = held_back;
                moved
            }
        };
        let mut pts = media_time + place;
        let floor = match (self.furthest, stream.moved) {
            (Some(furthest), None) => furthest + FRAME,
            _ => 0,
        };
        if pts < floor {
            place += floor - pts;
            pts = floor;
        }
        self.place = Some(place);
        stream.moved = stream.moved.max(Some(media_time));

        let furthest = self.furthest.map_or(pts, |furthest| furthest.max(pts));
        self.furthest = Some(furthest);
        self.reordering = self.reordering.max(furthest - pts);
        self.last_dts = self.last_dts.max(furthest - self.reordering);
        let stamp = Stamp { pts: pts as u64, dts: self.last_dts as u64 };
        stream.stamp = Some(stamp);
        Some(stamp)
    }
}

/// Where a track is after `elapsed` of media time: first without an error that is too large to be moved away, then moved.
fn without_excess(target: Nanos, place: Nanos, elapsed: Nanos) -> (Nanos, Nanos) {
    let error = target - place;
    let settled = if error > MOST_MOVED {
        target - MOST_MOVED
    } else {
        // Time never goes backwards, but for a while it may go at half its speed.
        place - (-error - MOST_MOVED).max(0).min(elapsed / 2)
    };
    let most = elapsed / FASTEST;
    let gentle = i128::from(target - settled) * i128::from(elapsed.min(GENTLY)) / i128::from(GENTLY);
    (settled, settled + (gentle as Nanos).clamp(-most, most))
}
