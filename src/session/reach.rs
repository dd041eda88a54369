//! How peers reach us besides the addresses of this machine: as a STUN server sees the port, through TURN servers, by TCP.
//!
//! Decides which candidates a description names and which of the peer's are checked by which way. How the ways work is the
//! shared port's business (`mux`), what is configured the elements'.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    candidates,
    mux::{Mapping, Mux, NamedBy, Reflexive, Relay, RelayState, StunServer, TcpPort, TcpPortError, TurnServer},
};

/// From the start of an element: a description waits so long for servers that have not answered. A TURN server over TLS
/// has four round trips to answer in; who starts before its first peer comes never waits.
const GATHERING: Duration = Duration::from_millis(1500);
/// A peer's candidates that are also checked through a relay cost as many checks again.
const MOST_RELAYS: usize = 3;

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReachConfig {
    /// Asked how the port is seen.
    pub stun: Option<StunServer>,
    /// Relayed through.
    pub turn: Vec<TurnServer>,
    /// Peers may connect by TCP.
    pub tcp: bool,
    /// Nothing but relays: peers learn no address of this machine.
    pub relay_only: bool,
    /// Who has named the servers.
    pub named_by: NamedBy,
}

impl ReachConfig {
    /// Nothing but the addresses of this machine.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why this cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Relays only, and none.
    #[error(
        "ice-transport-policy=relay needs turn-servers: for example turn-servers=\"<(string)turn://user:password@turn.example.net:3478>\""
    )]
    NoServer,
    /// TCP is no relay.
    #[error("ice-tcp=true and ice-transport-policy=relay exclude each other: leave one of them out")]
    TcpWithoutAddress,
    /// More than are of use.
    #[error("turn-servers has {0} servers; name three at most, as each costs every peer checks")]
    TooMany(usize),
    /// No TCP port.
    #[error(transparent)]
    Tcp(#[from] TcpPortError),
}

/// The ways to us, while somebody uses them.
#[derive(Debug)]
pub struct Reach {
    relay_only: bool,
    reflexive: Option<Reflexive>,
    relays: Vec<Relay>,
    tcp: Option<Arc<TcpPort>>,
    gathered_by: Instant,
    watching: Vec<AbortHandle>,
}

impl Reach {
    /// Opens the ways; call it within the tokio runtime that reads the port. `problem` is told of servers that do not work,
    /// and never of a password.
    pub fn open(
        mux: &Mux,
        config: ReachConfig,
        problem: impl Fn(String) + Clone + Send + 'static,
    ) -> Result<Arc<Self>, ReachError> {
        let ReachConfig { stun, turn, tcp, relay_only, named_by } = config;
        match (relay_only, turn.len()) {
            (true, 0) => return Err(ReachError::NoServer),
            (_, count) if count > MOST_RELAYS => return Err(ReachError::TooMany(count)),
            _ if relay_only && tcp => return Err(ReachError::TcpWithoutAddress),
            _ => {}
        }
        let tcp = if tcp { Some(mux.tcp()?) } else { None };
        let reflexive = stun.filter(|_| !relay_only).map(|server| mux.reflexive(server, named_by));
        let relays: Vec<Relay> = turn.into_iter().map(|server| mux.relay(server, named_by)).collect();
        let mut watching: Vec<AbortHandle> = Vec::new();
        for relay in &relays {
            let told = tell(relay.states(), problem.clone(), |state| match state {
                RelayState::Failed(why) => Some(why.clone()),
                _ => None,
            });
            watching.push(tokio::spawn(told).abort_handle());
        }
        if let Some(reflexive) = &reflexive {
            let told = tell(reflexive.mappings(), problem, |mapping| match mapping {
                Mapping::Failed(why) => Some(why.clone()),
                _ => None,
            });
            watching.push(tokio::spawn(told).abort_handle());
        }
        Ok(Arc::new(Self { relay_only, reflexive, relays, tcp, gathered_by: Instant::now() + GATHERING, watching }))
    }

    /// What came of each server, once that is known: where peers reach us by it, or why they do not. Not before they have all
    /// answered or failed.
    pub async fn outcomes(&self) -> Vec<Result<SocketAddr, String>> {
        let mut outcomes = Vec::new();
        if let Some(reflexive) = &self.reflexive {
            let mut mappings = reflexive.mappings();
            let known = mappings.wait_for(|mapping| *mapping != Mapping::Asking).await;
            outcomes.extend(known.ok().and_then(|mapping| match &*mapping {
                Mapping::Asking => None,
                Mapping::Seen(address) => Some(Ok(*address)),
                Mapping::Failed(why) => Some(Err(why.clone())),
            }));
        }
        for relay in &self.relays {
            let mut states = relay.states();
            let known = states.wait_for(|state| *state != RelayState::Trying).await;
            outcomes.extend(known.ok().and_then(|state| match &*state {
                RelayState::Trying => None,
                RelayState::Ready(address) => Some(Ok(*address)),
                RelayState::Failed(why) => Some(Err(why.clone())),
            }));
        }
        outcomes
    }

    /// Whether peers may learn no address of this machine.
    pub(super) fn is_relay_only(&self) -> bool {
        self.relay_only
    }

    /// Waits until the servers have answered or failed, but not for long.
    pub(crate) async fn gathered(&self) {
        for relay in &self.relays {
            let mut states = relay.states();
            let _ = timeout_at(self.gathered_by, states.wait_for(|state| *state != RelayState::Trying)).await;
        }
        if let Some(reflexive) = &self.reflexive {
            let mut mappings = reflexive.mappings();
            let _ = timeout_at(self.gathered_by, mappings.wait_for(|mapping| *mapping != Mapping::Asking)).await;
        }
    }

    /// The candidates for these addresses and for the other ways, as `candidate:…`.
    pub(super) fn candidates(&self, addresses: &[IpAddr], port: u16) -> Vec<String> {
        let relayed = self.relays.iter().filter_map(Relay::address).collect::<Vec<_>>();
        let relayed = candidates::relayed(&relayed);
        if self.relay_only {
            return relayed;
        }
        let mut lines = candidates::lines(addresses, port);
        if self.tcp.is_some() {
            lines.extend(candidates::over_tcp(addresses, port));
        }
        let seen = self.reflexive.as_ref().and_then(Reflexive::address);
        lines.extend(seen.filter(|seen| !addresses.contains(&seen.ip())).map(candidates::reflexive));
        lines.extend(relayed);
        lines
    }

    /// Lets a peer with these candidates come through the relays, and returns the description with those in it that are to
    /// be checked: by which way, the address says. `calls`: the peer may be one that only answers.
    pub(super) fn lead(&self, sdp: &str, calls: bool) -> String {
        let mut out = String::with_capacity(sdp.len());
        for line in sdp.split_inclusive('\n') {
            match line.trim_end().strip_prefix("a=candidate:") {
                None => out.push_str(line),
                Some(candidate) => {
                    for candidate in self.ways(candidate, calls) {
                        out.push_str("a=candidate:");
                        out.push_str(&candidate);
                        out.push_str("\r\n");
                    }
                }
            }
        }
        out
    }

    /// The same for one candidate that was trickled: what follows `candidate:`.
    pub(super) fn ways(&self, candidate: &str, calls: bool) -> Vec<String> {
        let address = candidate.split_ascii_whitespace().nth(4).and_then(|address| address.parse().ok());
        let detours: Vec<_> = address
            .map(|address| self.relays.iter().filter_map(|relay| relay.permit(address)).collect())
            .unwrap_or_default();
        let mut ways = Vec::new();
        if !self.relay_only {
            ways.push(candidate.to_owned());
        }
        if self.relay_only || calls {
            ways.extend(detours.into_iter().map(|detour| candidates::by_way_of(candidate, detour)));
        }
        ways
    }

    /// Why nobody can reach us now: there is no other way than relays, and none works.
    pub(super) fn obstacle(&self) -> Option<String> {
        if !self.relay_only || self.relays.iter().any(|relay| relay.address().is_some()) {
            return None;
        }
        let why = self.relays.iter().filter_map(|relay| match &*relay.states().borrow() {
            RelayState::Failed(why) => Some(why.clone()),
            _ => None,
        });
        let why: Vec<String> = why.collect();
        Some(match why.is_empty() {
            true => "no TURN server has answered yet".into(),
            false => why.join("; "),
        })
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.watching.iter().for_each(AbortHandle::abort);
    }
}

/// Tells of each new problem once.
async fn tell<T>(mut states: watch::Receiver<T>, problem: impl Fn(String), is_one: impl Fn(&T) -> Option<String>) {
    let mut last = None;
    loop {
        let now = is_one(&states.borrow_and_update());
        if let Some(why) = now.filter(|why| last.as_ref() != Some(why)) {
            tracing::warn!("{why}");
            last = Some(why.clone());
            problem(why);
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// For descriptions of sessions that may have no other ways.
pub(super) fn lines(reach: Option<&Reach>, addresses: &[IpAddr], port: u16) -> Vec<String> {
    match reach {
        Some(reach) => reach.candidates(addresses, port),
        None => candidates::lines(addresses, port),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::session::{NamedBy, TurnTransport, UdpPorts};

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_a_far_server_names_leads_to_nothing_on_this_machine() {
        let (stun, turn) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        stun.set_nonblocking(true).unwrap();
        turn.set_nonblocking(true).unwrap();
        let mux = Mux::bind(UdpPorts::Any).unwrap();
        let config = |named_by| ReachConfig {
            stun: Some(StunServer { host: "127.0.0.1".into(), port: stun.local_addr().unwrap().port() }),
            turn: vec![TurnServer {
                host: "localhost".into(), // whatever it is resolved to
                port: turn.local_addr().unwrap().port(),
                transport: TurnTransport::Tcp,
                username: "u".into(),
                password: "p".into(),
            }],
            named_by,
            ..ReachConfig::default()
        };
        let reach = Reach::open(&mux, config(NamedBy::Server { is_local: false }), |_| ()).unwrap();
        let outcomes = tokio::time::timeout(SOON, reach.outcomes()).await.unwrap();
        assert!(outcomes.len() == 2 && outcomes.iter().all(Result::is_err), "{outcomes:?}");
        assert!(stun.recv(&mut [0; 512]).is_err() && turn.accept().is_err(), "neither was called");
        drop(reach);
        // An operator may.
        let _reach = Reach::open(&mux, config(NamedBy::Operator), |_| ()).unwrap();
        let (stun, turn) = (tokio::net::UdpSocket::from_std(stun), tokio::net::TcpListener::from_std(turn));
        let mut question = [0; 512];
        assert!(tokio::time::timeout(SOON, stun.unwrap().recv(&mut question)).await.unwrap().is_ok());
        assert!(tokio::time::timeout(SOON, turn.unwrap().accept()).await.unwrap().is_ok());
    }
}
