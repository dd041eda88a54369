//! Tells a stalled connection from a slow or an idle one by the bytes that left. Pure.

use std::time::{Duration, Instant};

/// Watches one connection.
#[derive(Debug)]
pub struct Watchdog {
    timeout: Duration,
    bytes: u64,
    progress: Instant,
}

impl Watchdog {
    /// Starts watching at `now`.
    pub fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, bytes: 0, progress: now }
    }

    /// Whether the connection is stalled: data was `waiting` all the time and `bytes` did not grow for the timeout.
    pub fn is_stalled(&mut self, bytes: u64, waiting: bool, now: Instant) -> bool {
        if bytes != self.bytes || !waiting {
            self.bytes = bytes;
            self.progress = now;
        }
        now.duration_since(self.progress) >= self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn stalled_only_when_data_waits_and_no_byte_leaves() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(8 * S, start);
        assert!(!watchdog.is_stalled(100, true, start + S));
        assert!(!watchdog.is_stalled(100, true, start + 8 * S));
        assert!(watchdog.is_stalled(100, true, start + 9 * S));
    }

    #[test]
    fn slow_and_idle_are_not_stalled() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(8 * S, start);
        assert!(!watchdog.is_stalled(1, true, start + 7 * S));
        assert!(!watchdog.is_stalled(2, true, start + 14 * S));
        assert!(!watchdog.is_stalled(2, false, start + 60 * S));
        assert!(!watchdog.is_stalled(2, true, start + 61 * S));
    }
}
