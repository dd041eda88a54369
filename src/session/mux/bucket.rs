//! A token bucket: so many at once, so many a second. Pure, time is an argument.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Bucket {
    capacity: u32,
    per_second: u32,
    tokens: u32,
    /// Up to when tokens have been added.
    filled: Option<Instant>,
}

impl Bucket {
    pub(super) const fn new(capacity: u32, per_second: u32) -> Self {
        Self { capacity, per_second, tokens: capacity, filled: None }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let any = self.tokens > 0;
        self.tokens -= u32::from(any);
        any
    }

    fn fill(&mut self, now: Instant) {
        let Some(filled) = self.filled else {
            self.filled = Some(now);
            return;
        };
        let due = now.saturating_duration_since(filled).as_micros() * u128::from(self.per_second) / 1_000_000;
        if due >= u128::from(self.capacity - self.tokens) {
            (self.tokens, self.filled) = (self.capacity, Some(now));
        } else if let Ok(due @ 1..) = u32::try_from(due) {
            self.tokens += due;
            self.filled = Some(filled + Duration::from_secs(1) * due / self.per_second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_then_so_many_a_second() {
        let (mut bucket, start) = (Bucket::new(10, 100), Instant::now());
        let mut taken =
            |from: u64, to: u64| (from..to).filter(|ms| bucket.take(start + Duration::from_millis(*ms))).count();
        assert_eq!(taken(0, 10), 10);
        assert!((98..=101).contains(&taken(10, 1010)), "100 a second, asked every ms");
        assert!((10..=11).contains(&taken(60_000, 60_010)), "no more than the capacity is saved up");
    }

    #[test]
    fn a_clock_that_stands_still_adds_nothing() {
        let (mut bucket, start) = (Bucket::new(2, 1000), Instant::now());
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 2);
    }
}
