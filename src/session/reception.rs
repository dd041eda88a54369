//! How well one RTP stream is received: rates, loss and jitter, as RFC 3550 (appendix A) counts them. Pure.

use std::time::{Duration, Instant};

/// Over how long rates are measured.
const WINDOW: Duration = Duration::from_secs(1);
/// A jump in sequence numbers beyond this is a new beginning, not loss (RFC 3550 appendix A.1).
const MOST_LOST_AT_ONCE: u16 = 3000;

/// How much of something there was in the last second or so.
#[derive(Debug, Default)]
pub(super) struct Rate {
    started: Option<Instant>,
    amount: u64,
    last: Option<u64>,
}

impl Rate {
    pub(super) fn add(&mut self, amount: usize, now: Instant) {
        let started = *self.started.get_or_insert(now);
        let elapsed = now.saturating_duration_since(started);
        if elapsed >= WINDOW {
            self.last = Some(per_second(self.amount, elapsed));
            (self.started, self.amount) = (Some(now), 0);
        }
        self.amount += amount as u64;
    }

    /// What was measured last; in the first second, what there is so far.
    pub(super) fn per_second(&self) -> u64 {
        self.last.unwrap_or(self.amount)
    }

    /// The same at a given time: nothing for a while is nothing.
    pub(super) fn at(&self, now: Instant) -> u64 {
        let Some(started) = self.started else { return 0 };
        let elapsed = now.saturating_duration_since(started);
        if elapsed >= 2 * WINDOW { per_second(self.amount, elapsed) } else { self.per_second() }
    }
}

fn per_second(amount: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from((u128::from(amount) * 1_000_000 + micros / 2) / micros).unwrap_or(u64::MAX)
}

/// Loss and jitter of one stream, behind everything that repairs it.
#[derive(Debug, Default)]
pub(super) struct Reception {
    highest: Option<u16>,
    expected: u64,
    received: u64,
    /// In units of the RTP clock.
    jitter: f64,
    transit: Option<(u32, Instant)>,
}

impl Reception {
    /// A packet has come, for the first time.
    pub(super) fn received(&mut self, sequence: u16, timestamp: u32, clock_rate: u32, now: Instant) {
        self.received += 1;
        let ahead = match self.highest {
            None => 1,
            Some(highest) => sequence.wrapping_sub(highest),
        };
        if ahead >= 0x8000 {
            return; // late, and expected before
        }
        self.expected += if ahead > MOST_LOST_AT_ONCE { 1 } else { u64::from(ahead) };
        self.highest = Some(sequence);
        if let Some((last, at)) = self.transit {
            let sent = f64::from(timestamp.wrapping_sub(last).cast_signed());
            let came = now.saturating_duration_since(at).as_secs_f64() * f64::from(clock_rate);
            // A jump of the sender's clock is no jitter.
            if sent.abs() < f64::from(clock_rate) * 10.0 {
                self.jitter += ((came - sent).abs() - self.jitter) / 16.0;
            }
        }
        self.transit = Some((timestamp, now));
    }

    /// Packets that did not come, and were not made good.
    pub(super) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    /// The jitter of arrival.
    pub(super) fn jitter(&self, clock_rate: u32) -> Duration {
        Duration::try_from_secs_f64(self.jitter / f64::from(clock_rate.max(1))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_what_did_not_come_in_the_end() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        for sequence in [65_534, 65_535, 2, 3, 0] {
            reception.received(sequence, 0, 90_000, now);
        }
        assert_eq!(reception.lost(), 1, "number 1 is missing, 0 came late");
        reception.received(1, 0, 90_000, now);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn a_new_beginning_is_no_loss() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        for sequence in [10, 11, 30_000, 30_001] {
            reception.received(sequence, 0, 90_000, now);
        }
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn a_steady_stream_has_no_jitter_and_an_unsteady_one_has() {
        let start = Instant::now();
        let jitter_of = |late: fn(u32) -> u64| {
            let mut reception = Reception::default();
            for frame in 0..300_u32 {
                let now = start + Duration::from_millis(u64::from(frame) * 20 + late(frame));
                reception.received(frame as u16, frame.wrapping_mul(960).wrapping_sub(5000), 48_000, now);
            }
            reception.jitter(48_000)
        };
        assert_eq!(jitter_of(|_| 0).as_millis(), 0);
        let jitter = jitter_of(|frame| u64::from(frame % 2) * 10).as_millis();
        assert!((8..=10).contains(&jitter), "{jitter} ms");
    }

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for tick in 0..500 {
            rate.add(if tick < 200 { 1250 } else { 2500 }, start + Duration::from_millis(tick * 10));
        }
        let end = start + Duration::from_secs(5);
        assert!((245_000..=255_000).contains(&rate.at(end)), "{}", rate.at(end));
        assert!(rate.at(end + Duration::from_secs(60)) < 5_000, "and ends with the stream");
    }
}
