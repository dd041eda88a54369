//! ICE over TCP (RFC 6544), for peers whose network lets no UDP out: they open a connection to the TCP port that has the
//! number of the shared UDP port, and send over it what they would have sent as datagrams (RFC 4571). Such a connection is a
//! [detour](super::detour).
//!
//! We are passive only: whoever can be called by TCP from here can be reached by UDP as well.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::Relaxed, mpsc as blocking},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    runtime::Handle,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    Shared,
    detour::{Detour, Outgoing},
    framing::{Frames, Framing, framed},
    reader::deliver,
    stun,
};
use crate::session::time;

/// Connections at a time, and of one address: several people behind a NAT, no flood.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 32;
/// How long a connection may be without a check of a session of ours.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// A peer checks every few seconds (RFC 7675: at least every 30 s); one that is silent for so long is gone.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Datagrams that wait for a connection that is slower than the media; then they are dropped, as UDP would.
const WAITING: usize = 512;
/// How long closing waits for the listener, which only has to be scheduled once more.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The port that detours of connections are shown with; their addresses differ.
const SHOWN_PORT: u16 = 9;

/// Why peers cannot connect by TCP.
#[derive(Debug, thiserror::Error)]
#[error("TCP port {port} cannot be used for ice-tcp, which takes the number of the UDP port: {source}")]
pub struct TcpPortError {
    port: u16,
    source: io::Error,
}

/// The open TCP port. It is closed, with its connections, when this goes.
#[derive(Debug)]
pub(in crate::session) struct TcpPort {
    task: AbortHandle,
    gone: Mutex<blocking::Receiver<()>>,
}

impl TcpPort {
    /// Call it within the tokio runtime that reads the UDP port.
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, TcpPortError> {
        let failed = |source| TcpPortError { port: shared.port, source };
        let listener = listen(shared.port, shared.dual_stack).map_err(failed)?;
        let (alive, gone) = blocking::channel();
        let accepting = accept(Arc::downgrade(shared), listener);
        let task = tokio::spawn(async move {
            accepting.await;
            drop(alive);
        });
        Ok(Self { task: task.abort_handle(), gone: Mutex::new(gone) })
    }
}

impl Drop for TcpPort {
    /// Closes the port before it returns, so that it can be bound again at once.
    fn drop(&mut self) {
        self.task.abort();
        if Handle::try_current().is_err() {
            let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _: Result<(), _> = gone.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

fn listen(port: u16, dual_stack: bool) -> io::Result<TcpListener> {
    let any: IpAddr = if dual_stack { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let address = SocketAddr::new(any, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if dual_stack {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?; // connections of before may still be in TIME-WAIT
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

async fn accept(shared: Weak<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let open: Arc<Mutex<HashMap<IpAddr, usize>>> = Arc::default();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptors left, most likely: without a pause it would fail again at once.
                tracing::warn!(%error, "a connection for ice-tcp could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Some(place) = Place::take(&open, from.ip()).filter(|_| connections.len() < MOST) else {
            tracing::debug!(%from, "a connection too many for ice-tcp");
            continue;
        };
        let shared = shared.clone();
        connections.spawn(async move {
            serve(shared, stream, from).await;
            drop(place);
        });
    }
}

/// One of the connections that an address may have.
struct Place {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    ip: IpAddr,
}

impl Place {
    /// An IPv6 network of 64 bits counts as one address: that is what one customer has.
    fn take(open: &Arc<Mutex<HashMap<IpAddr, usize>>>, ip: IpAddr) -> Option<Self> {
        let ip = match ip {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 => v4,
        };
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Self { open: open.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(shared: Weak<Shared>, stream: TcpStream, from: SocketAddr) {
    let _ = stream.set_nodelay(true); // media; it still works without
    let (reader, mut writer) = stream.into_split();
    let (out, mut outgoing) = mpsc::channel::<Outgoing>(WAITING);
    let detour = {
        let Some(shared) = shared.upgrade() else { return };
        let Some(detour) = Detour::open(&shared, from.ip(), Some(from.port()), out) else { return };
        detour
    };
    let shown = SocketAddr::from((detour.address(), SHOWN_PORT));
    let writing = async move {
        while let Some(Outgoing { datagram, .. }) = outgoing.recv().await {
            let Some(bytes) = framed(Framing::Rfc4571, &datagram) else { continue };
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read(shared, reader, shown) => {}
        () = writing => {}
    }
    tracing::debug!(%from, "a connection of ice-tcp has ended");
}

async fn read(shared: Weak<Shared>, mut reader: OwnedReadHalf, shown: SocketAddr) {
    let (mut frames, mut buffer) = (Frames::new(Framing::Rfc4571), vec![0; 16_384]);
    let (began, mut known) = (time::now(), false);
    loop {
        let patience = if known { SILENT_FOR } else { UNKNOWN_FOR.saturating_sub(began.elapsed()) };
        let Ok(Ok(count @ 1..)) = timeout(patience, reader.read(&mut buffer)).await else { return };
        frames.push(buffer.get(..count).unwrap_or_default());
        let Some(shared) = shared.upgrade() else { return };
        while let Ok(Some(datagram)) = frames.next() {
            let check = stun::local_ufrag(&datagram).is_some();
            // Whoever speaks something else first, or knows no session of ours, is no peer.
            if !known && !check {
                shared.counters.unknown.fetch_add(1, Relaxed);
                return;
            }
            let taken = deliver(&shared, shown, &datagram, time::now());
            known |= check && taken;
            if !known {
                return;
            }
        }
    }
}
