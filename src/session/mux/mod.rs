//! One UDP port for all sessions: datagrams go to a session by ICE user fragment, then by address.
//!
//! A STUN request names the session by the first half of its USERNAME (RFC 8445 section 7.2.2) and is believed once its
//! MESSAGE-INTEGRITY holds; from then on everything from that address is the session's. The peer connection itself sees a
//! [`socket::VirtualSocket`], given to it by [`runtime::MuxRuntime`] in place of a real one.
//!
//! Lock order: `routes` before a session's `queue`; neither is held while the other side's code runs.

mod flight;
mod routes;
mod runtime;
mod socket;
mod stun;

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::{io::Interest, net::UdpSocket, runtime::Handle, task::AbortHandle};
use webrtc::runtime::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

pub(super) use runtime::MuxRuntime;
use {
    routes::Routes,
    socket::{Channel, VirtualSocket},
};

/// What a socket buffer should hold: half a second of a hundred 2 Mbit/s streams, and a keyframe of each at once.
const SOCKET_BUFFER: usize = 8 << 20;

/// The ICE credentials of one session's local side (RFC 8445 section 5.3).
#[derive(Clone)]
pub(super) struct IceCredentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl IceCredentials {
    pub(super) fn random() -> Self {
        use rand::distr::{Alphanumeric, SampleString as _};
        let mut rng = rand::rng();
        Self { ufrag: Alphanumeric.sample_string(&mut rng, 12), password: Alphanumeric.sample_string(&mut rng, 24) }
    }
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({})", self.ufrag) // never the password
    }
}

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
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that the kernel had no room for.
    pub send_dropped: u64,
    /// Handshake datagrams sent again.
    pub repeated: u64,
}

/// The shared port. It is closed when the last handle and the last session are gone.
#[derive(Debug)]
pub struct Mux {
    shared: Arc<Shared>,
    reader: AbortHandle,
    /// Disconnected when the reader is gone.
    reader_gone: Mutex<mpsc::Receiver<()>>,
}

/// How long closing waits for the reader, which only has to be scheduled once more.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl Mux {
    /// Binds the port; call it within the tokio runtime that is to read it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        // The kernel clamps these to rmem_max and wmem_max, which is not an error.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let port = io.local_addr()?.port();
        let shared =
            Arc::new(Shared { io, state, port, routes: Mutex::new(Routes::default()), counters: Counters::default() });
        let (alive, reader_gone) = mpsc::channel();
        let reading = shared.clone();
        let reader = tokio::spawn(async move {
            read(&reading).await;
            drop((reading, alive));
        });
        Ok(Self { shared, reader: reader.abort_handle(), reader_gone: Mutex::new(reader_gone) })
    }

    /// The process's own: `port`, or with 0 one that the system picks for everybody who says 0. `runtime` reads it.
    pub fn shared(runtime: &Handle, port: u16) -> io::Result<Arc<Self>> {
        static PORTS: LazyLock<Mutex<HashMap<u16, Weak<Mux>>>> = LazyLock::new(Mutex::default);
        let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mux) = ports.get(&port).and_then(Weak::upgrade) {
            return Ok(mux);
        }
        let _guard = runtime.enter();
        let mux = Arc::new(Self::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?);
        ports.insert(port, Arc::downgrade(&mux));
        Ok(mux)
    }

    /// The UDP port that is shared.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> MuxStats {
        let c = &self.shared.counters;
        MuxStats {
            received: c.received.load(Relaxed),
            unknown: c.unknown.load(Relaxed),
            forged: c.forged.load(Relaxed),
            overflowed: c.overflowed.load(Relaxed),
            sent: c.sent.load(Relaxed),
            send_dropped: c.send_dropped.load(Relaxed),
            repeated: c.repeated.load(Relaxed),
        }
    }

    /// The runtime to build one peer connection with.
    pub(super) fn runtime(&self, credentials: IceCredentials) -> MuxRuntime {
        MuxRuntime::new(self.shared.clone(), credentials)
    }
}

impl Drop for Mux {
    /// Closes the port before it returns, if no session is left, so that it can be bound again at once.
    fn drop(&mut self) {
        self.reader.abort();
        if Handle::try_current().is_err() {
            let reader_gone = self.reader_gone.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _: Result<(), _> = reader_gone.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

#[derive(Default)]
struct Counters {
    received: AtomicU64,
    unknown: AtomicU64,
    forged: AtomicU64,
    overflowed: AtomicU64,
    sent: AtomicU64,
    send_dropped: AtomicU64,
    repeated: AtomicU64,
}

/// What the reader and the virtual sockets share.
struct Shared {
    io: UdpSocket,
    state: UdpSocketState,
    port: u16,
    routes: Mutex<Routes>,
    counters: Counters,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mux(port {})", self.port)
    }
}

impl Shared {
    fn open(self: &Arc<Self>, credentials: &IceCredentials, local: SocketAddr) -> VirtualSocket {
        let channel = Arc::new(Channel::new(credentials.clone()));
        self.routes().insert(channel.clone());
        tokio::spawn(flight::repeat(self.clone(), Arc::downgrade(&channel), channel.flight.clone()));
        VirtualSocket::new(self.clone(), channel, local)
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one datagram or drops it; a session never waits for the kernel's buffer.
    fn send(&self, destination: SocketAddr, source: Option<IpAddr>, contents: &[u8]) {
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: source };
        self.counters.sent.fetch_add(1, Relaxed);
        if let Err(error) = self.state.try_send(UdpSockRef::from(&self.io), &transmit) {
            self.counters.send_dropped.fetch_add(1, Relaxed);
            tracing::trace!(%destination, %error, "datagram not sent");
        }
    }

    /// Hands one datagram to its session; returns the session to be woken.
    fn dispatch(&self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8], now: Instant) -> Option<Arc<Channel>> {
        let channel = match self.routes().route(from, to, datagram) {
            routes::Route::Session(channel) => channel,
            routes::Route::Unknown => {
                self.counters.unknown.fetch_add(1, Relaxed);
                return None;
            }
            routes::Route::Forged => {
                self.counters.forged.fetch_add(1, Relaxed);
                return None;
            }
        };
        if !channel.admits(datagram) {
            self.counters.forged.fetch_add(1, Relaxed);
            return None;
        }
        channel.flight.received(datagram, now);
        if channel.push(from, datagram) {
            Some(channel)
        } else {
            self.counters.overflowed.fetch_add(1, Relaxed);
            None
        }
    }
}

/// Reads the socket in batches until it is aborted.
async fn read(shared: &Shared) {
    let segment = shared.state.gro_segments().max(1) * 1500;
    let mut memory = vec![0_u8; segment * BATCH_SIZE];
    let mut meta = vec![RecvMeta::default(); BATCH_SIZE];
    let mut woken: Vec<Arc<Channel>> = Vec::new();
    loop {
        if let Err(error) = shared.io.readable().await {
            tracing::warn!(%error, "the shared UDP socket cannot be read any more");
            return;
        }
        let result = shared.io.try_io(Interest::READABLE, || {
            let mut buffers: Vec<IoSliceMut<'_>> = memory.chunks_mut(segment).map(IoSliceMut::new).collect();
            shared.state.recv(UdpSockRef::from(&shared.io), &mut buffers, &mut meta)
        });
        let Ok(count) = result else { continue }; // WouldBlock, or an ICMP error of some peer
        let now = Instant::now();
        for (meta, buffer) in meta.iter().zip(memory.chunks(segment)).take(count) {
            let Some(received) = buffer.get(..meta.len) else { continue };
            for datagram in received.chunks(meta.stride.max(1)) {
                shared.counters.received.fetch_add(1, Relaxed);
                if let Some(channel) = shared.dispatch(meta.addr, meta.dst_ip, datagram, now)
                    && !woken.iter().any(|w| Arc::ptr_eq(w, &channel))
                {
                    woken.push(channel);
                }
            }
        }
        for channel in woken.drain(..) {
            channel.wake();
        }
    }
}
