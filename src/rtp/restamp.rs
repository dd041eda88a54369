//! Behind a jitter buffer: what comes out of it in order gets the timestamps of the session's common clock.
//!
//! The jitter buffer keeps its own idea of time to tell when a packet is lost; its timestamps go no further than here.
//! What they should be is decided in `sync`. Packets that are padding and nothing else end here too.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use gst::prelude::*;

use super::{
    packet::{HEADER, header},
    sync::{Nanos, Report, Stamp, Sync, SyncStats},
};
use crate::session::{SenderReport, Track};

/// The running time of one moment, from which that of any other follows.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) running_time: gst::ClockTime,
}

impl Now {
    pub(super) fn running_time_at(self, earlier: Instant) -> gst::ClockTime {
        let age = self.instant.saturating_duration_since(earlier);
        let age = gst::ClockTime::from_nseconds(u64::try_from(age.as_nanos()).unwrap_or(0));
        self.running_time.saturating_sub(age)
    }
}

/// The one clock of a session's tracks, used by the crossing thread and the jitter buffers' threads.
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

    fn stamp(&self, track: usize, ssrc: u32, rtp_time: u32, arrival: gst::ClockTime) -> Option<Stamp> {
        self.lock().stamp(track, ssrc, rtp_time, nanos(arrival))
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

/// What has come out of a jitter buffer, for those in front of it.
#[derive(Default)]
pub(super) struct Passed {
    /// Running time in ns at which the newest packet that came out had come in.
    pub(super) arrival: AtomicU64,
    /// Packets without a payload.
    pub(super) padding: AtomicU64,
}

/// Gives what leaves this pad of a jitter buffer the timestamps of the clock.
pub(super) fn restamp(pad: &gst::Pad, clock: Arc<SessionClock>, track: usize, passed: Arc<Passed>) {
    let state = Mutex::new(Restamp { clock, track, passed, removed: 0, discontinuity: false, shift: None });
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(types, move |_, info| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = info.event_mut() {
            state.event(event);
            return gst::PadProbeReturn::Ok;
        }
        let kept = info.buffer_mut().and_then(|buffer| state.packet(buffer.make_mut()));
        if kept.is_some() { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop }
    });
}

struct Restamp {
    clock: Arc<SessionClock>,
    track: usize,
    passed: Arc<Passed>,
    /// Packets that have been taken out: depayloaders would miss their sequence numbers.
    removed: u16,
    /// A removed packet had the flag.
    discontinuity: bool,
    /// What the last timestamp was moved by, in ns.
    shift: Option<i64>,
}

impl Restamp {
    /// `None` if the packet is not to go on.
    fn packet(&mut self, buffer: &mut gst::BufferRef) -> Option<()> {
        // The jitter buffer leaves the arrival time where it found it.
        let arrival = buffer.dts().or_else(|| buffer.pts())?;
        self.passed.arrival.fetch_max(arrival.nseconds(), Relaxed);
        let mut bytes = [0; HEADER];
        buffer.copy_to_slice(0, &mut bytes).ok()?;
        let header = header(&bytes);
        if buffer.size() == HEADER {
            self.passed.padding.fetch_add(1, Relaxed);
            self.removed = self.removed.wrapping_add(1);
            self.discontinuity |= buffer.flags().contains(gst::BufferFlags::DISCONT);
            return None;
        }
        if self.removed != 0 {
            let number = header.sequence_number.wrapping_sub(self.removed);
            buffer.copy_from_slice(2, &number.to_be_bytes()).ok()?;
        }
        if std::mem::take(&mut self.discontinuity) {
            buffer.set_flags(gst::BufferFlags::DISCONT);
        }
        let stamp = self.clock.stamp(self.track, header.ssrc, header.timestamp, arrival)?;
        self.shift = buffer.pts().map(|pts| (stamp.pts as i64).saturating_sub(nanos(pts)));
        buffer.set_pts(gst::ClockTime::from_nseconds(stamp.pts));
        buffer.set_dts(gst::ClockTime::from_nseconds(stamp.dts));
        Some(())
    }

    /// Losses are told in the jitter buffer's time; concealment happens in ours.
    fn event(&self, event: &mut gst::Event) {
        let Some(shift) = self.shift else { return };
        let lost = event.structure().filter(|structure| structure.name() == "GstRTPPacketLost");
        let Some(timestamp) = lost.and_then(|lost| lost.get::<u64>("timestamp").ok()) else { return };
        event.make_mut().structure_mut().set("timestamp", timestamp.saturating_add_signed(shift));
    }
}
