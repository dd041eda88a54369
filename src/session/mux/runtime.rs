//! The runtime that a peer connection is built with: tokio, but for its UDP socket.

use std::{
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
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
    /// Shared by the connection's sockets, one for each family.
    membership: Mutex<Weak<Membership>>,
}

impl MuxRuntime {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, channel: Arc::default(), membership: Mutex::default() }
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

    /// What a connection does, all of it: when that comes to its end, its session must not go on as if nothing was. The stack reads
    /// what anybody may send; should it panic, that is the end of this session and of no other.
    fn spawn(&self, future: BoxFuture<'static, ()>) -> Box<dyn JoinHandle> {
        let channel = self.channel.clone();
        TokioRuntime.spawn(Box::pin(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!("the WebRTC stack has failed; its session ends");
            }
            channel.stop();
        }))
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
