//! The channels of one process, in memory. What the rules are is `book`'s; here are the lock, the waiting and the timer.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{broadcast, watch},
    time::{Instant as TokioInstant, sleep_until, timeout},
};

pub use super::book::ChannelLimits;
use super::{
    Change, ChannelId, ChannelInfo, Claim, CreateError, Created, Displaced, EnterError, KeyFit, NewChannel, Presence,
    PublishError, PublisherLease, Registry, Visitor,
    book::{Book, Gone, Moment, Place},
};

/// What a publisher gets to end its session when another takes its place.
const LEAVING: Duration = Duration::from_secs(2);

/// Changes that a slow reader may be behind.
const CHANGES: usize = 256;

/// A registry of its own for one server.
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    book: Mutex<Book>,
    changes: broadcast::Sender<Change>,
    /// When the sweeper has to look. Going away, it ends the sweeper.
    deadline: watch::Sender<Option<Instant>>,
}

impl MemoryRegistry {
    /// An empty one. Channels that nobody uses are removed by a task of `runtime`, whose clock counts.
    pub fn new(limits: ChannelLimits, runtime: &Handle) -> Self {
        let (deadline, next) = watch::channel(None);
        let (changes, _) = broadcast::channel(CHANGES);
        let shared = Arc::new(Shared { book: Mutex::new(Book::new(limits)), changes, deadline });
        runtime.spawn(sweep(Arc::downgrade(&shared), next));
        Self { shared }
    }
}

/// Removes each channel when its time has come, so that who listens hears of it then.
async fn sweep(shared: Weak<Shared>, mut next: watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *next.borrow_and_update();
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = next.changed() => if changed.is_err() { return },
            () = due => {
                let Some(shared) = shared.upgrade() else { return };
                shared.with(|book, _| shared.deadline.send_replace(book.next_deadline()));
            }
        }
    }
}

impl Shared {
    /// Does something with what is there now.
    fn with<T>(&self, f: impl FnOnce(&mut Book, Moment) -> T) -> T {
        let now = Moment { at: TokioInstant::now().into_std(), wall: SystemTime::now() };
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.expire(now.at);
        let result = f(&mut book, now);
        let mut effects = book.take_effects();
        // In the order of what happened, so inside; sending never waits.
        for change in effects.changes.drain(..) {
            let _ = self.changes.send(change); // nobody may listen
        }
        let deadline = book.next_deadline();
        // Deadlines move away with every sign of life; the sweeper looks again when it wakes.
        self.deadline.send_if_modified(|planned| {
            let sooner = deadline.is_some_and(|deadline| planned.is_none_or(|planned| deadline < planned));
            if sooner {
                *planned = deadline;
            }
            sooner
        });
        drop(book);
        drop(effects); // what it holds may come back here
        result
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn create(&self, channel: NewChannel) -> Result<Created, CreateError> {
        self.shared.with(|book, now| book.create(channel, now))
    }

    async fn list(&self) -> Vec<ChannelInfo> {
        self.shared.with(|book, _| book.list())
    }

    async fn get(&self, id: &ChannelId) -> Option<ChannelInfo> {
        self.shared.with(|book, _| book.get(id))
    }

    async fn key_fits(&self, id: &ChannelId, key: Option<&str>) -> KeyFit {
        self.shared.with(|book, _| book.key_fits(id, key))
    }

    async fn publish(&self, id: &ChannelId, claim: Claim) -> Result<PublisherLease, PublishError> {
        let Place { serial, displaced, here, before } = self.shared.with(|book, now| book.publish(id, claim, now))?;
        let shared = Arc::downgrade(&self.shared);
        let (held, private) = (id.clone(), (shared.clone(), id.clone()));
        let make_private = move || {
            if let Some(shared) = private.0.upgrade() {
                shared.with(|book, _| book.make_private(&private.1, serial));
            }
        };
        let mut lease = PublisherLease::new(displaced, make_private, move || {
            drop(here);
            if let Some(shared) = shared.upgrade() {
                shared.with(|book, now| book.unpublish(&held, serial, now.at));
            }
        });
        tokio::select! {
            // Who was told to go while it waited is no publisher, even if its turn comes at the same moment.
            biased;
            why = lease.displaced() => Err(match why {
                Displaced::Replaced => PublishError::Live,
                Displaced::Stopped => PublishError::Stopped,
            }),
            () = all_gone(before) => Ok(lease),
        }
    }

    async fn enter(&self, id: &ChannelId, visitor: Visitor) -> Result<Presence, EnterError> {
        let serial = self.shared.with(|book, now| book.enter(id, visitor, now))?;
        let shared = Arc::downgrade(&self.shared);
        let id = id.clone();
        Ok(Presence::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.with(|book, now| book.leave(&id, serial, visitor, now.at));
            }
        }))
    }

    async fn touch(&self, id: &ChannelId) {
        self.shared.with(|book, now| book.touch(id, now.at));
    }

    async fn stop(&self, id: &ChannelId) -> bool {
        match self.shared.with(|book, _| book.stop(id)) {
            Some(before) => {
                all_gone(before).await;
                true
            }
            None => false,
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}

/// Returns when all have gone, or have been given the time for it.
async fn all_gone(before: Vec<Gone>) {
    let gone = async {
        for mut gone in before {
            while gone.changed().await.is_ok() {}
        }
    };
    let _ = timeout(LEAVING, gone).await; // who does not go must not hold up the next
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
