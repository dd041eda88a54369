//! Which RTP time is which instant, and what sender reports say of it (RFC 3550 section 6.4.1). Pure.
//!
//! All that we send is told in this machine's time, whoever the source is: a viewer may get one publisher after another, and
//! reads the round trip out of it.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

/// Seconds from 1900 to 1970 (RFC 3550 section 4).
const TO_1970: u64 = 2_208_988_800;

/// An RTP time and the instant that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockPoint {
    /// As in the packets that are handed over.
    pub rtp_time: u32,
    /// When that was captured, on this machine's clock.
    pub at: Instant,
}

impl ClockPoint {
    /// The RTP time of an instant, before or after.
    pub(super) fn rtp_at(self, now: Instant, clock_rate: u32) -> u32 {
        let later = now.saturating_duration_since(self.at);
        let earlier = self.at.saturating_duration_since(now);
        self.rtp_time.wrapping_add(ticks(later, clock_rate)).wrapping_sub(ticks(earlier, clock_rate))
    }
}

fn ticks(duration: Duration, clock_rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32 // modulo 2^32, as RTP time is
}

/// An instant as an NTP timestamp, 32.32 fixed point.
pub(super) fn ntp(at: Instant) -> u64 {
    let (start, wall) = wall_clock();
    let since_1970 = wall + at.saturating_duration_since(start);
    let since_1970 = since_1970.saturating_sub(start.saturating_duration_since(at));
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    ((since_1970.as_secs() + TO_1970) << 32) | fraction
}

/// An instant and how long after 1970 that was. The wall clock is read once: its jumps are not ours.
fn wall_clock() -> (Instant, Duration) {
    static START: LazyLock<(Instant, Duration)> = LazyLock::new(|| {
        (Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    });
    #[cfg(test)]
    if let Some(clock) = crate::session::simulation::wall_clock() {
        return clock;
    }
    *START
}

/// The round trip that a reception report tells of: `last` is the middle of the NTP time of the report that it answers,
/// `delay` how long the peer took, both in 1/65536 s.
pub(super) fn round_trip(last: u32, delay: u32, now: Instant) -> Option<Duration> {
    if last == 0 {
        return None; // it has had no report of ours
    }
    let middle = (ntp(now) >> 16) as u32;
    let units = middle.wrapping_sub(last).wrapping_sub(delay);
    // Negative if the peer's clock ran a little faster meanwhile; nonsense beyond that.
    let units = if units.cast_signed() < 0 { 0 } else { units };
    let trip = Duration::from_secs(1).mul_f64(f64::from(units) / 65_536.0);
    (trip < Duration::from_secs(30)).then_some(trip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_time_runs_both_ways_from_a_point() {
        let now = Instant::now();
        let point = ClockPoint { rtp_time: 5, at: now };
        assert_eq!(point.rtp_at(now + Duration::from_secs(2), 90_000), 180_005);
        assert_eq!(point.rtp_at(now - Duration::from_millis(1), 90_000), 5_u32.wrapping_sub(90));
    }

    #[test]
    fn a_report_that_was_answered_tells_the_round_trip() {
        let sent = Instant::now();
        let last = (ntp(sent) >> 16) as u32;
        let held = 65_536 / 10; // 100 ms
        let trip = round_trip(last, held, sent + Duration::from_millis(130)).unwrap();
        assert!(trip.abs_diff(Duration::from_millis(30)) < Duration::from_millis(1), "{trip:?}");
        assert_eq!(round_trip(last, held, sent + Duration::from_millis(99)), Some(Duration::ZERO));
        assert_eq!(round_trip(0, 0, sent), None);
        assert_eq!(round_trip(last.wrapping_sub(60 << 16), 0, sent), None, "nonsense");
    }

    #[test]
    fn ntp_time_is_of_this_century_and_runs_as_instants_do() {
        let now = Instant::now();
        assert!(ntp(now) >> 32 > TO_1970 + 1_600_000_000);
        let later = ntp(now + Duration::from_millis(1500)) - ntp(now);
        assert!(later.abs_diff(3 << 31) < 16, "{later}");
    }
}
