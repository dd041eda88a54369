//! Bounds what waits in a jitter buffer. Pure.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Beyond its latency, the jitter buffer may hold so much while threads are slow, in ns.
const BACKLOG_SLACK: u64 = 1_000_000_000;
/// So much more may wait, in ns, while downstream is blocked.
const BACKLOG: u64 = 2_000_000_000;

/// How much the jitter buffer holds. It takes packets without limit while downstream is blocked.
#[derive(Default)]
pub(super) struct Backlog {
    /// Running time in ns of the newest packet that went in.
    newest: u64,
    /// The same of the newest that came out.
    passed: Arc<AtomicU64>,
    /// In ns, what the jitter buffer may hold for a lost packet.
    latency: u64,
}

impl Backlog {
    /// For a jitter buffer of this latency in ms.
    pub(super) fn new(latency: u32) -> Self {
        Self { latency: u64::from(latency) * 1_000_000, ..Self::default() }
    }

    /// Where the running time in ns of what comes out is to be noted.
    pub(super) fn passed(&self) -> Arc<AtomicU64> {
        self.passed.clone()
    }

    /// Whether a packet of this time still finds room; if so it counts as gone in.
    pub(super) fn admit(&mut self, time: u64) -> bool {
        if self.newest == 0 {
            self.passed.fetch_max(time, Relaxed);
        }
        let passed = self.passed.load(Relaxed);
        // A pause of the sender is no backlog: then everything that went in has come out.
        let holds = passed + self.latency + BACKLOG_SLACK;
        let full = self.newest > holds && time > holds + BACKLOG;
        if !full {
            self.newest = self.newest.max(time);
        }
        !full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_downstream_is_a_bounded_backlog_and_a_pause_is_none() {
        const SECOND: u64 = 1_000_000_000;
        let mut backlog = Backlog::new(200);
        assert!(backlog.admit(100 * SECOND));
        backlog.passed.store(100 * SECOND, Relaxed);
        assert!(backlog.admit(200 * SECOND), "after a pause of the sender");
        backlog.passed.store(200 * SECOND, Relaxed);
        let admitted = (0..100).take_while(|tenth| backlog.admit(200 * SECOND + tenth * SECOND / 10)).count();
        assert_eq!(admitted, 33); // 200 ms latency, 1 s slack, 2 s backlog
        backlog.passed.store(203 * SECOND, Relaxed);
        assert!(backlog.admit(210 * SECOND), "downstream goes on");
    }
}
