//! The seam between HTTP and peer connections: what an endpoint's owner implements, and what it is handed.

use std::{fmt, net::SocketAddr, sync::Arc};

use async_trait::async_trait;

use super::{fragment::IceFragment, viewing::Viewing};
use crate::channel::{ChannelId, Credential};

/// Answers offers that arrive at one endpoint. Implemented by the element (or bin) that owns the endpoint.
#[async_trait]
pub trait OfferAnswerer: Send + Sync + 'static {
    /// Answers one offer, with host candidates and at once: it never waits for STUN, nor for the peer.
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError>;

    /// Whether an offer could be answered, if there were room: asked before something makes room for it.
    fn check(&self, _offer: &str, _both_ways: bool) -> Result<(), AnswerError> {
        Ok(())
    }

    /// An offer was turned away before it came here, as there are as many sessions as the endpoint may have.
    fn turned_away(&self) {}

    /// An offer of ours, in an [`Answer`], to a viewer whose own cannot be answered; `None` if it would be of no use.
    async fn counter_offer(&self, _offer: Offer) -> Option<Answer> {
        None
    }
}

/// One SDP offer, already checked for size, content type, number of candidates and the bearer token.
#[derive(Debug)]
pub struct Offer {
    /// The offer as it came in (RFC 8866).
    pub sdp: String,
    /// Names the session: the last segment of its URL.
    pub id: SessionId,
    /// Who sent it, as far as the TCP connection tells.
    pub remote: SocketAddr,
    /// The channel that it is for, where the endpoint has channels.
    pub channel: Option<ChannelId>,
    /// What its sender showed.
    pub credential: Credential,
    /// Whether the answer may send as well; WHIP's only receive (RFC 9725 section 4.2).
    pub both_ways: bool,
    /// Nobody else is to be told of the channel, and nobody watches it.
    pub is_private: bool,
    /// Keeps the session's URL alive. The session holds it and drops it when it has ended, for whatever reason.
    pub lease: SessionLease,
}

/// What an accepted offer leads to.
pub struct Answer {
    /// The answer, complete with candidates.
    pub sdp: String,
    /// The session behind it, for later requests on its URL.
    pub session: Arc<dyn SignaledSession>,
}

/// A session that later requests on its URL act on.
#[async_trait]
pub trait SignaledSession: Send + Sync + 'static {
    /// Ends the session because its peer asked for it (DELETE); returns when its endpoint is free again.
    async fn close(&self);
    /// Takes further candidates of the peer, or restarts ICE with its new credentials. On an error nothing has changed.
    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused>;
    /// Names the current ICE session, for the ETag (RFC 9725 section 4.3.1): another one after each restart.
    fn ice_session_tag(&self) -> String;
    /// Why it has ended, once it has, for who signaled it: `replaced`, `stopped`, or words of its own.
    fn end_reason(&self) -> Option<&'static str> {
        None
    }
    /// What it can do as a viewer's.
    fn viewing(&self) -> Option<&dyn Viewing> {
        None
    }
}

/// What a fragment was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IceUpdated {
    /// Candidates: 204.
    Trickled,
    /// A restart; our side of it: 200.
    Restarted(IceFragment),
}

/// Why a fragment was refused. The session goes on as it was. The text is shown to the client.
#[derive(Debug, thiserror::Error)]
pub enum IceRefused {
    /// It is of an ICE session that a restart has replaced: 412.
    #[error("the fragment is of an ICE session that a restart has replaced")]
    Stale,
    /// It breaks a rule: 400.
    #[error("the fragment is malformed: {0}")]
    Malformed(String),
    /// It cannot be done: 422.
    #[error("{0}")]
    Unacceptable(String),
    /// The session has ended meanwhile: 404.
    #[error("there is no such session; it may have ended")]
    Over,
}

/// Why an offer was not answered. The text is shown to the client: it names what was wrong and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The SDP cannot be parsed or breaks a rule: 400.
    #[error("the offer is malformed: {0}")]
    Malformed(String),
    /// The SDP is fine but nothing in it can be used, such as no codec in common: 422.
    #[error("the offer cannot be accepted: {0}")]
    Unacceptable(String),
    /// Another publisher is live on this endpoint: 409.
    #[error("another publisher is live on this endpoint")]
    Conflict,
    /// Nobody publishes what the offer wants to receive: 409 with Retry-After.
    #[error("nobody is live there; try again later")]
    NotLive,
    /// No room or not ready: 503 with Retry-After.
    #[error("not now: {0}")]
    Unavailable(String),
    /// Something of ours failed: 500.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A session's id: random, unguessable, URL-safe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// A fresh one with at least 128 bits of randomness (RFC 9725 section 6).
    pub fn random() -> Self {
        use rand::distr::{Alphanumeric, SampleString as _};
        Self(Alphanumeric.sample_string(&mut rand::rng(), 24))
    }

    /// As it stands in the URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The beginning of a session's id, for logs: the whole is what protects the session's URL.
pub fn abbreviate(id: &str) -> &str {
    id.get(..6).unwrap_or("")
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps a session's URL alive; dropping it takes the URL away.
pub struct SessionLease {
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl SessionLease {
    /// A lease that runs `on_drop` once when it goes.
    pub fn new(on_drop: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { on_drop: Some(Box::new(on_drop)) }
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        if let Some(f) = self.on_drop.take() {
            f();
        }
    }
}

impl fmt::Debug for SessionLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionLease")
    }
}
