//! What is counted of data channels.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The data channels of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataStats {
    /// Channels that were opened, by either side, and that may be closed again.
    pub opened: u64,
    /// Channels of the peer that were closed at once: too many, or with too long a name.
    pub refused: u64,
    /// Messages, all channels together, closed ones too.
    pub messages_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// Bytes of these.
    pub bytes_received: u64,
    /// Messages that were not sent because there was no room for them, or no channel any more.
    pub dropped: u64,
    /// Messages said to be text that are not UTF-8, and were dropped.
    pub malformed: u64,
    /// Bytes that have come and that no sink has taken yet, about; as of a quarter of a second ago.
    pub held: u64,
    /// The channels that are open, in the order in which they were opened.
    pub channels: Vec<ChannelStats>,
}

/// One open data channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// Its label.
    pub label: String,
    /// Messages sent.
    pub messages_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Messages that came.
    pub messages_received: u64,
    /// Bytes of these.
    pub bytes_received: u64,
    /// Messages that were not sent.
    pub dropped: u64,
    /// Bytes waiting to be sent.
    pub buffered: u64,
}

/// Counters of a channel, or of all.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) messages_sent: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) held: AtomicU64,
}

impl Counts {
    pub(super) fn sent(&self, size: usize) {
        self.messages_sent.fetch_add(1, Relaxed);
        self.bytes_sent.fetch_add(size as u64, Relaxed);
    }

    pub(super) fn received(&self, size: usize) {
        self.messages_received.fetch_add(1, Relaxed);
        self.bytes_received.fetch_add(size as u64, Relaxed);
    }
}
