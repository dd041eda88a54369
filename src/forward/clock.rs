//! A publisher's clock told in this machine's time, so that what viewers get is in sync whoever sends it. Pure.

use std::time::{Duration, Instant};

use crate::session::{ClockPoint, SenderReport};

/// A report that is further from the others' clock than this begins a new one: the publisher's wall clock was set.
const MOST_JUMP: Duration = Duration::from_secs(10);

/// What the sender reports of one publisher say, all tracks together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PublisherClock {
    /// A time of the publisher's clock, and when it is taken to have been here. All its tracks share it: what it is off by
    /// is the same for all.
    base: Option<(u64, Instant)>,
}

impl PublisherClock {
    /// The instant that a report's RTP time belongs to.
    pub(super) fn report(&mut self, report: &SenderReport) -> ClockPoint {
        let at = self.base.and_then(|base| moved(base, report.ntp_time)).filter(|at| {
            let off = at.saturating_duration_since(report.arrival).max(report.arrival.saturating_duration_since(*at));
            off < MOST_JUMP
        });
        let at = at.unwrap_or_else(|| {
            self.base = Some((report.ntp_time, report.arrival));
            report.arrival
        });
        ClockPoint { rtp_time: report.rtp_time, at }
    }
}

fn moved((ntp, at): (u64, Instant), to: u64) -> Option<Instant> {
    let by = to.wrapping_sub(ntp).cast_signed();
    let seconds = (by.unsigned_abs() >> 32) as u32;
    let fraction = ((by.unsigned_abs() & 0xFFFF_FFFF) * 1_000_000_000) >> 32;
    let by_duration = Duration::new(u64::from(seconds), fraction as u32);
    if by < 0 { at.checked_sub(by_duration) } else { at.checked_add(by_duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ntp_ms: u64, rtp_time: u32, arrival: Instant) -> SenderReport {
        SenderReport { ssrc: 1, ntp_time: (ntp_ms << 32) / 1000, rtp_time, arrival }
    }

    #[test]
    fn tracks_of_a_publisher_keep_the_distance_that_its_clock_says() {
        let (mut clock, now) = (PublisherClock::default(), Instant::now());
        let video = clock.report(&report(5_000_000, 900, now));
        let audio = clock.report(&report(5_000_100, 480, now + Duration::from_millis(250)));
        assert_eq!(video, ClockPoint { rtp_time: 900, at: now });
        let apart = audio.at - video.at;
        assert!(apart.abs_diff(Duration::from_millis(100)) < Duration::from_micros(1), "not when it came: {apart:?}");
        let before = clock.report(&report(4_999_900, 0, now + Duration::from_millis(300)));
        assert!((video.at - before.at).abs_diff(Duration::from_millis(100)) < Duration::from_micros(1));
    }

    #[test]
    fn a_clock_that_was_set_begins_anew() {
        let (mut clock, now) = (PublisherClock::default(), Instant::now());
        clock.report(&report(5_000_000, 0, now));
        let later = now + Duration::from_secs(1);
        assert_eq!(clock.report(&report(9_000_000_000, 7, later)), ClockPoint { rtp_time: 7, at: later });
    }
}
