//! What one peer connection takes for its UDP socket.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::sync::Notify;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::{
    Shared,
    detour::is_detour,
    flight::{self, Flight},
    peer::Peer,
    stun,
};
use crate::session::{ssrcs::Ssrcs, time};

/// Datagrams that wait for one session: half a second at 20 Mbit/s. More are dropped and counted.
const QUEUE: usize = 1024;
/// Emptied buffers kept for the next datagrams, so that a steady stream allocates nothing.
const POOL: usize = 64;

/// Datagrams of one size that go to the kernel in one piece; the stack takes it for the least that is worth it as well. A
/// picture of 2 Mbit/s has some seven packets, so that its own 16 would never come together.
const RUN: usize = 4;

/// What stands around the first piece of data in a datagram: a DTLS record with its nonce and tag (RFC 6347 section 4.1, RFC
/// 5288 section 3), the headers of SCTP and of a chunk (RFC 9260 sections 3.1 and 3.3.1). An acknowledgement is no more.
const AROUND_DATA: usize = 13 + 8 + 16 + 12 + 16;

/// One session's end of the shared port.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) flight: Arc<Flight>,
    /// The session is over. Changed with the routes locked.
    closed: AtomicBool,
    /// The peer's consent to be sent to has expired.
    unheard: AtomicBool,
    /// The peer has ended DTLS.
    revoked: Notify,
    /// The connection does nothing any more.
    stopped: Notify,
    /// Of what data channels carry, handed over so far, about.
    data_bytes: AtomicU64,
    /// One for each family, as the peer connection has a socket for each.
    queues: [Mutex<Queue>; 2],
    ssrcs: Mutex<Ssrcs>,
    peer: Mutex<Peer>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    pool: Vec<Vec<u8>>,
    waker: Option<Waker>,
    /// A handshake message was handed over just now.
    after_handshake: bool,
    /// The connection is to look what there is to send.
    nudged: bool,
}

impl Channel {
    /// No routes lead here any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Sends nothing any more (RFC 7675 section 5.1), or sends again.
    pub(super) fn set_unheard(&self, unheard: bool) {
        self.unheard.store(unheard, Relaxed);
    }

    /// Sends nothing any more: the peer has taken its consent back.
    fn revoke(&self) {
        self.set_unheard(true);
        self.revoked.notify_one();
    }

    /// Waits until the peer does that. For one at a time.
    pub(super) async fn revoked(&self) {
        self.revoked.notified().await;
    }

    /// The connection has come to its end, or failed.
    pub(super) fn stop(&self) {
        self.stopped.notify_one();
    }

    /// Waits until it has. For one at a time.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes.load(Relaxed)
    }

    pub(super) fn peer(&self) -> MutexGuard<'_, Peer> {
        lock(&self.peer)
    }

    /// Whether the peer may send this: not if it begins yet another stream.
    pub(super) fn admits(&self, datagram: &[u8], now: Instant) -> bool {
        lock(&self.ssrcs).admit(datagram, now)
    }

    /// Which streams the peer may begin.
    pub(super) fn ssrcs(&self) -> MutexGuard<'_, Ssrcs> {
        lock(&self.ssrcs)
    }

    /// Queues a datagram; false if it was dropped because the queue is full.
    pub(super) fn push(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let mut queue = lock(self.queue(from));
        if queue.waiting.len() >= QUEUE {
            return false;
        }
        let mut buffer = queue.pool.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(datagram);
        queue.waiting.push_back((from, buffer));
        true
    }

    pub(super) fn wake(&self) {
        for queue in &self.queues {
            let mut queue = lock(queue);
            let waker = if queue.waiting.is_empty() { None } else { queue.waker.take() };
            drop(queue);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Makes the connection take a turn, in which it sends what its interceptors have for it. The stack has no other way for
    /// them to be heard at once, and its own for tracks costs more than the packets.
    pub(super) fn nudge(&self) {
        let [v4, _] = &self.queues; // there always is one of this family
        let mut queue = lock(v4);
        queue.nudged = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn queue(&self, address: SocketAddr) -> &Mutex<Queue> {
        let [v4, v6] = &self.queues;
        if address.is_ipv6() { v6 } else { v4 }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [v4, v6] = &self.queues;
        write!(f, "Channel({} waiting)", lock(v4).waiting.len() + lock(v6).waiting.len())
    }
}

/// A session's place on the shared port; its end is the end of the session's routes.
#[derive(Debug)]
pub(super) struct Membership {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
}

impl Membership {
    pub(super) fn begin(shared: Arc<Shared>, channel: Arc<Channel>) -> Arc<Self> {
        tokio::spawn(flight::repeat(shared.clone(), Arc::downgrade(&channel), channel.flight.clone()));
        Arc::new(Self { shared, channel })
    }
}

impl Membership {
    /// Sends what the peer connection wants to send there to where that is, unless it is a check too many.
    fn send(&self, destination: SocketAddr, datagram: &[u8], now: Instant) {
        let Self { shared, channel } = self;
        if channel.unheard.load(Relaxed) {
            return;
        }
        let mut peer = channel.peer();
        let kind = stun::kind(datagram);
        let check = match kind {
            Some((stun::Kind::Request, transaction)) => Some(transaction),
            Some((stun::Kind::Response, _)) => None,
            None => {
                peer.path.selected(destination, now);
                None
            }
        };
        let shown = destination;
        let destination = peer.path.outward(shown);
        if let Some(transaction) = check
            && !peer.may_check(destination, transaction, datagram, || shared.checks().take(now), now)
        {
            shared.counters.checks_held.fetch_add(1, Relaxed);
            return;
        }
        let source = peer.source_for(destination);
        // The stack answers with the address that it knows: of a detour, or the one that the peer has left.
        let is_answer = matches!(kind, Some((stun::Kind::Response, _)));
        let instead = if is_answer && (destination != shown || is_detour(destination.ip())) {
            let seen = shared.detours().peer_at(destination).unwrap_or(destination);
            peer.truthful(datagram, seen)
        } else {
            None
        };
        drop(peer);
        let instead = instead.or_else(|| channel.flight.sent(destination, datagram, now));
        shared.send(destination, source, instead.as_deref().unwrap_or(datagram));
        // The stack tells nobody that the peer has ended DTLS, but says the same to the peer, in an alert under the session's
        // keys; of itself it has no reason to.
        if flight::is_protected_alert(datagram) {
            channel.revoke();
        }
    }

    /// The same for several datagrams of one size, the last of which may be shorter.
    fn send_run(&self, destination: SocketAddr, datagrams: &[u8], size: usize, now: Instant) {
        let Self { shared, channel } = self;
        // Only media has nothing to be looked at.
        let is_media = |datagram: &[u8]| matches!(datagram.first(), Some(128..=191));
        if !datagrams.chunks(size).all(is_media) {
            return datagrams.chunks(size).for_each(|datagram| self.send(destination, datagram, now));
        }
        if channel.unheard.load(Relaxed) {
            return;
        }
        let mut peer = channel.peer();
        peer.path.selected(destination, now);
        let destination = peer.path.outward(destination);
        let source = peer.source_for(destination);
        drop(peer);
        shared.transmit(destination, source, datagrams, Some(size));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.routes().remove(&self.channel);
        self.channel.flight.finish();
    }
}

/// Held by the peer connection, one for each family.
pub(super) struct VirtualSocket {
    membership: Arc<Membership>,
    local: SocketAddr,
}

impl VirtualSocket {
    pub(super) fn new(membership: Arc<Membership>, local: SocketAddr) -> Self {
        Self { membership, local }
    }
}

impl std::fmt::Debug for VirtualSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VirtualSocket({:?} at {})", self.membership.channel, self.local)
    }
}

impl AsyncUdpSocket for VirtualSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// Never pending: one waker cannot be shared by all sessions, so what the kernel has no room for is dropped.
    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let now = time::now();
        match transmit.segment_size {
            Some(size) if size > 0 => self.membership.send_run(transmit.destination, transmit.contents, size, now),
            _ => self.membership.send(transmit.destination, transmit.contents, now),
        }
        Poll::Ready(Ok(transmit.contents.len()))
    }

    /// How many datagrams of one size may come at once. The stack hands them over together only where there are so many.
    fn max_gso_segments(&self) -> usize {
        self.membership.shared.wire.max_gso_segments().clamp(1, RUN)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = lock(self.membership.channel.queue(self.local));
        // The stack reads on before it looks at what it has read, and would drop the media that follows the end of the
        // handshake: with it the first keyframe, which a sender that cannot be asked does not repeat for seconds.
        if std::mem::take(&mut queue.after_handshake) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()) {
            let Some((from, datagram)) = queue.waiting.pop_front() else { break };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, length, length.max(1));
            count += 1;
            let first = datagram.first().copied().unwrap_or_default();
            let is_data = first == flight::APPLICATION_DATA;
            if is_data {
                self.membership.channel.data_bytes.fetch_add(length.saturating_sub(AROUND_DATA) as u64, Relaxed);
            }
            queue.after_handshake = flight::is_dtls(first) && !is_data;
            if queue.pool.len() < POOL {
                queue.pool.push(datagram);
            }
            if queue.after_handshake {
                break;
            }
        }
        // Nothing of a length of nothing: the stack splits it into no datagrams, and goes on with its turn.
        if std::mem::take(&mut queue.nudged)
            && count == 0
            && let Some(meta) = meta.first_mut()
        {
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (self.local, 0, 1);
            count = 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            queue.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
