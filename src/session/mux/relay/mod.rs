//! A TURN server that we use ourselves (RFC 8656): peers that cannot reach the shared port reach its port, over whatever the
//! network lets through to it: UDP, TCP or TLS. One allocation serves all sessions, as the shared port does; a peer behind
//! it is a [detour](super::detour).
//!
//! The stack has a TURN client of its own, over UDP only and one allocation a session.

mod allocation;
mod channels;
#[cfg(any(test, fuzzing))]
pub(in crate::session) mod fuzzing;
mod link;
mod peers;
mod server;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc, watch};

use self::{
    allocation::{Allocation, Event, Failure, Login},
    link::{Link, LinkError},
    peers::Peers,
};
use super::{
    NamedBy, Shared,
    detour::{Detour, Outgoing},
    reader::deliver,
};
use crate::session::time;
pub use server::{TurnServer, TurnTransport};

/// Datagrams that wait to be wrapped.
const WAITING: usize = 1024;
/// Pauses between attempts at a server that does not work; they double.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often permissions are looked after.
const TICK: Duration = Duration::from_secs(1);

/// Where an allocation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum RelayState {
    /// Nobody knows yet.
    Trying,
    /// Peers reach us there.
    Ready(SocketAddr),
    /// It does not work; it is tried again. What is wrong.
    Failed(String),
}

/// A TURN server in use. The allocation is given back when this goes.
#[derive(Debug)]
pub(in crate::session) struct Relay {
    shared: Weak<Shared>,
    peers: Arc<Mutex<Peers<Detour>>>,
    wanted: Arc<Notify>,
    out: mpsc::Sender<Outgoing>,
    state: watch::Receiver<RelayState>,
    /// Its end lets the task give the allocation back.
    _open: mpsc::Sender<()>,
    preference: u32,
}

impl Relay {
    /// Begins to use a server; call it within the tokio runtime that reads the port.
    pub(super) fn start(shared: &Arc<Shared>, server: TurnServer, named_by: NamedBy) -> Self {
        let (state, state_out) = watch::channel(RelayState::Trying);
        let (out, outgoing) = mpsc::channel(WAITING);
        let (open, closed) = mpsc::channel(1);
        let (peers, wanted) = (Arc::<Mutex<Peers<Detour>>>::default(), Arc::<Notify>::default());
        // As libwebrtc prefers them: the fewer layers, the better.
        let preference = match server.transport {
            TurnTransport::Udp => 2,
            TurnTransport::Tcp => 1,
            TurnTransport::Tls => 0,
        };
        let shared = Arc::downgrade(shared);
        let task = Task {
            shared: shared.clone(),
            server,
            named_by,
            peers: peers.clone(),
            wanted: wanted.clone(),
            outgoing,
            closed,
            state,
        };
        tokio::spawn(task.run());
        Self { shared, peers, wanted, out, state: state_out, _open: open, preference }
    }

    /// Follows where it stands.
    pub(in crate::session) fn states(&self) -> watch::Receiver<RelayState> {
        self.state.clone()
    }

    /// Where peers reach us, if it works, and how much its candidate is preferred to other relays'.
    pub(in crate::session) fn address(&self) -> Option<(SocketAddr, u32)> {
        match *self.state.borrow() {
            RelayState::Ready(address) => Some((address, self.preference)),
            _ => None,
        }
    }

    /// Lets a peer at this address come through the server; what it is shown as. `None` for one that no relay of ours leads
    /// to: the relayed address is an IPv4 one.
    pub(in crate::session) fn permit(&self, peer: IpAddr) -> Option<Ipv4Addr> {
        let IpAddr::V4(ip) = peer else { return None };
        let shared = self.shared.upgrade()?;
        let open = || Detour::open(&shared, peer, None, self.out.clone());
        let address = lock(&self.peers).want(ip, open, time::now())?.address();
        self.wanted.notify_one();
        Some(address)
    }
}

struct Task {
    shared: Weak<Shared>,
    server: TurnServer,
    named_by: NamedBy,
    peers: Arc<Mutex<Peers<Detour>>>,
    wanted: Arc<Notify>,
    outgoing: mpsc::Receiver<Outgoing>,
    closed: mpsc::Receiver<()>,
    state: watch::Sender<RelayState>,
}

/// Why the server is not used now.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Allocation(#[from] Failure),
}

impl Task {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = time::now();
            let Err(error) = self.serve().await else { return };
            if matches!(*self.state.borrow(), RelayState::Ready(_)) && began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let failed = RelayState::Failed(format!("TURN server {}: {error}", self.server));
            self.state.send_if_modified(|state| {
                let new = *state != failed;
                *state = failed;
                new
            });
            lock(&self.peers).forget_grants();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.closed.recv() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Allocates, and relays until that ends: well if it is not needed any more.
    async fn serve(&mut self) -> Result<(), RelayError> {
        let mut link = tokio::select! {
            link = Link::open(&self.server, self.named_by) => link?,
            _ = self.closed.recv() => return Ok(()),
        };
        let login = Login { username: self.server.username.clone(), password: self.server.password.clone() };
        let mut allocation = Allocation::ask(login, link.is_reliable(), time::now())?;
        let mut ticks = tokio::time::interval(TICK);
        // Not for each datagram: all peers are gone through.
        let mut look_for_due = false;
        loop {
            let now = time::now();
            allocation.poll(now)?;
            if std::mem::take(&mut look_for_due) && matches!(*self.state.borrow(), RelayState::Ready(_)) {
                let due = lock(&self.peers).due(now);
                if !due.is_empty() {
                    allocation.permit(due, now)?;
                }
                allocation.bind(now)?;
            }
            for message in allocation.take_out() {
                link.send(&message);
            }
            let next = allocation.next().unwrap_or(now + TICK);
            tokio::select! {
                message = link.receive() => {
                    let now = time::now();
                    if let Some(event) = allocation.take(&message?, now)? {
                        self.heard(event, now);
                    }
                }
                outgoing = self.outgoing.recv() => {
                    let Some(Outgoing { to, datagram }) = outgoing else { return Ok(()) };
                    let now = time::now();
                    if let IpAddr::V4(ip) = to.ip() {
                        lock(&self.peers).used(ip, now);
                    }
                    let sent = link.send(&allocation.wrap(to, datagram, now)?);
                    if !sent && let Some(shared) = self.shared.upgrade() {
                        shared.counters.send_dropped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                () = self.wanted.notified() => look_for_due = true,
                () = tokio::time::sleep_until(next.into()) => {}
                _ = ticks.tick() => look_for_due = true,
                _ = self.closed.recv() => {
                    if let Some(message) = allocation.release() {
                        link.send(&message);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn heard(&self, event: Event, now: Instant) {
        match event {
            Event::Allocated(address) => {
                tracing::info!(server = %self.server, %address, "relaying");
                self.state.send_replace(RelayState::Ready(address));
            }
            Event::Permitted(peers) => lock(&self.peers).granted(&peers, now),
            Event::Refused(peers) => {
                tracing::debug!(server = %self.server, ?peers, "it does not relay to these addresses");
                lock(&self.peers).refused(&peers);
            }
            Event::Data { from, datagram } => {
                let IpAddr::V4(ip) = from.ip() else { return };
                // Only from whom it was permitted to, as long as that is not forgotten here.
                let detour = lock(&self.peers).used(ip, now).map(Detour::address);
                if let (Some(detour), Some(shared)) = (detour, self.shared.upgrade()) {
                    deliver(&shared, SocketAddr::from((detour, from.port())), &datagram, now);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
