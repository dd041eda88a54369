//! A mounted endpoint, and the URLs of its sessions.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::HeaderValue;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use super::{
    answerer::{OfferAnswerer, SessionId, SessionLease, SignaledSession},
    auth::{Gate, Role},
    forwarded::TrustedProxies,
    places::Places,
    problem::Refusal,
    viewing::Seating,
    whep_events::{self, Streams},
};
use crate::channel::ChannelId;

/// One endpoint and its sessions: of one path, or of one for each channel below its path.
pub(crate) struct Endpoint {
    pub(crate) path: String,
    /// What its clients come for.
    pub(crate) role: Role,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) answerer: Arc<dyn OfferAnswerer>,
    /// What accepted offers are told, as Link headers.
    pub(crate) links: Vec<HeaderValue>,
    /// Where its clients are viewers.
    pub(crate) seating: Option<Seating>,
    /// Places for those who listen to events.
    pub(crate) listening: Places,
    pub(crate) trusted_proxies: TrustedProxies,
    most_sessions: usize,
    sessions: Mutex<HashMap<String, Slot>>,
}

/// A session's URL.
struct Slot {
    channel: Option<ChannelId>,
    /// `None` while the offer is being answered.
    session: Option<Arc<Established>>,
}

/// A session behind its URL.
pub(crate) struct Established {
    session: Arc<dyn SignaledSession>,
    changing: AsyncMutex<()>,
    /// Who listens to what is on.
    pub(crate) streams: Streams,
}

impl Established {
    pub(crate) fn inner(&self) -> &dyn SignaledSession {
        &*self.session
    }

    /// Held from comparing the session's tag until it is changed, by one request at a time.
    pub(crate) async fn turn(&self) -> AsyncMutexGuard<'_, ()> {
        self.changing.lock().await
    }
}

/// Far above what an endpoint with one publisher needs; the answerer has tighter limits of its own.
pub(crate) const MAX_SESSIONS: usize = 128;

/// What an endpoint is made of.
pub(crate) struct EndpointParts {
    pub(crate) path: String,
    pub(crate) role: Role,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) answerer: Arc<dyn OfferAnswerer>,
    pub(crate) links: Vec<HeaderValue>,
    pub(crate) seating: Option<Seating>,
    pub(crate) most_sessions: usize,
    pub(crate) trusted_proxies: TrustedProxies,
}

impl Endpoint {
    pub(crate) fn new(parts: EndpointParts) -> Self {
        let EndpointParts { path, role, gate, answerer, links, seating, most_sessions, trusted_proxies } = parts;
        let (listening, sessions) = (whep_events::places(), Mutex::default());
        Self { path, role, gate, answerer, links, seating, listening, trusted_proxies, most_sessions, sessions }
    }

    /// Makes a session's URL, which lasts as long as the lease.
    pub(crate) fn reserve(self: &Arc<Self>, channel: Option<ChannelId>) -> Result<(SessionId, SessionLease), Refusal> {
        let id = SessionId::random();
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.most_sessions {
            self.answerer.turned_away();
            return Err(Refusal::TooManySessions(self.most_sessions));
        }
        sessions.insert(id.as_str().to_owned(), Slot { channel, session: None });
        let endpoint = Arc::downgrade(self);
        let leased = id.clone();
        let lease = SessionLease::new(move || {
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.free(leased.as_str());
            }
        });
        Ok((id, lease))
    }

    /// Puts a session behind its URL, unless it has ended meanwhile.
    pub(crate) fn establish(&self, id: &SessionId, session: Arc<dyn SignaledSession>) {
        if let Some(slot) = lock(&self.sessions).get_mut(id.as_str()) {
            slot.session =
                Some(Arc::new(Established { session, changing: AsyncMutex::default(), streams: Streams::default() }));
        }
    }

    /// The session with this id, if it is of this channel.
    pub(crate) fn session(&self, channel: Option<&ChannelId>, id: &str) -> Option<Arc<Established>> {
        let sessions = lock(&self.sessions);
        let slot = sessions.get(id)?;
        (slot.channel.as_ref() == channel).then(|| slot.session.clone())?
    }

    /// Takes a session's URL away, if it is of this channel.
    pub(crate) fn take(&self, channel: Option<&ChannelId>, id: &str) -> Option<Arc<Established>> {
        let session = self.session(channel, id)?;
        self.free(id);
        Some(session)
    }

    /// What the slot held is dropped outside the lock, as it may hold the last lease.
    fn free(&self, id: &str) {
        let slot = lock(&self.sessions).remove(id);
        drop(slot);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let sessions = mem::take(&mut *lock(&self.sessions));
        drop(sessions);
    }
}

/// The map is whole after every statement, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::signaling::{Answer, AnswerError, IceFragment, IceRefused, IceUpdated, Offer, auth::TokenGate};

    struct Never;

    #[async_trait]
    impl OfferAnswerer for Never {
        async fn answer(&self, _: Offer) -> Result<Answer, AnswerError> {
            Err(AnswerError::Conflict)
        }
    }

    /// A session that holds its own lease, the worst case for whoever drops it.
    struct Holder(#[expect(dead_code, reason = "held for its Drop")] SessionLease);

    #[async_trait]
    impl SignaledSession for Holder {
        async fn close(&self) {}
        async fn update_ice(&self, _: IceFragment) -> Result<IceUpdated, IceRefused> {
            Err(IceRefused::Over)
        }
        fn ice_session_tag(&self) -> String {
            String::new()
        }
    }

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new(EndpointParts {
            path: "/a".into(),
            role: Role::Publish,
            gate: Arc::new(TokenGate::new(None)),
            answerer: Arc::new(Never),
            links: Vec::new(),
            seating: None,
            most_sessions: MAX_SESSIONS,
            trusted_proxies: TrustedProxies::default(),
        }))
    }

    #[test]
    fn session_url_lasts_as_long_as_the_lease() {
        let endpoint = endpoint();
        let (id, lease) = endpoint.reserve(None).unwrap();
        let (other, other_lease) = endpoint.reserve(None).unwrap();
        endpoint.establish(&id, Arc::new(Holder(other_lease)));
        assert!(endpoint.session(None, id.as_str()).is_some());
        drop(lease);
        assert!(endpoint.session(None, id.as_str()).is_none());
        assert!(!lock(&endpoint.sessions).contains_key(other.as_str()), "its lease went with the first session");
    }

    #[test]
    fn sessions_are_bounded() {
        let endpoint = endpoint();
        let mut leases: Vec<_> = (0..MAX_SESSIONS).map(|_| endpoint.reserve(None).unwrap()).collect();
        assert!(matches!(endpoint.reserve(None), Err(Refusal::TooManySessions(_))));
        leases.pop();
        assert!(endpoint.reserve(None).is_ok());
    }
}
