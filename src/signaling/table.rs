//! What a server serves: mounted endpoints, and the sessions under each.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::HeaderValue;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use super::{
    answerer::{OfferAnswerer, SessionId, SessionLease, SignaledSession},
    auth::RequiredToken,
    problem::Refusal,
};

/// The endpoints of one server, by path.
#[derive(Default)]
pub(crate) struct Table {
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

/// What a path leads to.
pub(crate) enum Target {
    /// An endpoint itself.
    Endpoint(Arc<Endpoint>),
    /// A session's URL below an endpoint, whether or not there is such a session.
    Session(Arc<Endpoint>, String),
}

impl Table {
    /// Adds an endpoint; false if its path is taken.
    pub(crate) fn insert(&self, endpoint: Arc<Endpoint>) -> bool {
        let mut endpoints = lock(&self.endpoints);
        let free = !endpoints.contains_key(&endpoint.path);
        if free {
            endpoints.insert(endpoint.path.clone(), endpoint);
        }
        free
    }

    /// Takes an endpoint away, and its sessions' URLs with it.
    pub(crate) fn remove(&self, path: &str) {
        let gone = lock(&self.endpoints).remove(path);
        drop(gone);
    }

    /// What `path`, in its one spelling, leads to.
    pub(crate) fn find(&self, path: &str) -> Option<Target> {
        let endpoints = lock(&self.endpoints);
        if let Some(endpoint) = endpoints.get(path) {
            return Some(Target::Endpoint(endpoint.clone()));
        }
        let (parent, id) = path.rsplit_once('/')?;
        Some(Target::Session(endpoints.get(parent)?.clone(), id.to_owned()))
    }

    /// All endpoints, in order of their paths.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> = lock(&self.endpoints).values().cloned().collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }
}

/// One endpoint and its sessions.
pub(crate) struct Endpoint {
    pub(crate) path: String,
    pub(crate) token: Option<RequiredToken>,
    pub(crate) answerer: Arc<dyn OfferAnswerer>,
    /// What accepted offers are told, as Link headers.
    pub(crate) links: Vec<HeaderValue>,
    /// `None` while the offer is being answered.
    sessions: Mutex<HashMap<String, Option<Arc<Established>>>>,
}

/// A session behind its URL.
pub(crate) struct Established {
    session: Arc<dyn SignaledSession>,
    changing: AsyncMutex<()>,
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

impl Endpoint {
    pub(crate) fn new(
        path: String,
        token: Option<RequiredToken>,
        links: Vec<HeaderValue>,
        answerer: Arc<dyn OfferAnswerer>,
    ) -> Self {
        Self { path, token, answerer, links, sessions: Mutex::default() }
    }

    /// Makes a session's URL, which lasts as long as the lease.
    pub(crate) fn reserve(self: &Arc<Self>) -> Result<(SessionId, SessionLease), Refusal> {
        let id = SessionId::random();
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= MAX_SESSIONS {
            return Err(Refusal::TooManySessions(MAX_SESSIONS));
        }
        sessions.insert(id.as_str().to_owned(), None);
        let endpoint = Arc::downgrade(self);
        let leased = id.clone();
        let lease = SessionLease::new(move || {
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.take(leased.as_str());
            }
        });
        Ok((id, lease))
    }

    /// Puts a session behind its URL, unless it has ended meanwhile.
    pub(crate) fn establish(&self, id: &SessionId, session: Arc<dyn SignaledSession>) {
        if let Some(slot) = lock(&self.sessions).get_mut(id.as_str()) {
            *slot = Some(Arc::new(Established { session, changing: AsyncMutex::default() }));
        }
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Established>> {
        lock(&self.sessions).get(id)?.clone()
    }

    /// Takes a session's URL away. What it held is dropped outside the lock, as it may hold the last lease.
    pub(crate) fn take(&self, id: &str) -> Option<Arc<Established>> {
        let slot = lock(&self.sessions).remove(id);
        slot.flatten()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let sessions = mem::take(&mut *lock(&self.sessions));
        drop(sessions);
    }
}

/// The maps are whole after every statement, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::signaling::{Answer, AnswerError, IceFragment, IceRefused, IceUpdated, Offer};

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

    fn endpoint(path: &str) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(path.into(), None, Vec::new(), Arc::new(Never)))
    }

    #[test]
    fn path_leads_to_endpoint_or_session_below_it() {
        let table = Table::default();
        assert!(table.insert(endpoint("/whip/live")));
        assert!(!table.insert(endpoint("/whip/live")));
        assert!(matches!(table.find("/whip/live"), Some(Target::Endpoint(_))));
        assert!(matches!(table.find("/whip/live/x"), Some(Target::Session(_, id)) if id == "x"));
        assert!(table.find("/whip").is_none());
        assert!(table.find("/whip/live/x/y").is_none());
        table.remove("/whip/live");
        assert!(table.find("/whip/live").is_none());
    }

    #[test]
    fn session_url_lasts_as_long_as_the_lease() {
        let endpoint = endpoint("/a");
        let (id, lease) = endpoint.reserve().unwrap();
        let (other, other_lease) = endpoint.reserve().unwrap();
        endpoint.establish(&id, Arc::new(Holder(other_lease)));
        assert!(endpoint.session(id.as_str()).is_some());
        drop(lease);
        assert!(endpoint.session(id.as_str()).is_none());
        assert!(!lock(&endpoint.sessions).contains_key(other.as_str()), "its lease went with the first session");
    }

    #[test]
    fn sessions_are_bounded() {
        let endpoint = endpoint("/a");
        let mut leases: Vec<_> = (0..MAX_SESSIONS).map(|_| endpoint.reserve().unwrap()).collect();
        assert!(matches!(endpoint.reserve(), Err(Refusal::TooManySessions(_))));
        leases.pop();
        assert!(endpoint.reserve().is_ok());
    }
}
