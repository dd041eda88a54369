//! What a shared port counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one shared port, since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MuxStats {
    /// Datagrams received.
    pub received: u64,
    /// Of these, dropped because they belong to no session.
    pub unknown: u64,
    /// Of these, STUN requests whose integrity did not hold.
    pub forged: u64,
    /// Of these, dropped because the session did not take them in time.
    pub overflowed: u64,
    /// Datagrams that the kernel dropped, as this process did not read them in time; not among those received. At least so many,
    /// and on Linux only.
    pub unread: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that the kernel had no room for.
    pub send_dropped: u64,
    /// Handshake datagrams sent again.
    pub repeated: u64,
    /// Sessions whose peer went on from another address.
    pub rebinds: u64,
    /// Connectivity checks not sent, because their address has not answered and had enough of them.
    pub checks_held: u64,
}

/// The same while they count.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) forged: AtomicU64,
    pub(super) overflowed: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) send_dropped: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) rebinds: AtomicU64,
    pub(super) checks_held: AtomicU64,
}

impl Counters {
    /// All but what the kernel counts.
    pub(super) fn snapshot(&self) -> MuxStats {
        MuxStats {
            received: self.received.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            forged: self.forged.load(Relaxed),
            overflowed: self.overflowed.load(Relaxed),
            unread: 0,
            sent: self.sent.load(Relaxed),
            send_dropped: self.send_dropped.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            rebinds: self.rebinds.load(Relaxed),
            checks_held: self.checks_held.load(Relaxed),
        }
    }
}
