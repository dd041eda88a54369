//! What has happened on `/ws`, for the server's metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use utoipa::ToSchema;

/// Counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    open: AtomicU64,
    opened: AtomicU64,
    turned_away: AtomicU64,
    refused: AtomicU64,
    too_slow: AtomicU64,
    floods: AtomicU64,
    idle: AtomicU64,
}

/// At one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SocketCounts {
    /// Connections now.
    pub(crate) open: u64,
    /// Connections so far.
    pub(crate) opened: u64,
    /// Connections that there was no room for.
    pub(crate) turned_away: u64,
    /// Messages that were answered by an error.
    pub(crate) refused: u64,
    /// Connections that were closed because they did not read.
    pub(crate) too_slow: u64,
    /// Connections that were closed because they sent too much.
    pub(crate) floods: u64,
    /// Connections that were closed because nothing was heard.
    pub(crate) idle: u64,
}

impl Counters {
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
        self.opened.fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn too_slow(&self) {
        self.too_slow.fetch_add(1, Relaxed);
    }

    pub(super) fn flood(&self) {
        self.floods.fetch_add(1, Relaxed);
    }

    pub(super) fn idle(&self) {
        self.idle.fetch_add(1, Relaxed);
    }

    pub(super) fn counts(&self) -> SocketCounts {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        SocketCounts {
            open: read(&self.open),
            opened: read(&self.opened),
            turned_away: read(&self.turned_away),
            refused: read(&self.refused),
            too_slow: read(&self.too_slow),
            floods: read(&self.floods),
            idle: read(&self.idle),
        }
    }
}
