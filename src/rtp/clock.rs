//! The clock that a session's tracks share, as their threads use it: the policy is in `sync`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::sync::{Nanos, Report, Sync, SyncStats};
use crate::session::{SenderReport, Track};

/// The running time of one moment, from which that of any other follows.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) running_time: gst::ClockTime,
}

impl Now {
    pub(super) fn running_time_at(self, at: Instant) -> gst::ClockTime {
        let nanos = |from: Instant, to: Instant| {
            let between = to.saturating_duration_since(from).as_nanos();
            gst::ClockTime::from_nseconds(u64::try_from(between).unwrap_or(0))
        };
        (self.running_time + nanos(self.instant, at)).saturating_sub(nanos(at, self.instant))
    }
}

/// The one clock of a session's tracks, used by the crossing thread and the tracks' threads.
#[derive(Debug)]
pub struct SessionClock {
    sync: Mutex<Sync>,
}

impl SessionClock {
    /// For these tracks. Timestamps of each go on behind where `floor` says that those of its pad have been.
    pub fn new(tracks: &[Track], floor: impl Fn(usize) -> Option<gst::ClockTime>) -> Arc<Self> {
        let floor = |track: &Track| floor(track.index).and_then(|floor| Nanos::try_from(floor.nseconds()).ok());
        let tracks = tracks.iter().map(|track| (track.kind(), track.codec.clock_rate(), floor(track)));
        Arc::new(Self { sync: Mutex::new(Sync::new(tracks)) })
    }

    pub(super) fn report(&self, track: usize, report: &SenderReport, now: Now) {
        let arrival = nanos(now.running_time_at(report.arrival));
        let SenderReport { ssrc, ntp_time, rtp_time, .. } = *report;
        self.lock().report(track, Report { ssrc, ntp_time, rtp_time, arrival });
    }

    /// PTS and DTS of a packet that came at this running time. Packets are given in the order of their sequence numbers.
    pub(super) fn stamp(
        &self,
        track: usize,
        ssrc: u32,
        rtp_time: u32,
        arrival: gst::ClockTime,
    ) -> Option<(gst::ClockTime, gst::ClockTime)> {
        let stamp = self.lock().stamp(track, ssrc, rtp_time, nanos(arrival))?;
        Some((gst::ClockTime::from_nseconds(stamp.pts), gst::ClockTime::from_nseconds(stamp.dts)))
    }

    /// Where on a track's timestamps a packet would be that comes at this running time and was not held up.
    pub(super) fn expected(&self, track: usize, running_time: gst::ClockTime) -> gst::ClockTime {
        let expected = nanos(running_time).saturating_add(self.lock().ahead(track)).max(0);
        gst::ClockTime::from_nseconds(expected as u64)
    }

    /// Numbers so far.
    pub fn stats(&self) -> SyncStats {
        self.lock().stats()
    }

    fn lock(&self) -> MutexGuard<'_, Sync> {
        self.sync.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: gst::ClockTime) -> Nanos {
    Nanos::try_from(time.nseconds()).unwrap_or(Nanos::MAX / 2)
}
