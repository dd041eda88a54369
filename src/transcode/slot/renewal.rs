//! When an encoder that takes a bitrate only as it starts is replaced for the sake of one. Pure; time is an argument.
//!
//! Each time costs a keyframe and the pictures that were in it. Too much waits in somebody's queue and is not borne for long;
//! too little only looks worse; and a small difference has time.

use std::time::{Duration, Instant};

/// By so much too much, or too little, is worth it soon.
const MUCH_LESS: f64 = 0.8;
const MUCH_MORE: f64 = 1.25;
/// How old an encoder has to be for each: an estimate that fell may fall on, and one that rises does so for some seconds.
const LESS: Duration = Duration::from_secs(1);
const MORE: Duration = Duration::from_secs(3);
const ANY: Duration = Duration::from_secs(10);

/// What the present encoder makes, and what it should.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    present: Option<(u32, Instant)>,
    wanted: Option<u32>,
}

impl Renewal {
    /// An encoder starts with this bitrate.
    pub(super) fn begins(&mut self, bitrate: u32, now: Instant) {
        *self = Self { present: Some((bitrate, now)), wanted: None };
    }

    /// This one only the next encoder takes.
    pub(super) fn wants(&mut self, bitrate: u32) {
        self.wanted = Some(bitrate);
    }

    /// Whether that shall be there now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let (Some((present, since)), Some(wanted)) = (self.present, self.wanted) else { return false };
        let share = f64::from(wanted) / f64::from(present.max(1));
        let age = match () {
            () if share < MUCH_LESS => LESS,
            () if share > MUCH_MORE => MORE,
            () if wanted != present => ANY,
            () => return false,
        };
        now.saturating_duration_since(since) >= age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often an encoder is replaced that is told these bitrates, one each 400 ms; and the last one's bitrate.
    fn renewals(bitrates: impl Iterator<Item = u32>) -> (usize, u32) {
        let (mut renewal, mut now, mut count, mut present) = (Renewal::default(), Instant::now(), 0, 2_000_000);
        renewal.begins(present, now);
        for bitrate in bitrates {
            now += Duration::from_millis(400);
            renewal.wants(bitrate);
            if renewal.is_due(now) {
                renewal.begins(bitrate, now);
                (count, present) = (count + 1, bitrate);
            }
        }
        (count, present)
    }

    #[test]
    fn much_less_comes_within_three_seconds_and_back_within_ten() {
        let steps = |count| std::iter::repeat_n(400_000, count);
        assert_eq!(renewals(steps(5)), (1, 400_000), "two seconds");
        let back = steps(10).chain((0..24).map(|step| (400_000.0 * 1.5_f64.powi(step)).min(2_000_000.0) as u32));
        let (count, present) = renewals(back);
        assert_eq!(present, 2_000_000, "within ten seconds");
        assert!(count <= 4, "{count} times, not with every step");
    }

    #[test]
    fn what_varies_a_little_costs_an_encoder_seldom_and_what_stays_is_there_in_the_end() {
        let (count, _) = renewals((0..150).map(|step| if step % 2 == 0 { 1_900_000 } else { 2_150_000 }));
        assert!(count <= 6, "{count} times a minute");
        assert_eq!(renewals(std::iter::repeat_n(2_100_000, 60)), (1, 2_100_000));
        assert_eq!(renewals(std::iter::repeat_n(2_000_000, 100)).0, 0);
    }
}
