//! One UDP port for all sessions: datagrams go to a session by ICE user fragment, then by address.
//!
//! A STUN request names the session by the first half of its USERNAME (RFC 8445 section 7.2.2) and is believed once its
//! MESSAGE-INTEGRITY holds; from then on everything from that address is the session's. The peer connection itself sees a
//! [`socket::VirtualSocket`], given to it by [`runtime::MuxRuntime`] in place of a real one.
//!
//! Lock order: `routes`, a session's `peer`, then `checks` or `detours`; a relay's `peers`, then `detours`; `reflexive`, a
//! session's queues and its `ssrcs` alone. None is held while the other side's code runs.

mod bucket;
mod checks;
mod consent;
mod counters;
mod credentials;
mod detour;
mod flight;
mod fragments;
mod framing;
#[cfg(any(test, fuzzing))]
pub(in crate::session) mod fuzzing;
mod kernel_drops;
mod named;
mod path;
mod peer;
mod ports;
mod reader;
mod records;
mod reflexive;
mod relay;
mod revoked;
mod routes;
mod runtime;
#[cfg(test)]
mod simulated;
mod socket;
mod streams;
mod stun;
#[cfg(test)]
mod threads;
mod wire;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak, atomic::Ordering::Relaxed, mpsc},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};
use webrtc::runtime::Transmit;

use {
    checks::PortChecks, counters::Counters, detour::Detours, ports::Bound, reflexive::Questions, routes::Routes,
    socket::Channel, wire::Wire,
};
pub use {
    counters::MuxStats,
    named::NamedBy,
    ports::{PortRangeError, PortsInUse, UdpPorts},
    reflexive::StunServer,
    relay::{TurnServer, TurnTransport},
    streams::TcpPortError,
};
pub(super) use {
    credentials::IceCredentials,
    reflexive::{Mapping, Reflexive},
    relay::{Relay, RelayState},
    runtime::MuxRuntime,
    streams::TcpPort,
};

/// Why a shared port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// No port.
    #[error(transparent)]
    Ports(#[from] PortsInUse),
    /// The socket could not be set up.
    #[error("the UDP socket for media cannot be set up: {0}")]
    Socket(#[from] io::Error),
}

/// A session's hold on its routes while it runs; it keeps neither the port nor the session alive.
#[derive(Clone, Debug)]
pub(super) struct MuxHandle {
    shared: Weak<Shared>,
    channel: Arc<Channel>,
}

impl MuxHandle {
    /// Routes requests with these credentials to the session as well: its first, or those of an ICE restart. Before the
    /// peer can know them, so that no request is dropped.
    pub(super) fn add_credentials(&self, credentials: IceCredentials) {
        if let Some(shared) = self.shared.upgrade() {
            shared.routes().insert(&self.channel, credentials);
        }
        self.channel.set_unheard(false);
    }

    /// Bytes of data channels, and of what acknowledges them, that have come for the session, in their encrypted form.
    pub(super) fn data_bytes(&self) -> u64 {
        self.channel.data_bytes()
    }

    /// Until when the peer's last answer to a check is good, if it has answered (RFC 7675 section 5.1).
    pub(super) fn consent_until(&self) -> Option<std::time::Instant> {
        self.channel.peer().consent.until()
    }

    /// When anything has come from the peer's address, be it media or a check. No proof that the peer is there, as
    /// [`consent_until`](Self::consent_until) is.
    pub(super) fn heard(&self) -> Option<std::time::Instant> {
        self.channel.peer().path.heard()
    }

    /// Waits until the peer takes its consent back, which it does by ending DTLS (RFC 7675 section 5.2).
    pub(super) async fn revoked(&self) {
        self.channel.revoked().await;
    }

    /// Waits until the connection does nothing any more: it was closed, or has failed.
    pub(super) async fn stopped(&self) {
        self.channel.stopped().await;
    }

    /// The peer has not been heard for so long that nothing may be sent to it until it restarts ICE (RFC 7675 section 5.1).
    pub(super) fn consent_expired(&self) {
        self.channel.set_unheard(true);
    }

    /// The peer's description names these streams.
    pub(super) fn announce_ssrcs(&self, ssrcs: impl IntoIterator<Item = u32>) {
        self.channel.ssrcs().announce(ssrcs);
    }

    /// A stream was made with the session's keys: it is the peer's, wherever it comes from.
    pub(super) fn prove_ssrc(&self, ssrc: u32) {
        self.channel.ssrcs().proven(ssrc);
        if let Some(shared) = self.shared.upgrade() {
            shared.routes().prove_ssrc(&self.channel, ssrc);
        }
    }

    /// A report of this one was made with the session's keys.
    pub(super) fn prove_reporter(&self, ssrc: u32) {
        self.channel.ssrcs().reported(ssrc);
    }

    /// Makes the connection take a turn now, to send what there is.
    pub(super) fn nudge(&self) {
        self.channel.nudge();
    }

    /// The session calls a server, which may do no more than answer.
    pub(super) fn calls(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.routes().calls(&self.channel);
        }
    }

    /// Takes note of the peer's ICE password, with which its answers are checked: its first, or that of an ICE restart.
    pub(super) fn set_remote_password(&self, password: String) {
        self.channel.peer().set_remote_password(password);
    }
}

/// The shared port. It is closed when the last handle and the last session are gone.
#[derive(Debug)]
pub struct Mux {
    shared: Arc<Shared>,
    reader: AbortHandle,
    /// Open while one of the elements on this port wants it.
    tcp: Mutex<Weak<TcpPort>>,
    /// Disconnected when the reader is gone.
    reader_gone: Mutex<mpsc::Receiver<()>>,
}

/// A port of the process's own.
struct Open {
    mux: Weak<Mux>,
    port: Weak<Shared>,
}

/// How long closing waits for the reader, which only has to be scheduled once more.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl Mux {
    /// Binds a port; call it within the tokio runtime that is to read it.
    pub fn bind(ports: UdpPorts) -> Result<Self, MuxError> {
        let Bound { socket, dual_stack } = ports.bind()?;
        Self::on(Wire::new(socket)?, dual_stack)
    }

    fn on(wire: Wire, dual_stack: bool) -> Result<Self, MuxError> {
        let port = wire.port()?;
        let (routes, checks, counters) = (Mutex::default(), Mutex::default(), Counters::default());
        let (detours, reflexive) = (Mutex::default(), Mutex::default());
        Ok(Self::read(Arc::new(Shared { wire, port, dual_stack, routes, checks, counters, detours, reflexive })))
    }

    /// Reads a port from here on.
    fn read(shared: Arc<Shared>) -> Self {
        let (alive, reader_gone) = mpsc::channel();
        let reading = shared.clone();
        let reader = tokio::spawn(async move {
            reader::read(&reading).await;
            drop((reading, alive));
        });
        let tcp = Mutex::default();
        Self { shared, reader: reader.abort_handle(), tcp, reader_gone: Mutex::new(reader_gone) }
    }

    /// The process's own: everybody who says the same gets the same port. `runtime` reads it.
    pub fn shared(runtime: &Handle, ports: UdpPorts) -> Result<Arc<Self>, MuxError> {
        static OPEN: LazyLock<Mutex<HashMap<UdpPorts, Open>>> = LazyLock::new(Mutex::default);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mux) = open.get(&ports).and_then(|open| open.mux.upgrade()) {
            return Ok(mux);
        }
        open.retain(|_, open| open.port.strong_count() > 0);
        let _guard = runtime.enter();
        // Sessions of the one before may need a moment more for their end, and hold the port meanwhile.
        let mux = match open.get(&ports).and_then(|open| open.port.upgrade()) {
            Some(port) => Self::read(port),
            None => Self::bind(ports)?,
        };
        let mux = Arc::new(mux);
        open.insert(ports, Open { mux: Arc::downgrade(&mux), port: Arc::downgrade(&mux.shared) });
        Ok(mux)
    }

    /// Whether it takes IPv6 as well as IPv4.
    pub(super) fn is_dual_stack(&self) -> bool {
        self.shared.dual_stack
    }

    /// Where a peer connection binds before it gets its virtual sockets: one placeholder for each family.
    pub(super) fn placeholders(&self) -> Vec<SocketAddr> {
        let mut placeholders = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        if self.shared.dual_stack {
            placeholders.push(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
        }
        placeholders
    }

    /// The UDP port that is shared.
    pub fn port(&self) -> u16 {
        self.shared.port
    }

    /// Begins to use a TURN server for this port's sessions. Like the two below within the runtime that reads it.
    pub(super) fn relay(&self, server: TurnServer, named_by: NamedBy) -> Relay {
        Relay::start(&self.shared, server, named_by)
    }

    /// Begins to ask a STUN server how this port is seen.
    pub(super) fn reflexive(&self, server: StunServer, named_by: NamedBy) -> Reflexive {
        Reflexive::start(&self.shared, server, named_by)
    }

    /// Lets peers connect by TCP as well, to a port of the same number.
    pub(super) fn tcp(&self) -> Result<Arc<TcpPort>, TcpPortError> {
        let mut tcp = self.tcp.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = tcp.upgrade() {
            return Ok(open);
        }
        let open = Arc::new(TcpPort::open(&self.shared)?);
        *tcp = Arc::downgrade(&open);
        Ok(open)
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> MuxStats {
        MuxStats { unread: self.shared.wire.unread(), ..self.shared.counters.snapshot() }
    }

    /// The runtime to build one peer connection with.
    pub(super) fn runtime(&self) -> MuxRuntime {
        MuxRuntime::new(self.shared.clone())
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

/// What the reader and the virtual sockets share.
struct Shared {
    wire: Wire,
    port: u16,
    /// Whether addresses are given to the socket as IPv6 ones.
    dual_stack: bool,
    routes: Mutex<Routes>,
    checks: Mutex<PortChecks>,
    counters: Counters,
    detours: Mutex<Detours>,
    reflexive: Mutex<Questions>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mux(port {})", self.port)
    }
}

impl Shared {
    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checks(&self) -> std::sync::MutexGuard<'_, PortChecks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn detours(&self) -> std::sync::MutexGuard<'_, Detours> {
        self.detours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reflexive(&self) -> std::sync::MutexGuard<'_, Questions> {
        self.reflexive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one datagram or drops it; a session never waits for the kernel's buffer.
    fn send(&self, destination: SocketAddr, source: Option<IpAddr>, datagram: &[u8]) {
        self.transmit(destination, source, datagram, None);
    }

    /// Sends one datagram, or several of this size.
    fn transmit(&self, destination: SocketAddr, source: Option<IpAddr>, contents: &[u8], size: Option<usize>) {
        if detour::is_detour(destination.ip()) {
            for datagram in contents.chunks(size.unwrap_or(contents.len()).max(1)) {
                self.counters.sent.fetch_add(1, Relaxed);
                if !self.detours().send(destination, datagram) {
                    self.counters.send_dropped.fetch_add(1, Relaxed);
                }
            }
            return;
        }
        let destination = match destination.ip() {
            IpAddr::V4(v4) if self.dual_stack => SocketAddr::from((v4.to_ipv6_mapped(), destination.port())),
            _ => destination,
        };
        let transmit = Transmit { destination, ecn: None, contents, segment_size: size, src_ip: source };
        let count = size.map_or(1, |size| contents.len().div_ceil(size.max(1))) as u64;
        self.counters.sent.fetch_add(count, Relaxed);
        if let Err(error) = self.wire.try_send(&transmit) {
            self.counters.send_dropped.fetch_add(count, Relaxed);
            tracing::trace!(%destination, %error, "datagram not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_starts_again_takes_over_the_port_that_a_session_still_holds() {
        let free = || std::net::UdpSocket::bind("0.0.0.0:0")?.local_addr();
        let ports = UdpPorts::One(free().unwrap().port());
        let first = Mux::shared(&Handle::current(), ports).unwrap();
        let session = first.runtime();
        drop(first);
        let again = Mux::shared(&Handle::current(), ports).unwrap();
        drop(session);
        let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        while again.stats().received == 0 {
            stranger.send_to(&[0x80; 12], ("127.0.0.1", again.port())).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}
