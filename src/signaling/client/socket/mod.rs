//! A peer at a signaling server: joins a channel by `/ws`, and passes descriptions and candidates to the other one in it.
//!
//! Of two peers the one who is told that the other has come (`peer-joined`) makes the offer: he was there first, so that
//! the other one is listening by then. What a connection is made of is the caller's business, and so is when to try again;
//! [`ClientError::verdict`] says what an error means for it.

mod message;
mod url;

use std::{path::PathBuf, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{Method, header};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message, error::ProtocolError, handshake::client::generate_key, protocol::WebSocketConfig,
    },
};

use self::message::{FromServer, ToServer};
use super::{
    caller::bearer,
    error::{ClientError, Verdict},
    http::{self, Http, Reply, Stream},
    target::ServerUrl,
    tls,
};

pub use self::{
    message::SocketCandidate,
    url::{SocketUrl, SocketUrlError},
};

/// What a server says is as bounded as what it takes: 64 KiB, with room for what JSON adds.
const MAX_MESSAGE: usize = 256 * 1024;
/// From the first byte to being in the channel.
const JOINING: Duration = Duration::from_secs(10);
/// A connection over which nothing comes is asked for a sign of life.
const QUIET: Duration = Duration::from_secs(20);
/// And is taken for lost if none comes.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a message to leave; a server that takes nothing is lost too.
const SENDING: Duration = Duration::from_secs(10);

/// How a signaling server is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// Where, and which channel.
    pub url: SocketUrl,
    /// Bearer token to send.
    pub auth_token: Option<String>,
    /// PEM file with certificates to trust beside the system's.
    pub trusted: Option<PathBuf>,
}

/// Calls one signaling server.
#[derive(Clone)]
pub struct SocketClient {
    http: Http,
    url: SocketUrl,
}

/// A place in a channel. Dropping it leaves the channel, without a word.
pub struct Room {
    socket: WebSocketStream<Box<dyn Stream>>,
    server: ServerUrl,
    me: String,
    heard: Instant,
    pinged: bool,
}

/// What comes from the others in a channel, and from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEvent {
    /// Another peer has come; he waits for an offer.
    PeerJoined(String),
    /// A peer has gone.
    PeerLeft(String),
    /// The server has lost a peer, who may be there all the same for those who are connected to him.
    PeerLost(String),
    /// A peer's offer.
    Offer {
        /// Whose.
        from: String,
        /// The description.
        sdp: String,
    },
    /// A peer's answer.
    Answer {
        /// Whose.
        from: String,
        /// The description.
        sdp: String,
    },
    /// A peer's candidate.
    Candidate {
        /// Whose.
        from: String,
        /// The candidate.
        candidate: SocketCandidate,
    },
    /// The channel is over for us.
    Closed(String),
    /// The server did not do something that it was told.
    Refused {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// What is told to another peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// An offer.
    Offer(String),
    /// The answer to his.
    Answer(String),
    /// A candidate.
    Candidate(SocketCandidate),
}

impl SocketClient {
    /// Reads the files that `config` names; the error says which one is wrong, and why.
    pub fn new(config: &SocketConfig) -> Result<Self, String> {
        let tls = tls::config(config.trusted.as_deref())
            .map_err(|bad| format!("tls-certificate: {}: {}", bad.path.display(), bad.what))?;
        let token = config.auth_token.as_deref().map(bearer).transpose()?;
        Ok(Self { http: Http::new(tls, token), url: config.url.clone() })
    }

    /// Whether the server is on this machine.
    pub async fn is_local(&self) -> bool {
        http::is_local(self.url.server()).await
    }

    /// Connects and enters the channel as a peer.
    pub async fn join(&self) -> Result<Room, ClientError> {
        let server = self.url.server();
        match timeout(JOINING, Box::pin(self.enter())).await {
            Ok(room) => room,
            Err(_) => Err(ClientError::Timeout { server: server.clone(), seconds: JOINING.as_secs() }),
        }
    }

    async fn enter(&self) -> Result<Room, ClientError> {
        let server = self.url.server();
        let stream = self.http.open(server).await?;
        let request = self.http.request(server, Method::GET, true);
        // An absolute URL: tungstenite takes its path for the request line, and wants to see its scheme.
        let request = request
            .uri(self.url.to_request())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .body(())
            .map_err(|error| unusable(server, format!("there is no request to make for it: {error}")))?;
        let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (socket, _) =
            client_async_with_config(request, stream, Some(limits)).await.map_err(|error| match error {
                WsError::Http(reply) => {
                    let (head, body) = reply.into_parts();
                    let body = body.unwrap_or_default().into();
                    let reply = Reply { status: head.status, headers: head.headers, body, from: None };
                    self.http.refused(server, &reply, true)
                }
                other => broke(server, &other),
            })?;
        let mut room = Room { socket, server: server.clone(), me: String::new(), heard: Instant::now(), pinged: false };
        room.say(&ToServer::Join { channel: self.url.channel(), role: "peer" }).await?;
        loop {
            match room.hear().await? {
                FromServer::Joined { peer } => {
                    room.me = peer;
                    return Ok(room);
                }
                FromServer::Error { code, message } => return Err(turned_away(server, &code, &message)),
                _ => {}
            }
        }
    }
}

impl Room {
    /// What the others know us by.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// What comes next. Can be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<RoomEvent, ClientError> {
        loop {
            let event = match self.hear().await? {
                FromServer::PeerJoined { peer } => RoomEvent::PeerJoined(peer),
                FromServer::PeerLeft { peer, lost: false } => RoomEvent::PeerLeft(peer),
                FromServer::PeerLeft { peer, lost: true } => RoomEvent::PeerLost(peer),
                FromServer::Offer { from, sdp } => RoomEvent::Offer { from, sdp },
                FromServer::Answer { from: Some(from), sdp } => RoomEvent::Answer { from, sdp },
                FromServer::Candidate { from: Some(from), candidate } => RoomEvent::Candidate { from, candidate },
                FromServer::Closed { reason } => RoomEvent::Closed(reason),
                FromServer::Error { code, message } => RoomEvent::Refused { code, message },
                // What there is beside: chat, lists, counts.
                FromServer::Joined { .. }
                | FromServer::Answer { from: None, .. }
                | FromServer::Candidate { from: None, .. }
                | FromServer::Other => continue,
            };
            return Ok(event);
        }
    }

    /// Tells a peer something.
    pub async fn tell(&mut self, peer: &str, what: &Tell) -> Result<(), ClientError> {
        self.say(&match what {
            Tell::Offer(sdp) => ToServer::Offer { to: peer, sdp },
            Tell::Answer(sdp) => ToServer::Answer { to: peer, sdp },
            Tell::Candidate(candidate) => ToServer::Candidate { to: peer, candidate },
        })
        .await
    }

    /// Leaves the channel and closes the connection.
    pub async fn leave(mut self) {
        let goodbye = async {
            self.say(&ToServer::Leave {}).await?;
            self.socket.close(None).await.map_err(|error| broke(&self.server, &error))
        };
        if let Err(error) = goodbye.await {
            tracing::debug!(%error, "the signaling server was not told of our leaving");
        }
    }

    async fn say(&mut self, message: &ToServer<'_>) -> Result<(), ClientError> {
        self.push(Message::text(message.to_json())).await
    }

    async fn push(&mut self, message: Message) -> Result<(), ClientError> {
        match timeout(SENDING, self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|error| broke(&self.server, &error)),
            Err(_) => Err(ClientError::Timeout { server: self.server.clone(), seconds: SENDING.as_secs() }),
        }
    }

    /// The next message. What is no message of a signaling server's is a message that we do not know.
    async fn hear(&mut self) -> Result<FromServer, ClientError> {
        loop {
            let deadline = self.heard + QUIET + if self.pinged { PATIENCE } else { Duration::ZERO };
            let frame = match timeout_at(deadline, self.socket.next()).await {
                Err(_) if self.pinged => {
                    let seconds = (QUIET + PATIENCE).as_secs();
                    return Err(ClientError::Timeout { server: self.server.clone(), seconds });
                }
                Err(_) => {
                    self.pinged = true;
                    self.push(Message::Ping(Default::default())).await?;
                    continue;
                }
                Ok(None) => return Err(lost(&self.server, "the server has closed it")),
                Ok(Some(Err(error))) => return Err(broke(&self.server, &error)),
                Ok(Some(Ok(frame))) => frame,
            };
            (self.heard, self.pinged) = (Instant::now(), false);
            match frame {
                Message::Text(text) => return Ok(FromServer::of_json(&text)),
                Message::Close(Some(close)) => {
                    let reason = format!("the server has closed it: {} ({})", close.reason, close.code);
                    return Err(lost(&self.server, &reason));
                }
                // Pings are answered below.
                _ => {}
            }
        }
    }
}

fn unusable(server: &ServerUrl, why: String) -> ClientError {
    ClientError::Reply { server: server.clone(), why }
}

fn lost(server: &ServerUrl, why: &str) -> ClientError {
    ClientError::Unreachable { server: server.clone(), why: format!("the connection broke: {why}") }
}

fn broke(server: &ServerUrl, error: &WsError) -> ClientError {
    match error {
        // Cut off, which the library takes for bad manners.
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => lost(server, &error.to_string()),
        WsError::Protocol(_) | WsError::Capacity(_) | WsError::Utf8(_) => {
            unusable(server, format!("it is no WebSocket: {error}"))
        }
        _ => lost(server, &error.to_string()),
    }
}

/// What the server said to our joining.
fn turned_away(server: &ServerUrl, code: &str, message: &str) -> ClientError {
    let verdict = match code {
        "unauthorized" | "forbidden" | "bad-message" | "unsupported" => Verdict::Final,
        _ => Verdict::Retry(None),
    };
    let message = super::error::detail(message.as_bytes());
    ClientError::TurnedAway { server: server.clone(), message, verdict }
}
