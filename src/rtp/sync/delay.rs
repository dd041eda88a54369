//! How late a track's packets come: the least delay of the last seconds, and how it changes as two clocks drift apart.
//! Pure.
//!
//! The delay is arrival minus media time. Its absolute value means nothing, the two clocks have different zeros; the
//! least of many is what the network does to a packet that nothing held up.

use std::collections::VecDeque;

use super::{Nanos, SECOND};

/// Packets of so long make the least delay: longer than what holds packets up, and short enough to follow a route that
/// has become slower.
pub(super) const WINDOW: Nanos = 10 * SECOND;

/// The least delay over [`WINDOW`], in steps of a second.
#[derive(Debug, Default)]
pub(super) struct LeastDelay {
    /// Second of arrival and the least delay in it.
    seconds: VecDeque<(i64, Nanos)>,
}

impl LeastDelay {
    pub(super) fn add(&mut self, arrival: Nanos, delay: Nanos) {
        let second = arrival.div_euclid(SECOND);
        match self.seconds.back_mut() {
            // A packet that was recovered comes behind later ones: it is no earlier than they are.
            Some((last, least)) if *last >= second => *least = delay.min(*least),
            _ => self.seconds.push_back((second, delay)),
        }
        while self.seconds.front().is_some_and(|(first, _)| second - first > WINDOW / SECOND) {
            self.seconds.pop_front();
        }
    }

    pub(super) fn least(&self) -> Option<Nanos> {
        self.seconds.iter().map(|(_, least)| *least).min()
    }

    pub(super) fn clear(&mut self) {
        self.seconds.clear();
    }
}

/// One point of the drift's line stands for so long.
const POINT: Nanos = 10 * SECOND;
/// Ten minutes: at 20 ms of jitter the slope is then good to a tenth of a ppm.
const MOST_POINTS: usize = 60;
/// Before that a slope says more of jitter than of clocks.
const LEAST_POINTS: usize = 4;

/// How fast the sender's media clock runs against ours: the slope of the least delays.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Number of the point and the least delay in it.
    points: VecDeque<(i64, Nanos)>,
}

impl Drift {
    pub(super) fn add(&mut self, arrival: Nanos, delay: Nanos) {
        let point = arrival.div_euclid(POINT);
        match self.points.back_mut() {
            Some((last, least)) if *last >= point => *least = delay.min(*least),
            _ => self.points.push_back((point, delay)),
        }
        if self.points.len() > MOST_POINTS {
            self.points.pop_front();
        }
    }

    /// Parts per million by which the sender's clock is faster than ours; `None` until that can be told.
    pub(super) fn ppm(&self) -> Option<f64> {
        // The point that is still being made would count a short time as much as a whole one.
        let whole = self.points.len().checked_sub(1).filter(|whole| *whole >= LEAST_POINTS)?;
        let &(first, zero) = self.points.front()?;
        let points = || {
            self.points
                .iter()
                .take(whole)
                .map(move |(at, delay)| (((at - first) * (POINT / SECOND)) as f64, (delay - zero) as f64))
        };
        let count = whole as f64;
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), (at, delay)| (x + at, y + delay));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (above, below) = points().fold((0.0, 0.0), |(above, below), (at, delay)| {
            (above + (at - mean_x) * (delay - mean_y), below + (at - mean_x) * (at - mean_x))
        });
        // ns a second; a fast clock's packets seem to come ever earlier.
        (below > 0.0).then(|| -above / below / 1000.0)
    }

    pub(super) fn clear(&mut self) {
        self.points.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_delay_follows_at_once_downwards_and_after_the_window_upwards() {
        let mut delay = LeastDelay::default();
        assert_eq!(delay.least(), None);
        delay.add(0, 50);
        delay.add(SECOND, 40);
        assert_eq!(delay.least(), Some(40));
        for second in 2..=11 {
            delay.add(second * SECOND, 90);
        }
        assert_eq!(delay.least(), Some(40));
        delay.add(12 * SECOND, 90);
        assert_eq!(delay.least(), Some(90));
    }

    #[test]
    fn a_fast_clock_has_a_positive_drift_that_is_told_after_a_while() {
        let mut drift = Drift::default();
        for second in 0..300 {
            // 100 ppm fast: each second of ours brings 100 µs more of media.
            drift.add(second * SECOND, -second * 100_000 + (second * 7919) % 3 * 5_000_000);
            assert_eq!(drift.ppm().is_some(), second >= 40, "after {second} s");
        }
        let ppm = drift.ppm().unwrap();
        assert!((ppm - 100.0).abs() < 1.0, "{ppm}");
    }
}
