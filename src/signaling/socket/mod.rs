//! `GET /ws`: signaling over a WebSocket, for pages and elements that publish, talk to each other, or follow what is on.
//!
//! ```text
//!   frames ──▶ connection ──▶ member ──▶ request ──▶ protocol     one client: its frames, its messages, their types
//!                 ▲ outbox      │  └──▶ served ──▶ whip::accept, SignaledSession
//!                 │             ▼
//!                 └─────────── hub ◀── news ◀── Registry          who is where; what goes to whom
//! ```
//!
//! Media never comes here. A publisher's offer takes the same way as one that came by WHIP; descriptions of peers, and
//! of a publisher's page and the viewers that it serves, are passed on as they are.

mod connection;
mod counters;
mod hub;
mod limits;
mod member;
mod news;
mod outbox;
mod protocol;
mod redescribe;
mod refused;
mod request;
mod schema;
mod served;
mod unused;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    extract::{
        ConnectInfo, State, WebSocketUpgrade,
        ws::{WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
};
use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, Notify, watch},
    task::AbortHandle,
};
use tracing::debug;

use self::{connection::Room, hub::Hub, limits::Limits, member::Member, protocol::IceServerEntry};
use super::{
    auth::{Gate, websocket_token},
    connection::Peer,
    endpoint::Endpoint,
    ice_server::IceServer,
    places::NoPlace,
    problem::Refusal,
    table::Table,
    viewing::Seats,
};
use crate::channel::Registry;

pub(crate) use counters::{Counters, SocketCounts};
#[cfg(any(test, fuzzing))]
pub(super) use fuzzing_entry::message as fuzz_message;
pub use hub::Audience;
pub(crate) use schema::serve as serve_schema;

/// A message; an offer of 64 KiB as JSON would be larger, but browsers' have 5 to 10.
const MAX_MESSAGE: usize = 64 * 1024;

/// A bridge server's WebSockets. Dropping it ends them all.
pub(crate) struct Sockets {
    shared: Arc<Shared>,
    news: AbortHandle,
    /// Connections end with it.
    open: watch::Sender<()>,
}

/// What all connections of a server share.
struct Shared {
    registry: Arc<dyn Registry>,
    gate: Arc<dyn Gate>,
    /// Where WHIP's offers go too.
    publishing: Arc<Endpoint>,
    /// And WHEP's.
    viewing: Arc<Endpoint>,
    /// Lock order: before the registry's.
    hub: Mutex<Hub>,
    limits: Limits,
    counters: Counters,
    /// Held while a channel's audience is read and told, so that what is told last is the newest.
    settling: AsyncMutex<()>,
    /// What is on has changed without the registry.
    relist: Arc<Notify>,
}

/// What a server's WebSockets work with.
pub(crate) struct SocketsConfig {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) gate: Arc<dyn Gate>,
    /// Where publishers go.
    pub(crate) publishing: Arc<Endpoint>,
    /// Where viewers go.
    pub(crate) viewing: Arc<Endpoint>,
    /// Places for viewers, those of WHEP too.
    pub(crate) seats: Arc<Seats>,
    pub(crate) audience: Audience,
    /// STUN and TURN servers that clients are told of.
    pub(crate) ice_servers: Vec<IceServer>,
}

impl Shared {
    /// Every operation leaves it whole, so a panic elsewhere does no harm.
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sockets {
    /// What the registry tells is passed on by a task of `runtime`.
    pub(crate) fn new(runtime: &Handle, config: SocketsConfig) -> Self {
        let SocketsConfig { registry, gate, publishing, viewing, seats, audience, ice_servers } = config;
        let changes = registry.changes();
        let shared = Arc::new(Shared {
            registry,
            gate,
            publishing,
            viewing,
            hub: Mutex::new(Hub::new(audience, seats, ice_servers.iter().map(IceServerEntry::from).collect())),
            limits: Limits::default(),
            counters: Counters::default(),
            settling: AsyncMutex::default(),
            relist: Arc::default(),
        });
        let news = runtime.spawn(news::pass_on(Arc::downgrade(&shared), shared.relist.clone(), changes)).abort_handle();
        Self { shared, news, open: watch::channel(()).0 }
    }

    /// What has happened so far.
    pub(crate) fn counts(&self) -> SocketCounts {
        self.shared.counters.counts()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.news.abort();
    }
}

/// `GET /ws`
pub(crate) async fn serve(
    State(table): State<Arc<Table>>,
    ConnectInfo(Peer(remote)): ConnectInfo<Peer>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let site = table.site().ok_or_else(|| Refusal::NoEndpoint("/ws".into()));
    let accepted = site.and_then(|site| {
        let upgrade = upgrade.map_err(not_a_websocket)?;
        let Sockets { shared, open, .. } = &site.sockets;
        let place = shared.limits.connect(remote.ip()).map_err(|full| {
            shared.counters.turned_away();
            no_room(full)
        })?;
        let (shared, open) = (shared.clone(), open.subscribe());
        let token = websocket_token(&headers, uri.query());
        let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
        Ok(upgrade.on_upgrade(move |socket: WebSocket| async move {
            let _place = place;
            shared.counters.opened();
            debug!(%remote, "WebSocket opened");
            let (outbox, outgoing) = outbox::outbox();
            let member = Member::new(shared.clone(), outbox.clone(), remote, token);
            let room = Room { shared: &shared, open: &open };
            connection::run(socket, member, outbox, outgoing, room).await;
            shared.counters.closed();
            debug!(%remote, "WebSocket closed");
        }))
    });
    accepted.unwrap_or_else(|refusal: Refusal| {
        debug!(%remote, %refusal, "refused");
        refusal.into_response()
    })
}

fn not_a_websocket(rejection: WebSocketUpgradeRejection) -> Refusal {
    match rejection {
        WebSocketUpgradeRejection::MethodNotGet(_) => Refusal::Method { allow: "GET" },
        other => Refusal::NotWebSocket(other.body_text()),
    }
}

fn no_room(full: NoPlace) -> Refusal {
    Refusal::TooManyConnections(match full {
        NoPlace::Server => "this server has as many WebSockets as it can",
        NoPlace::Address => "there are too many WebSockets from this address",
    })
}

impl From<&IceServer> for IceServerEntry {
    fn from(server: &IceServer) -> Self {
        let (username, credential) = server.login().map(|(name, secret)| (name.to_owned(), secret.to_owned())).unzip();
        Self { urls: server.uri().to_owned(), username, credential }
    }
}

#[cfg(any(test, fuzzing))]
mod fuzzing_entry {
    //! What reads a text frame, without a socket.

    use super::{protocol::Code, redescribe, refused::Refused, request};
    use crate::signaling::socket::request::{Request, Signal};

    /// Reads a message as a connection does; what is refused has words for people, and what is not keeps the bounds.
    pub(in crate::signaling) fn message(text: &str) {
        match request::parse(text) {
            Err(bad) => {
                assert_eq!(bad.code, Code::BadMessage);
                let reply = Refused::from(bad).into_message().to_json(None);
                assert!(reply.len() < 8 * 1024, "an error is short: {reply}");
            }
            Ok((_, Request::Signal { signal: Signal::Offer(sdp), .. })) => {
                let _ = redescribe::compare(&sdp, &sdp);
                let _ = redescribe::mid_at(&sdp, 0);
                for candidate in redescribe::candidates(&sdp) {
                    assert!(!candidate.candidate.contains(['\r', '\n']));
                }
            }
            Ok((_, Request::Chat(text))) => assert!(!text.trim().is_empty() && text.chars().count() <= 500),
            Ok(_) => (),
        }
    }
}
