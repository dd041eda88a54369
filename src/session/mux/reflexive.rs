//! What a STUN server says of the shared port (RFC 8489): the address that a NAT shows it as. Asked again and again while it
//! is of use, which also keeps the NAT from forgetting it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use rtc::stun::{
    message::{BINDING_REQUEST, BINDING_SUCCESS, Getter as _, Message, TransactionId},
    xoraddr::XorMappedAddress,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{NamedBy, Shared, stun};

/// NATs forget after 30 s at the earliest (RFC 4787 section 4.3 wants two minutes, many do not care).
const REFRESH: Duration = Duration::from_secs(20);
/// A lost request is made again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// A STUN server as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum Mapping {
    /// Nobody knows yet.
    Asking,
    /// The port is seen there.
    Seen(SocketAddr),
    /// It cannot be known; why.
    Failed(String),
}

/// Questions that wait for their answer.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asked: HashMap<stun::Transaction, (SocketAddr, mpsc::Sender<SocketAddr>)>,
}

impl Questions {
    /// Whether this answers one of them.
    pub(super) fn answered(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some((stun::Kind::Response, transaction)) = stun::kind(datagram) else { return false };
        let Some((server, answer)) = self.asked.get(&transaction) else { return false };
        if *server != from {
            return false;
        }
        let (mut message, mut address) = (Message::new(), XorMappedAddress::default());
        message.raw = datagram.to_vec();
        let decoded = message.decode().is_ok() && message.typ == BINDING_SUCCESS;
        if decoded && address.get_from(&message).is_ok() {
            let _ = answer.try_send(SocketAddr::new(address.ip, address.port)); // one is enough
        }
        true
    }
}

/// A STUN server in use.
#[derive(Debug)]
pub(in crate::session) struct Reflexive {
    mapping: watch::Receiver<Mapping>,
    task: AbortHandle,
}

impl Reflexive {
    /// Begins to ask; call it within the tokio runtime that reads the port.
    pub(super) fn start(shared: &Arc<Shared>, server: StunServer, named_by: NamedBy) -> Self {
        let (state, mapping) = watch::channel(Mapping::Asking);
        let task = tokio::spawn(run(Arc::downgrade(shared), server, named_by, state)).abort_handle();
        Self { mapping, task }
    }

    /// Follows what is known.
    pub(in crate::session) fn mappings(&self) -> watch::Receiver<Mapping> {
        self.mapping.clone()
    }

    /// Where the port is seen, if that is known.
    pub(in crate::session) fn address(&self) -> Option<SocketAddr> {
        match *self.mapping.borrow() {
            Mapping::Seen(address) => Some(address),
            _ => None,
        }
    }
}

impl Drop for Reflexive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(shared: Weak<Shared>, server: StunServer, named_by: NamedBy, state: watch::Sender<Mapping>) {
    let StunServer { host, port } = &server;
    loop {
        let found = match tokio::net::lookup_host((host.as_str(), *port)).await {
            Err(error) => Err(format!("its name cannot be resolved: {error}")),
            Ok(addresses) => {
                let Some(port) = shared.upgrade() else { return };
                // Where there is no IPv6 socket, an IPv6 address cannot be asked; what a NAT does is about IPv4.
                let is_usable = |address: &SocketAddr| address.is_ipv4() || port.dual_stack;
                let mut usable: Vec<_> =
                    addresses.filter(|address| is_usable(address) && named_by.admits(*address)).collect();
                drop(port);
                usable.sort_by_key(SocketAddr::is_ipv6);
                match usable.first() {
                    Some(address) => ask(&shared, *address).await,
                    None => Err("it has no address that can be reached from here".into()),
                }
            }
        };
        let new = match found {
            Ok(address) => Mapping::Seen(address),
            Err(why) => Mapping::Failed(format!("STUN server stun:{host}:{port}: {why}")),
        };
        state.send_if_modified(|known| {
            let changed = *known != new;
            *known = new;
            changed
        });
        tokio::time::sleep(REFRESH).await;
    }
}

/// A question that is withdrawn when this goes.
struct Asked {
    shared: Weak<Shared>,
    transaction: stun::Transaction,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.reflexive().asked.remove(&self.transaction);
        }
    }
}

async fn ask(shared: &Weak<Shared>, server: SocketAddr) -> Result<SocketAddr, String> {
    let transaction = TransactionId::new();
    let mut message = Message::new();
    message.build(&[Box::new(BINDING_REQUEST), Box::new(transaction)]).map_err(|error| error.to_string())?;
    let (answer, mut answered) = mpsc::channel(1);
    let _asked = Asked { shared: shared.clone(), transaction: transaction.0 };
    for (place, pause) in PAUSES.into_iter().enumerate() {
        let Some(port) = shared.upgrade() else { return Err("the port is closed".into()) };
        if place == 0 {
            port.reflexive().asked.insert(transaction.0, (server, answer.clone()));
        }
        port.send(server, None, &message.raw);
        drop(port);
        if let Ok(Some(address)) = tokio::time::timeout(pause, answered.recv()).await {
            return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
        }
    }
    Err("it does not answer".into())
}
