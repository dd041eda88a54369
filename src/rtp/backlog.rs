//! Bounds what waits in a jitter buffer, in time, packets and bytes. Pure.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::restamp::Passed;

/// Beyond its latency, the jitter buffer may hold so much while threads are slow, in ns.
const BACKLOG_SLACK: u64 = 1_000_000_000;
/// So much more may wait, in ns, while downstream is blocked.
const BACKLOG: u64 = 2_000_000_000;
/// And no more packets than this: 20 Mbit/s for as long as the above.
const MOST_PACKETS: usize = 8192;
/// And no more bytes: 40 Mbit/s for as long.
const MOST_BYTES: usize = 16 << 20;

/// How much the jitter buffer holds. It takes packets without limit while downstream is blocked.
#[derive(Default)]
pub(super) struct Backlog {
    /// Running time in ns of the newest packet that went in.
    newest: u64,
    /// The same of the newest that was not padding only.
    newest_media: u64,
    /// What came out.
    passed: Arc<Passed>,
    /// In ns, what the jitter buffer may hold for a lost packet.
    latency: u64,
    /// Running time in ns and size of packets that may still be in there.
    inside: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Backlog {
    /// For a jitter buffer of this latency in ms.
    pub(super) fn new(latency: u32, passed: Arc<Passed>) -> Self {
        Self { latency: u64::from(latency) * 1_000_000, passed, ..Self::default() }
    }

    /// Whether a packet of this time and size still finds room; if so it counts as gone in.
    pub(super) fn admit(&mut self, time: u64, size: usize) -> bool {
        if self.newest == 0 {
            self.passed.arrival.fetch_max(time, Relaxed);
        }
        let passed = self.passed.arrival.load(Relaxed);
        // What came before something that has come out is out as well, or was dropped.
        while let Some(&(first, size)) = self.inside.front() {
            if first > passed && first + self.longest() > time {
                break;
            }
            self.bytes -= size;
            self.inside.pop_front();
        }
        // A pause of the sender is no backlog: then everything that went in has come out.
        let holds = passed + self.latency + BACKLOG_SLACK;
        let late = self.newest > holds && time > holds + BACKLOG;
        let full = late || self.inside.len() >= MOST_PACKETS || self.bytes + size > MOST_BYTES;
        if !full {
            self.newest = self.newest.max(time);
            if size > 0 {
                self.newest_media = self.newest_media.max(time);
            }
            self.inside.push_back((time, size));
            self.bytes += size;
        }
        !full
    }

    /// Whether all media has come out, or has had its time to.
    pub(super) fn is_empty(&self, now: u64) -> bool {
        self.passed.arrival.load(Relaxed) >= self.newest_media || self.newest_media + self.longest() < now
    }

    /// How long a packet may be inside, in ns.
    fn longest(&self) -> u64 {
        self.latency + BACKLOG_SLACK + BACKLOG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_blocked_downstream_is_a_bounded_backlog_and_a_pause_is_none() {
        let mut backlog = Backlog::new(200, Arc::default());
        assert!(backlog.admit(100 * SECOND, 1));
        backlog.passed.arrival.store(100 * SECOND, Relaxed);
        assert!(backlog.admit(200 * SECOND, 1), "after a pause of the sender");
        assert!(!backlog.is_empty(203 * SECOND));
        assert!(backlog.is_empty(204 * SECOND), "it was dropped");
        backlog.passed.arrival.store(200 * SECOND, Relaxed);
        assert!(backlog.is_empty(200 * SECOND));
        assert!(backlog.admit(200 * SECOND + 1, 0));
        assert!(backlog.is_empty(200 * SECOND), "padding is nothing to wait for");
        let admitted = (0..100).take_while(|tenth| backlog.admit(200 * SECOND + tenth * SECOND / 10, 1)).count();
        assert_eq!(admitted, 33); // 200 ms latency, 1 s slack, 2 s backlog
        backlog.passed.arrival.store(203 * SECOND, Relaxed);
        assert!(backlog.admit(210 * SECOND, 1), "downstream goes on");
    }

    #[test]
    fn a_flood_is_bounded_in_packets_and_bytes_and_forgotten_when_it_is_over() {
        for (size, expected) in [(100, MOST_PACKETS), (60_000, MOST_BYTES / 60_000)] {
            let mut backlog = Backlog::new(200, Arc::default());
            let start = 100 * SECOND;
            backlog.admit(start, 0);
            let admitted = (1..20_000).filter(|number| backlog.admit(start + number, size)).count();
            assert_eq!(admitted, expected);
            // The jitter buffer has dropped them all: nothing ever comes out.
            assert!(backlog.admit(start + 4 * SECOND, size));
            assert_eq!((backlog.inside.len(), backlog.bytes), (1, size));
        }
    }
}
