//! What a server serves: mounted endpoints, found by the path of a request.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    connection::Counters,
    endpoint::{Endpoint, Established},
    forwarded::TrustedProxies,
    problem::Refusal,
    site::Site,
    tls_reload::TlsCounters,
};
use crate::channel::ChannelId;

/// What one server serves.
#[derive(Default)]
pub(crate) struct Table {
    /// By path. Lock order: alone.
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    site: Mutex<Option<Arc<Site>>>,
    /// Names that the server was told to listen on.
    names: Mutex<Arc<BTreeSet<String>>>,
    /// How often its certificate was replaced.
    pub(crate) tls: Arc<TlsCounters>,
    /// Connections that were not taken.
    pub(crate) connections: Arc<Counters>,
}

/// What a path leads to.
pub(crate) enum Target {
    /// An endpoint itself.
    Endpoint(Place),
    /// A session's URL below an endpoint, whether or not there is such a session.
    Session(Place, String),
    /// A URL below a session's, of what a viewer can do with it.
    Extension(Place, String, Extension),
}

/// What stands below a viewer's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// Where layers are chosen.
    Layer,
    /// Where event streams are made.
    Events,
    /// An event stream.
    Stream(String),
}

impl Extension {
    /// The path of a session, and what stands below it.
    fn of(path: &str) -> Option<(&str, Self)> {
        let (parent, last) = path.rsplit_once('/')?;
        match (last, parent.rsplit_once('/')) {
            (LAYER, _) => Some((parent, Self::Layer)),
            (EVENTS, _) => Some((parent, Self::Events)),
            (stream, Some((session, EVENTS))) => Some((session, Self::Stream(stream.to_owned()))),
            _ => None,
        }
    }
}

/// The last segments of an extension's URL.
pub(crate) const LAYER: &str = "layer";
pub(crate) const EVENTS: &str = "sse";

/// An endpoint, and where it is one for each channel, which.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) channel: Option<ChannelId>,
}

impl Place {
    /// The path of its URL.
    pub(crate) fn path(&self) -> String {
        match &self.channel {
            Some(channel) => format!("{}/{channel}", self.endpoint.path),
            None => self.endpoint.path.clone(),
        }
    }

    /// The session with this id, if it is of this place.
    pub(crate) fn session(&self, id: &str) -> Option<Arc<Established>> {
        self.endpoint.session(self.channel.as_ref(), id)
    }
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

    /// Makes this a bridge server; false if it is one already.
    pub(crate) fn set_site(&self, site: Arc<Site>) -> bool {
        let mut place = lock(&self.site);
        let free = place.is_none();
        if free {
            *place = Some(site);
        }
        free
    }

    /// It is no bridge server any more.
    pub(crate) fn take_site(&self) {
        let gone = lock(&self.site).take();
        drop(gone);
    }

    /// The bridge server that this is, if it is one.
    pub(crate) fn site(&self) -> Option<Arc<Site>> {
        lock(&self.site).clone()
    }

    /// Remembers a host that somebody mounts something on: the server is called by it.
    pub(crate) fn add_name(&self, host: &str) {
        Arc::make_mut(&mut lock(&self.names)).insert(host.trim_end_matches('.').to_ascii_lowercase());
    }

    /// The hosts that the server was told to listen on.
    pub(crate) fn names(&self) -> Arc<BTreeSet<String>> {
        lock(&self.names).clone()
    }

    /// What `path`, in its one spelling, leads to.
    pub(crate) fn find(&self, path: &str) -> Result<Target, Refusal> {
        let found = self.find_session(path);
        match (found, Extension::of(path)) {
            (Err(refusal), Some((session, extension))) => match self.find_session(session) {
                Ok(Target::Session(place, id)) if place.endpoint.seating.is_some() => {
                    Ok(Target::Extension(place, id, extension))
                }
                _ => Err(refusal),
            },
            (found, _) => found,
        }
    }

    /// An endpoint, or a session below it.
    fn find_session(&self, path: &str) -> Result<Target, Refusal> {
        let nowhere = || Refusal::NoEndpoint(path.to_owned());
        let (parent, last) = path.rsplit_once('/').ok_or_else(nowhere)?;
        {
            let endpoints = lock(&self.endpoints);
            let place = |endpoint: &Arc<Endpoint>| Place { endpoint: endpoint.clone(), channel: None };
            if let Some(endpoint) = endpoints.get(path) {
                return Ok(Target::Endpoint(place(endpoint)));
            }
            if let Some(endpoint) = endpoints.get(parent) {
                return Ok(Target::Session(place(endpoint), last.to_owned()));
            }
        }
        let site = self.site().ok_or_else(nowhere)?;
        if let Some(endpoint) = site.endpoint(parent) {
            return Ok(Target::Endpoint(Place { endpoint, channel: Some(last.parse()?) }));
        }
        let (root, channel) = parent.rsplit_once('/').ok_or_else(nowhere)?;
        let endpoint = site.endpoint(root).ok_or_else(nowhere)?;
        Ok(Target::Session(Place { endpoint, channel: Some(channel.parse()?) }, last.to_owned()))
    }

    /// Whose word on a client's address is taken for a request of this path: that of the proxies of the element that serves it,
    /// or the bridge server's. One element's settings open nothing of another's on the same port.
    pub(crate) fn trusted_proxies(&self, path: &str) -> TrustedProxies {
        let place = match self.find(path) {
            Ok(Target::Endpoint(place) | Target::Session(place, _) | Target::Extension(place, _, _)) => Some(place),
            Err(_) => None,
        };
        match (place, self.site()) {
            (Some(Place { endpoint, channel: None }), _) => endpoint.trusted_proxies.clone(),
            (_, Some(site)) => site.trusted_proxies.clone(),
            // The page, which shows all of them and lets nobody do anything.
            (_, None) => self.endpoints().iter().map(|endpoint| endpoint.trusted_proxies.clone()).collect(),
        }
    }

    /// All endpoints of elements, in order of their paths.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> = lock(&self.endpoints).values().cloned().collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
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
    use crate::signaling::{
        Answer, AnswerError, Offer, OfferAnswerer,
        auth::{Role, TokenGate},
        endpoint::{EndpointParts, MAX_SESSIONS},
        viewing::{Seating, Seats},
    };

    struct Never;

    #[async_trait]
    impl OfferAnswerer for Never {
        async fn answer(&self, _: Offer) -> Result<Answer, AnswerError> {
            Err(AnswerError::Conflict)
        }
    }

    fn endpoint(path: &str) -> Arc<Endpoint> {
        with_seating(path, None)
    }

    fn with_seating(path: &str, seating: Option<Seating>) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(EndpointParts {
            path: path.into(),
            role: Role::Publish,
            gate: Arc::new(TokenGate::new(None)),
            answerer: Arc::new(Never),
            links: Vec::new(),
            seating,
            most_sessions: MAX_SESSIONS,
            trusted_proxies: TrustedProxies::default(),
        }))
    }

    #[test]
    fn path_leads_to_endpoint_or_session_below_it() {
        let table = Table::default();
        assert!(table.insert(endpoint("/whip/live")));
        assert!(!table.insert(endpoint("/whip/live")));
        assert!(matches!(table.find("/whip/live"), Ok(Target::Endpoint(_))));
        assert!(matches!(table.find("/whip/live/x"), Ok(Target::Session(_, id)) if id == "x"));
        assert!(table.find("/whip").is_err());
        assert!(table.find("/whip/live/x/y").is_err());
        table.remove("/whip/live");
        assert!(table.find("/whip/live").is_err());
    }

    #[test]
    fn what_stands_below_a_session_is_found_for_viewers_only() {
        let table = Table::default();
        let seating = Seating { seats: Seats::new(0), registry: None };
        let watched = with_seating("/whep/a", Some(seating));
        assert!(table.insert(watched) && table.insert(endpoint("/whip/a")));
        let below = |path: &str| match table.find(path) {
            Ok(Target::Extension(place, id, extension)) => Some((place.path(), id, extension)),
            _ => None,
        };
        let found = |extension| Some(("/whep/a".to_owned(), "x".to_owned(), extension));
        assert_eq!(below("/whep/a/x/layer"), found(Extension::Layer));
        assert_eq!(below("/whep/a/x/sse"), found(Extension::Events));
        assert_eq!(below("/whep/a/x/sse/y"), found(Extension::Stream("y".into())));
        for other in ["/whip/a/x/layer", "/whip/a/x/sse/y", "/whep/a/x/y", "/whep/a/x/sse/y/z", "/whep/b/x/sse", "/sse"]
        {
            assert_eq!(below(other), None, "{other}");
            assert!(table.find(other).is_err(), "{other}");
        }
        assert!(
            matches!(table.find("/whep/a/sse"), Ok(Target::Session(..))),
            "no more than a session that is not there"
        );
    }
}
