//! The half of a session that sends: packets in, RTP and RTCP to one peer out, and what the peer says of them.
//!
//! An [`Outlet`] takes packets from anywhere and hands them to an interceptor next to the wire, which numbers, paces and
//! repeats them: through the stack's tracks each would go by all interceptors, to be paced and kept for repairs there anew.
//! Which packets a peer gets is decided by whoever feeds the outlet (`forward`, or an element's payloaders); what was sent of
//! a source is kept in one [`History`] for all its peers.

mod clock;
mod estimate;
mod history;
mod interceptor;
mod numbers;
mod pacing;
mod repeats;
mod sending;
mod stream;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::watch;

pub use {clock::ClockPoint, history::History, sending::SendStats, sending::SendTrackStats};
use {interceptor::EgressTap, sending::Sending};
pub(super) use {interceptor::slot, stream::Wire};

use super::{mux::MuxHandle, sender::Extensions};
use crate::{codec::Renumbered, session::time};

/// A packet to be sent. SSRC, payload type and sequence number are the session's.
#[derive(Clone, Debug)]
pub struct OutgoingPacket {
    /// Its place among all that is handed over: the next one of a stream has the next number. A number that is not used is a
    /// loss, which the peer sees. Packets may come out of order.
    pub number: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The last packet of its picture.
    pub marker: bool,
    /// The first packet of a picture that decoding can begin with.
    pub starts_keyframe: bool,
    /// What it carries.
    pub payload: Bytes,
    /// Its dependency descriptor; goes out where the peer takes it.
    pub dependencies: Option<Bytes>,
    /// Its key in the track's [`History`].
    pub stored: u64,
    /// The numbers of its picture, where they are not those of the payload.
    pub renumbered: Option<Renumbered>,
}

/// Is told what a session's sending half wants. Called on the media thread with the connection locked: hand over and return,
/// never block, never call back into the session.
pub trait SendEvents: Send + Sync + 'static {
    /// What is handed over reaches the peer from now on.
    fn ready(&self);

    /// The peer needs a keyframe of this track: it says so, or pictures were left out.
    fn keyframe_wanted(&self, track: usize);
}

/// Where packets are handed over to be sent. It does not keep the session alive; after its end they go nowhere.
#[derive(Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
}

/// What the outlet and the interceptor share.
pub(super) struct Shared {
    sending: Mutex<Sending>,
    /// There is something to do in the connection's next turn.
    pending: AtomicBool,
    routes: OnceLock<MuxHandle>,
    events: Arc<dyn SendEvents>,
    estimate: watch::Sender<Option<u64>>,
}

impl Outlet {
    /// For the streams by the index of their track, `None` for those that are not sent. `cname` groups them.
    pub(super) fn new(streams: Vec<Option<Wire>>, cname: &str, events: Arc<dyn SendEvents>) -> Self {
        let shared = Shared {
            sending: Mutex::new(Sending::new(streams, cname)),
            pending: AtomicBool::new(false),
            routes: OnceLock::new(),
            events,
            estimate: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The interceptor that sends what is handed over.
    pub(super) fn tap(&self) -> EgressTap {
        EgressTap::new(self.shared.clone())
    }

    /// The connection to wake; called once.
    pub(super) fn wakes(&self, routes: MuxHandle) {
        let _ = self.shared.routes.set(routes);
    }

    /// The answer to our own offer is known: the streams by the index of their track. Before anything is handed over.
    pub(super) fn agreed(&self, streams: Vec<Option<Wire>>) {
        self.shared.lock().agreed(streams);
    }

    /// The answer is known: which header extensions there are, by track.
    pub(super) fn extended(&self, extensions: impl IntoIterator<Item = (usize, Extensions)>) {
        let mut sending = self.shared.lock();
        for (track, extensions) in extensions {
            sending.extended(track, extensions);
        }
    }

    /// Where the packets of a track are kept for repairs; before the first of them.
    pub fn keep_in(&self, track: usize, history: Arc<History>) {
        self.shared.lock().keep_in(track, history);
    }

    /// Which timestamp of a track is which time. Tracks of one clock stay in sync at the peer.
    pub fn set_clock(&self, track: usize, clock: ClockPoint) {
        // No turn of its own: a report goes out with what is sent next.
        self.shared.lock().set_clock(track, clock);
    }

    /// Hands over packets of a track. Those of video may be dropped up to the next keyframe if the peer's network does not
    /// take them; then one is asked for.
    pub fn send(&self, track: usize, packets: impl IntoIterator<Item = OutgoingPacket>) {
        let now = time::now();
        let mut sending = self.shared.lock();
        let mut skipped = false;
        for packet in packets {
            skipped |= sending.push(track, packet, now);
        }
        drop(sending);
        if skipped {
            self.shared.events.keyframe_wanted(track);
        }
        // One turn for all that comes until it takes place.
        if !self.shared.pending.swap(true, Relaxed)
            && let Some(routes) = self.shared.routes.get()
        {
            routes.nudge();
        }
    }

    /// What is of use to the peer at most, in bit/s: more is not found out of its network.
    pub fn limit_estimate(&self, bits_per_second: u64) {
        self.shared.lock().limit_estimate(bits_per_second);
    }

    /// What the peer's network carries, in bit/s; `None` as long as that is not known.
    pub fn estimate(&self) -> watch::Receiver<Option<u64>> {
        self.shared.estimate.subscribe()
    }

    /// The estimate, once the peer's network has shown that it is one: a newcomer's is no reason for others to get less.
    pub fn bound(&self, now: Instant) -> Option<u64> {
        self.shared.lock().bound(now)
    }

    /// Whether the peer can be sent to.
    pub fn is_ready(&self) -> bool {
        self.shared.lock().is_open()
    }

    /// What was sent so far.
    pub fn stats(&self) -> SendStats {
        self.shared.lock().stats()
    }
}

#[cfg(test)]
impl Outlet {
    /// Of a session that is there, but for its network: what is handed over of this track of sound waits, the newest of it.
    pub(crate) fn waiting(events: Arc<dyn SendEvents>) -> Self {
        let wire = Wire {
            kind: crate::codec::MediaKind::Audio,
            clock_rate: 48_000,
            ssrc: 1,
            payload_type: 96,
            rtx: None,
            nack: false,
            extensions: Extensions::default(),
        };
        let outlet = Self::new(vec![Some(wire)], "", events);
        outlet.shared.lock().open();
        outlet
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outlet({:?})", self.stats())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
