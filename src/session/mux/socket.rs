//! What one peer connection takes for its UDP socket.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::{
    IceCredentials, Shared,
    flight::{self, Flight},
};
use crate::session::ssrcs::Ssrcs;

/// Datagrams that wait for one session: half a second at 20 Mbit/s. More are dropped and counted.
const QUEUE: usize = 1024;
/// Emptied buffers kept for the next datagrams, so that a steady stream allocates nothing.
const POOL: usize = 64;

/// One session's end of the shared port.
pub(super) struct Channel {
    pub(super) credentials: IceCredentials,
    pub(super) flight: Arc<Flight>,
    queue: Mutex<Queue>,
    ssrcs: Mutex<Ssrcs>,
    /// Peer addresses, oldest first, each with the address of ours that it wrote to.
    addresses: Mutex<Vec<(SocketAddr, Option<IpAddr>)>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    pool: Vec<Vec<u8>>,
    waker: Option<Waker>,
    /// A handshake message was handed over just now.
    after_handshake: bool,
}

impl Channel {
    pub(super) fn new(credentials: IceCredentials) -> Self {
        Self {
            credentials,
            flight: Arc::default(),
            queue: Mutex::default(),
            ssrcs: Mutex::default(),
            addresses: Mutex::default(),
        }
    }

    /// Remembers an address of the peer; returns the oldest one if there are now more than `most`.
    pub(super) fn learn(&self, from: SocketAddr, to: Option<IpAddr>, most: usize) -> Option<SocketAddr> {
        let mut addresses = lock(&self.addresses);
        addresses.push((from, to));
        (addresses.len() > most).then(|| addresses.remove(0).0)
    }

    /// The address of ours that `peer` wrote to: a multi-homed host must answer from that one.
    pub(super) fn source_for(&self, peer: SocketAddr) -> Option<IpAddr> {
        lock(&self.addresses).iter().rev().find(|(address, _)| *address == peer).and_then(|(_, ours)| *ours)
    }

    /// Whether the peer may send this: not if it begins yet another stream.
    pub(super) fn admits(&self, datagram: &[u8]) -> bool {
        lock(&self.ssrcs).admit(datagram)
    }

    /// Queues a datagram; false if it was dropped because the queue is full.
    pub(super) fn push(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let mut queue = lock(&self.queue);
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
        let waker = lock(&self.queue).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Held by the peer connection; its end is the end of the session's routes.
pub(super) struct VirtualSocket {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    local: SocketAddr,
}

impl VirtualSocket {
    pub(super) fn new(shared: Arc<Shared>, channel: Arc<Channel>, local: SocketAddr) -> Self {
        Self { shared, channel, local }
    }
}

impl Drop for VirtualSocket {
    fn drop(&mut self) {
        self.shared.routes().remove(&self.channel);
        self.channel.flight.finish();
    }
}

impl std::fmt::Debug for VirtualSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VirtualSocket({:?} at {})", self.channel.credentials, self.local)
    }
}

impl AsyncUdpSocket for VirtualSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// Never pending: one waker cannot be shared by all sessions, so what the kernel has no room for is dropped.
    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.channel.flight.sent(transmit.destination, transmit.contents, Instant::now());
        self.shared.send(transmit.destination, self.channel.source_for(transmit.destination), transmit.contents);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = lock(&self.channel.queue);
        // The stack reads on before it looks at what it has read, and would drop the media that follows the end of the
        // handshake: with it the first keyframe, which a sender that cannot be asked does not repeat for seconds.
        if std::mem::take(&mut queue.after_handshake) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, datagram)) = queue.waiting.pop_front() else { break };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, length, length.max(1));
            count += 1;
            queue.after_handshake = datagram.first().is_some_and(|&first| flight::is_dtls(first));
            if queue.pool.len() < POOL {
                queue.pool.push(datagram);
            }
            if queue.after_handshake {
                break;
            }
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
