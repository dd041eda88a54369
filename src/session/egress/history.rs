//! What was sent lately of one source, once for all its viewers: where repairs come from.
//!
//! Each viewer numbers packets its own way and remembers which stored one each number was. Payloads are shared, not copied.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// Two seconds of 10 Mbit/s. What is asked for later comes too late to be shown.
const MOST_PACKETS: usize = 2048;
/// So that a source of huge packets does not take more memory than one of usual ones.
const MOST_BYTES: usize = 4 << 20;

/// The last payloads of a source.
#[derive(Debug, Default)]
pub struct History {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The key of the oldest that is still there.
    first: u64,
    bytes: usize,
    payloads: VecDeque<Bytes>,
}

impl History {
    /// The key of a packet without a payload.
    pub const NOTHING: u64 = u64::MAX;

    /// Keeps a payload for a while; returns the key that it is found by.
    pub fn store(&self, payload: Bytes) -> u64 {
        let mut ring = self.lock();
        ring.bytes += payload.len();
        ring.payloads.push_back(payload);
        while ring.payloads.len() > MOST_PACKETS || ring.bytes > MOST_BYTES {
            let Some(oldest) = ring.payloads.pop_front() else { break };
            ring.bytes -= oldest.len();
            ring.first += 1;
        }
        (ring.first + ring.payloads.len() as u64).saturating_sub(1)
    }

    /// What was stored with this key, if it is still there.
    pub fn get(&self, key: u64) -> Option<Bytes> {
        if key == Self::NOTHING {
            return Some(Bytes::new());
        }
        let ring = self.lock();
        let index = usize::try_from(key.checked_sub(ring.first)?).ok()?;
        ring.payloads.get(index).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten_and_the_rest_is_shared() {
        let history = History::default();
        let payload = Bytes::from(vec![7; 1000]);
        let keys: Vec<u64> = (0..MOST_PACKETS as u64 + 10).map(|_| history.store(payload.clone())).collect();
        assert_eq!(keys, (0..MOST_PACKETS as u64 + 10).collect::<Vec<_>>());
        assert_eq!(history.get(9), None);
        let found = history.get(10).unwrap();
        assert_eq!(found.as_ptr(), payload.as_ptr());
        assert_eq!(history.get(MOST_PACKETS as u64 + 10), None);
    }

    #[test]
    fn memory_is_bounded_whatever_the_packets_size() {
        let history = History::default();
        let last = (0..100).map(|_| history.store(Bytes::from(vec![0; 65_000]))).last().unwrap();
        assert!(history.lock().bytes <= MOST_BYTES);
        assert!(history.get(last).is_some() && history.get(0).is_none());
    }
}
