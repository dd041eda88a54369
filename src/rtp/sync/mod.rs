//! Timestamps for all tracks of a session on one clock. Pure: times are arguments.
//!
//! Each track starts at once, placed by the arrival of its packets: the least delay of the last seconds counts, so that
//! jitter does not. From then on RTP time alone makes the cadence, and the place moves slowly: by at most 10 ms a second.
//!
//! Sender reports tell what RTP time of each track was the same instant of the sender's clock. Once two tracks have them,
//! tracks are placed by that: both are moved, the early one back and the late one forward, so that an offset of 200 ms
//! is gone after 10 s. What is more than that is one step forward of the early track, since 10 s at 10 ms a second do not
//! suffice; no timestamp ever goes backwards. Where the tracks are together goes on following arrivals.
//!
//! Reports may be wrong. The median of the last five counts. A change by more than a sender's clock can drift (its clock
//! was set, or it lies) is taken only when it has lasted for 10 s on all tracks, and offsets that no network makes are
//! not believed at all: then tracks stay where they are in relation to their arrivals.

mod delay;
mod reports;
#[cfg(test)]
mod simulation;
mod track;

use self::track::{MOST_MOVED, Track};
pub(super) use reports::Report;

use crate::codec::MediaKind;

/// Nanoseconds: of running time, of media time, or between the two.
pub(super) type Nanos = i64;
const MILLISECOND: Nanos = 1_000_000;
const SECOND: Nanos = 1_000_000_000;

/// Tracks further apart than this in transit do not come from one sender, or its reports are wrong; rtpbin draws the
/// same line.
const MOST_APART: Nanos = 3 * SECOND;
/// A change in what reports say is believed after so long.
const DOUBT: Nanos = 10 * SECOND;
/// … whether all tracks have said so or not: one may have fallen silent.
const LONGEST_DOUBT: Nanos = 30 * SECOND;
/// A track without packets for so long says nothing of where the session should be.
const SILENT: Nanos = 10 * SECOND;
/// Beyond this people notice (ITU-R BT.1359: 45 ms audio early).
pub(super) const IN_SYNC: Nanos = 40 * MILLISECOND;

/// A packet's timestamps, in running time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// When to show it.
    pub(super) pts: u64,
    /// When to decode it: never less than that of the packet before.
    pub(super) dts: u64,
}

/// Numbers of a session's sync.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncStats {
    /// Milliseconds by which audio is later than video at the pads, as far as sender reports tell; `None` without these.
    pub offset: Option<f64>,
    /// Whether that is within ±40 ms.
    pub in_sync: bool,
    /// Sender reports that came.
    pub reports: u64,
    /// Of these, such that had no time, an impossible one, or disagreed with those before.
    pub rejected_reports: u64,
    /// Corrections too large to be made slowly.
    pub steps: u64,
    /// Times that RTP timestamps jumped or a track's stream was replaced.
    pub restarts: u64,
    /// For each track, by how many parts per million its clock is faster than ours; `None` until that can be told.
    pub drift: Vec<(MediaKind, Option<f64>)>,
}

/// The tracks of one session.
#[derive(Debug)]
pub(super) struct Sync {
    tracks: Vec<(MediaKind, Track)>,
    /// Since when reports say something else than what is trusted.
    doubt: Option<Nanos>,
}

impl Sync {
    /// For tracks of these kinds and clock rates. No timestamp of a track will be before its floor.
    pub(super) fn new(tracks: impl IntoIterator<Item = (MediaKind, u32, Option<Nanos>)>) -> Self {
        let tracks =
            tracks.into_iter().map(|(kind, clock_rate, floor)| (kind, Track::new(clock_rate, floor))).collect();
        Self { tracks, doubt: None }
    }

    /// The timestamps of a packet that came at `arrival`. Packets are given in the order of their sequence numbers.
    pub(super) fn stamp(&mut self, index: usize, ssrc: u32, rtp_time: u32, arrival: Nanos) -> Option<Stamp> {
        let (_, track) = self.tracks.get_mut(index)?;
        if let Some(stamp) = track.arrived(ssrc, rtp_time, arrival) {
            return Some(stamp);
        }
        if let Some(report) = track.take_pending() {
            self.take(index, report);
        }
        let (common, others) = (self.common(arrival), self.others(index, arrival));
        let (_, track) = self.tracks.get_mut(index)?;
        let by_arrival = track.arrival_place()?;
        let mut target = by_arrival + track.correction;
        if let Some((relation, common)) = track.reports.trusted(arrival).zip(common) {
            track.correction = relation + common - by_arrival;
            target = by_arrival + track.correction;
            // One that just begins joins the other where that is, and they go on together.
            let joining = others.map(|others| relation + others).filter(|_| track.place().is_none());
            target = joining.filter(|place| (place - by_arrival).abs() <= 2 * MOST_MOVED).unwrap_or(target);
        }
        track.stamp(target)
    }

    /// Takes a sender report of a track.
    pub(super) fn report(&mut self, index: usize, report: Report) {
        if let Some((_, track)) = self.tracks.get_mut(index) {
            track.counts.reports += 1;
            self.take(index, report);
        }
    }

    /// By how much timestamps of a track are later than packets that nothing holds up arrive.
    pub(super) fn ahead(&self, index: usize) -> Nanos {
        let ahead = |(_, track): &(_, Track)| Some(track.place()? - track.arrival_place()?);
        self.tracks.get(index).and_then(ahead).unwrap_or(0)
    }

    /// Numbers so far.
    pub(super) fn stats(&self) -> SyncStats {
        let remaining = |kind| {
            let place = |(_, track): &(_, Track)| Some(track.place()? - track.reports.trusted(track.last_arrival()?)?);
            self.tracks.iter().filter(|(of, _)| *of == kind).find_map(place)
        };
        let offset = remaining(MediaKind::Audio).zip(remaining(MediaKind::Video)).map(|(audio, video)| audio - video);
        let offset = offset.filter(|offset| offset.abs() <= MOST_APART);
        let mut stats = SyncStats {
            offset: offset.map(|offset| offset as f64 / MILLISECOND as f64),
            in_sync: offset.is_some_and(|offset| offset.abs() <= IN_SYNC),
            drift: self.tracks.iter().map(|(kind, track)| (*kind, track.drift_ppm())).collect(),
            ..SyncStats::default()
        };
        for (_, track) in &self.tracks {
            stats.reports += track.counts.reports;
            stats.rejected_reports += track.counts.rejected_reports;
            stats.steps += track.counts.steps;
            stats.restarts += track.counts.restarts;
        }
        stats
    }

    fn take(&mut self, index: usize, report: Report) {
        let Some((_, track)) = self.tracks.get_mut(index) else { return };
        if !track.report(report) {
            return;
        }
        let departs = self.tracks.iter().any(|(_, track)| track.reports.departs());
        if departs {
            let news = self.tracks.iter_mut().fold(false, |news, (_, track)| track.reports.doubt() || news);
            let since = if news { report.arrival } else { self.doubt.unwrap_or(report.arrival) };
            let lasted = report.arrival - since;
            let confirmed = self.tracks.iter().all(|(_, track)| track.reports.confirmed());
            if lasted < DOUBT || (!confirmed && lasted < LONGEST_DOUBT) {
                self.doubt = Some(since);
                return;
            }
        }
        self.doubt = None;
        for (_, track) in &mut self.tracks {
            track.reports.trust();
        }
    }

    /// Running time minus the sender's clock, for all tracks; `None` if reports do not allow it.
    ///
    /// By their arrivals tracks are at different places. In the middle, both have the shortest way to go; but none is to
    /// be placed further ahead of its arrival than a sink's latency can bear.
    fn common(&self, now: Nanos) -> Option<Nanos> {
        let live = |track: &&Track| track.last_arrival().is_some_and(|last| now - last <= SILENT);
        let tracks = self.tracks.iter().map(|(_, track)| track).filter(live);
        let (mut count, mut sum, mut earliest, mut latest) = (0, 0_i128, Nanos::MAX, Nanos::MIN);
        for track in tracks {
            let Some(transit) = track.arrival_place().zip(track.reports.trusted(now)).map(|(at, wall)| at - wall)
            else {
                continue;
            };
            (count, sum) = (count + 1, sum + i128::from(transit));
            (earliest, latest) = (earliest.min(transit), latest.max(transit));
        }
        if count < 2 || latest.saturating_sub(earliest) > MOST_APART {
            return None;
        }
        Some(((sum / count) as Nanos).max(latest - MOST_MOVED))
    }
    /// The same as of another track, where that is now.
    fn others(&self, index: usize, now: Nanos) -> Option<Nanos> {
        let place = |(_, track): &(_, Track)| Some(track.place()? - track.reports.trusted(now)?);
        self.tracks.iter().enumerate().filter(|(other, _)| *other != index).find_map(|(_, track)| place(track))
    }
}
