//! Viewers that cost next to nothing: each has a real connection, but once its first picture has come its packets are counted
//! as they come from the socket, by the header that SRTP leaves readable, and go no further.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{io::ReadBuf, net::UdpSocket};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

/// Two seconds of 2 Mbit/s.
const RECEIVE_BUFFER: usize = 1 << 20;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What has come at one viewer.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From now on packets are only counted.
    pub(crate) counts_only: AtomicBool,
    video: Mutex<Video>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Video {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    /// The first sequence number, and how far the highest is from it.
    first: Option<u16>,
    highest: i64,
}

impl Video {
    /// Sequence numbers that did not come.
    pub(crate) fn missing(&self) -> i64 {
        self.first.map_or(0, |_| self.highest + 1 - self.packets as i64)
    }

    fn count(&mut self, number: u16, bytes: usize) {
        let first = *self.first.get_or_insert(number);
        let newest = first.wrapping_add(self.highest as u16);
        self.highest = self.highest.max(self.highest + i64::from(number.wrapping_sub(newest).cast_signed()));
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

impl Counts {
    pub(crate) fn video(&self) -> Video {
        *self.video.lock().expect("lock")
    }

    /// Takes a datagram; false if the connection shall have it.
    fn takes(&self, datagram: &[u8], payload_type: u8) -> bool {
        let is_media = matches!(datagram, [128..=191, kind, ..] if !(192..=223).contains(kind));
        if !is_media || !self.counts_only.load(Relaxed) {
            return false;
        }
        if let [_, kind, high, low, ..] = datagram
            && kind & 0x7F == payload_type
        {
            self.video.lock().expect("lock").count(u16::from_be_bytes([*high, *low]), datagram.len());
        }
        true
    }
}

/// The runtime of one viewer: tokio, but for its socket.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) counts: Arc<Counts>,
    pub(crate) payload_type: u8,
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    counts: Arc<Counts>,
    payload_type: u8,
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.socket.poll_send_to(cx, transmit.contents, transmit.destination)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        loop {
            let mut read = ReadBuf::new(buffer);
            let from = ready!(self.socket.poll_recv_from(cx, &mut read))?;
            let length = read.filled().len();
            if !self.counts.takes(read.filled(), self.payload_type) {
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, length, length.max(1));
                return Poll::Ready(Ok(1));
            }
        }
    }
}

impl Runtime for Counting {
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        // Hundreds share two threads here, and each would have a machine of its own: what waits for its turn is no loss.
        SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Arc::new(Socket { socket, counts: self.counts.clone(), payload_type: self.payload_type }))
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(&self, size: usize, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(size, future)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> BoxFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async move { TokioRuntime.connect_tcp(address).await })
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { TokioRuntime.resolve_host(host).await })
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "counting"
    }
}
