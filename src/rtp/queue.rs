//! The bounded queue between the media thread and the crossing thread: what is no packet.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Reports that may wait. Control items always find room; they are few.
const MOST_DROPPABLE: usize = 1024;

/// What may be queued: droppable, or not.
pub(super) trait Item {
    /// Whether it may be dropped when the queue is full.
    fn is_droppable(&self) -> bool;
}

/// Many producers that never wait, one consumer that does.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    droppable: usize,
    dropped: u64,
    consumer_waits: bool,
}

impl<T: Item> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State { items: VecDeque::new(), droppable: 0, dropped: 0, consumer_waits: false };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Queues an item, or drops it and counts it. One that is not urgent does not wake the consumer: a later one will.
    pub(super) fn push(&self, item: T, urgent: bool) {
        let mut state = self.lock();
        if item.is_droppable() {
            if state.droppable >= MOST_DROPPABLE {
                state.dropped += 1;
                return;
            }
            state.droppable += 1;
        }
        state.items.push_back(item);
        if urgent && std::mem::take(&mut state.consumer_waits) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Moves everything that waits into `out`; waits for something for at most `patience`.
    pub(super) fn take_all(&self, out: &mut VecDeque<T>, patience: Duration) {
        let mut state = self.lock();
        if state.items.is_empty() {
            state.consumer_waits = true;
            state = self
                .filled
                .wait_timeout_while(state, patience, |state| state.consumer_waits)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.consumer_waits = false;
        }
        out.append(&mut state.items);
        state.droppable = 0;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Thing {
        Packet(usize),
        Control,
    }

    impl Item for Thing {
        fn is_droppable(&self) -> bool {
            matches!(self, Self::Packet(_))
        }
    }

    #[test]
    fn a_full_queue_drops_packets_and_counts_them_but_keeps_control_items() {
        let queue = Queue::new();
        for number in 0..MOST_DROPPABLE + 10 {
            queue.push(Thing::Packet(number), false);
        }
        queue.push(Thing::Control, true);
        let mut out = VecDeque::new();
        queue.take_all(&mut out, Duration::ZERO);
        assert_eq!((out.len(), out.back(), queue.dropped()), (MOST_DROPPABLE + 1, Some(&Thing::Control), 10));
        queue.push(Thing::Packet(0), false);
        queue.take_all(&mut out, Duration::ZERO);
        assert_eq!((out.len(), queue.dropped()), (MOST_DROPPABLE + 2, 10));
    }

    #[test]
    fn only_an_urgent_item_wakes_the_consumer_and_it_brings_all_the_others() {
        let queue = Queue::new();
        let taken = std::thread::scope(|scope| {
            let consumer = scope.spawn(|| {
                let mut out = VecDeque::new();
                queue.take_all(&mut out, Duration::from_secs(60));
                out
            });
            while !queue.lock().consumer_waits {
                std::thread::yield_now();
            }
            queue.push(Thing::Packet(1), false);
            assert!(queue.lock().consumer_waits);
            queue.push(Thing::Packet(2), true);
            consumer.join()
        });
        assert_eq!(taken.ok(), Some(VecDeque::from([Thing::Packet(1), Thing::Packet(2)])));
    }
}
