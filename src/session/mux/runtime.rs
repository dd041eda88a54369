//! The runtime that a peer connection is built with: tokio, but for its UDP socket.

use std::{
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tracing::Instrument as _;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::{
    MuxHandle, Shared,
    socket::{Channel, Membership, VirtualSocket},
};
use crate::session::time;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One for each connection: that is how [`Runtime::wrap_udp_socket`] knows whose socket it makes.
#[derive(Debug)]
pub(in crate::session) struct MuxRuntime {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    /// The connection's task has begun.
    drives: AtomicBool,
    /// Shared by the connection's sockets, one for each family.
    membership: Mutex<Weak<Membership>>,
}

impl MuxRuntime {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, channel: Arc::default(), drives: AtomicBool::new(false), membership: Mutex::default() }
    }

    /// What the session keeps when the runtime goes to the peer connection.
    pub(in crate::session) fn handle(&self) -> MuxHandle {
        MuxHandle { shared: Arc::downgrade(&self.shared), channel: self.channel.clone() }
    }

    fn membership(&self) -> Arc<Membership> {
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        membership.upgrade().unwrap_or_else(|| {
            let new = Membership::begin(self.shared.clone(), self.channel.clone());
            *membership = Arc::downgrade(&new);
            new
        })
    }
}

impl Runtime for MuxRuntime {
    /// Keeps the placeholder's address, drops the placeholder, and returns a socket on the shared port.
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(VirtualSocket::new(self.membership(), socket.local_addr()?)))
    }

    /// The first is what a connection does: when that comes to its end, its session must not go on as if nothing was. The stack reads
    /// what anybody may send; should it panic, that is the end of this session and of no other.
    fn spawn(&self, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        let (channel, is_driver) = (self.channel.clone(), !self.drives.swap(true, Relaxed));
        let guarded = async move {
            let failed = AssertUnwindSafe(future).catch_unwind().await.is_err();
            if failed {
                let peer = channel.peer().path.actual().map(tracing::field::display);
                tracing::error!(peer, "the WebRTC stack has failed; its session ends");
            }
            if failed || is_driver {
                channel.stop();
            }
        };
        TokioRuntime.spawn(Box::pin(guarded.in_current_span()))
    }

    fn spawn_reactor(&self, size: usize, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(size, future)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> BoxFuture<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        // By TCP peers call us. No candidate that is one of those gets to the stack, and were there one nobody would be called.
        Box::pin(
            async move { Err(io::Error::new(io::ErrorKind::Unsupported, format!("{address} is not called by TCP"))) },
        )
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { TokioRuntime.resolve_host(host).await })
    }

    fn now(&self) -> Instant {
        time::now()
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
        "webrtcbridge"
    }
}
