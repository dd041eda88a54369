//! What waits to be written to one connection: bounded, so that who does not read costs only himself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::{CloseFrame, Utf8Bytes};
use tokio::sync::Notify;

/// A burst of everybody's candidates in a full channel is some 300 messages.
const MOST_MESSAGES: usize = 1024;
/// Some eight of the largest.
const MOST_BYTES: usize = 512 * 1024;

/// Where messages for one connection are put; never waits.
#[derive(Clone, Default)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

/// Where they are taken out, in order.
pub(super) struct Outgoing {
    shared: Arc<Shared>,
}

/// What to write next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Message(Utf8Bytes),
    /// Everything has been written; this is the end.
    Close(CloseFrame),
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
    overflow: Notify,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Utf8Bytes>,
    bytes: usize,
    overflown: bool,
    close: Option<CloseFrame>,
}

/// Both ends of a new one.
pub(super) fn outbox() -> (Outbox, Outgoing) {
    let outbox = Outbox::default();
    let outgoing = Outgoing { shared: outbox.shared.clone() };
    (outbox, outgoing)
}

impl Outbox {
    /// Adds a message, unless the end has been told already.
    pub(super) fn push(&self, message: Utf8Bytes) {
        let mut queue = self.shared.lock();
        if queue.overflown || queue.close.is_some() {
            return;
        }
        queue.bytes += message.len();
        queue.messages.push_back(message);
        if queue.messages.len() > MOST_MESSAGES || queue.bytes > MOST_BYTES {
            *queue = Queue { overflown: true, ..Queue::default() };
            self.shared.overflow.notify_one();
        }
        drop(queue);
        self.shared.more.notify_one();
    }

    /// Returns when the other side has not been reading for too long: what waited is lost.
    pub(super) async fn overflown(&self) {
        self.shared.overflow.notified().await;
    }

    /// Nothing more will come; what waits is still written.
    pub(super) fn close(&self, frame: CloseFrame) {
        self.shared.lock().close.get_or_insert(frame);
        self.shared.more.notify_one();
    }
}

impl Outgoing {
    /// What to write next; to be called by one.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.shared.lock().take() {
                return next;
            }
            self.shared.more.notified().await;
        }
    }
}

impl Queue {
    fn take(&mut self) -> Option<Next> {
        match self.messages.pop_front() {
            Some(message) => {
                self.bytes -= message.len();
                Some(Next::Message(message))
            }
            None => self.close.clone().map(Next::Close),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Outgoing {
    /// What waits.
    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(Next::Message(message)) = self.shared.lock().take() {
            all.push(message.as_str().to_owned());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn messages_come_out_in_order_and_before_the_end() {
        let (outbox, mut outgoing) = outbox();
        outbox.push("a".into());
        outbox.push("b".into());
        outbox.close(CloseFrame { code: 1000, reason: "over".into() });
        outbox.push("late".into());
        assert_eq!(outgoing.next().await, Next::Message("a".into()));
        assert_eq!(outgoing.next().await, Next::Message("b".into()));
        assert!(matches!(outgoing.next().await, Next::Close(frame) if frame.code == 1000));
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off_by_number_and_by_size() {
        for (size, fits) in [(1, MOST_MESSAGES), (64 * 1024, MOST_BYTES / (64 * 1024))] {
            let (outbox, mut outgoing) = outbox();
            let message = Utf8Bytes::from("x".repeat(size));
            for _ in 0..fits {
                outbox.push(message.clone());
            }
            assert!(matches!(outgoing.next().await, Next::Message(_)), "{size}");
            outbox.push(message.clone());
            assert!(timeout(Duration::ZERO, outbox.overflown()).await.is_err(), "{size}: it has room again");
            outbox.push(message.clone());
            outbox.overflown().await;
            outbox.push(message);
            assert!(outgoing.drain().is_empty(), "nothing is kept for who does not read");
        }
    }

    #[tokio::test]
    async fn a_message_wakes_who_waits_for_it() {
        let (outbox, mut outgoing) = outbox();
        let waiting = tokio::spawn(async move { outgoing.next().await });
        tokio::task::yield_now().await;
        outbox.push("a".into());
        assert_eq!(waiting.await.unwrap(), Next::Message("a".into()));
    }
}
