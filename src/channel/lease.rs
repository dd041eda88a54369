//! What holds a place in a channel, and gives it up when dropped: for a publisher, and for everybody else.

use tokio::sync::watch;

/// Why a publisher has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displaced {
    /// Another one took its place.
    Replaced,
    /// The channel was stopped.
    Stopped,
}

/// Holds a channel for its publisher; dropping it gives the channel up.
pub struct PublisherLease {
    displaced: watch::Receiver<Option<Displaced>>,
    make_private: Box<dyn Fn() + Send + Sync>,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl PublisherLease {
    /// A lease whose holder is told through `displaced` to go, and which runs `on_drop` once when it goes; `make_private` is
    /// for [`Self::make_private`].
    pub fn new(
        displaced: watch::Receiver<Option<Displaced>>,
        make_private: impl Fn() + Send + Sync + 'static,
        on_drop: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { displaced, make_private: Box::new(make_private), on_drop: Some(Box::new(on_drop)) }
    }

    /// What is published is no broadcast: lists do not show it as one.
    pub fn make_private(&self) {
        (self.make_private)();
    }

    /// Returns when the holder has to go; never, if it may stay. The channel is free for the next once the lease is
    /// dropped.
    pub async fn displaced(&mut self) -> Displaced {
        match self.displaced.wait_for(Option::is_some).await.map(|why| *why) {
            Ok(Some(why)) => why,
            // The registry is gone: nobody can displace the holder any more.
            _ => std::future::pending().await,
        }
    }
}

impl Drop for PublisherLease {
    fn drop(&mut self) {
        if let Some(f) = self.on_drop.take() {
            f();
        }
    }
}

impl std::fmt::Debug for PublisherLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublisherLease")
    }
}

/// Somebody's being there without publishing; dropping it is leaving.
pub struct Presence {
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Presence {
    /// A presence that runs `on_drop` once when it ends.
    pub fn new(on_drop: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { on_drop: Some(Box::new(on_drop)) }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(f) = self.on_drop.take() {
            f();
        }
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presence")
    }
}
