//! A bridge server's part of a HOST:PORT: publishers by channel, and what all its routes share.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    answerer::OfferAnswerer,
    auth::{Access, Gate, Role, counters::AuthCounters},
    endpoint::{Endpoint, EndpointParts},
    forwarded::TrustedProxies,
    ice_server::IceServer,
    monitor::{Monitor, Reports},
    origin::AllowedOrigins,
    socket::{Audience, Sockets, SocketsConfig},
    table::Place,
    tls::TlsFiles,
    uri::ListenAddress,
    viewing::{Seating, Seats},
};
use crate::channel::{ChannelId, Registry};

/// What to serve, and where.
pub struct SiteConfig {
    /// Where the server listens.
    pub listen: ListenAddress,
    /// Serves HTTPS with these files.
    pub tls: Option<TlsFiles>,
    /// STUN and TURN servers that clients are told of.
    pub ice_servers: Vec<IceServer>,
    /// The most sessions at a time.
    pub max_sessions: usize,
    /// Who may do what.
    pub access: Access,
    /// How many viewers there may be, and who serves them.
    pub audience: Audience,
    /// The channels.
    pub registry: Arc<dyn Registry>,
    /// Answers who publishes.
    pub publishing: Arc<dyn OfferAnswerer>,
    /// Answers who watches.
    pub viewing: Arc<dyn OfferAnswerer>,
    /// Serves the page, unless another element on the same HOST:PORT needs it.
    pub page: bool,
    /// Tells what the sessions are doing.
    pub monitor: Arc<dyn Monitor>,
}

/// What all routes of a bridge server share.
pub(crate) struct Site {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) page: bool,
    pub(crate) gate: Arc<dyn Gate>,
    /// What the gate has done.
    pub(crate) auth: Arc<AuthCounters>,
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) reports: Reports,
    /// `/ws`
    pub(crate) sockets: Sockets,
    /// `/whip/{channel}`
    whip: Arc<Endpoint>,
    /// `/whep/{channel}`
    whep: Arc<Endpoint>,
}

/// The path that publishers' channels are below.
const WHIP: &str = "/whip";
/// That viewers' are below.
const WHEP: &str = "/whep";

impl Site {
    /// Its timers run on `runtime`. An error says what of this machine is missing.
    pub(crate) fn new(runtime: &Handle, config: SiteConfig) -> Result<Self, String> {
        let SiteConfig {
            ice_servers,
            max_sessions,
            access,
            audience,
            registry,
            publishing,
            viewing,
            monitor,
            page,
            ..
        } = config;
        let auth = Arc::<AuthCounters>::default();
        let allowed_origins = access.allowed_origins.clone();
        let trusted_proxies = access.trusted_proxies.clone();
        let gate = access.gate(registry.clone(), auth.clone())?;
        let links: Vec<_> = ice_servers.iter().filter_map(IceServer::link).collect();
        let whip = Endpoint::new(EndpointParts {
            path: WHIP.into(),
            role: Role::Publish,
            gate: gate.clone(),
            answerer: publishing,
            links: links.clone(),
            seating: None,
            most_sessions: max_sessions,
            trusted_proxies: TrustedProxies::default(), // the site's
        });
        let whip = Arc::new(whip);
        let seats = Seats::new(audience.max_viewers);
        let whep = Arc::new(Endpoint::new(EndpointParts {
            path: WHEP.into(),
            role: Role::View,
            gate: gate.clone(),
            answerer: viewing,
            links,
            seating: Some(Seating { seats: seats.clone(), registry: Some(registry.clone()) }),
            // Viewers have seats, and those who have not connected are bounded by their answerer.
            most_sessions: usize::MAX,
            trusted_proxies: TrustedProxies::default(), // the site's
        }));
        let sockets = SocketsConfig {
            registry: registry.clone(),
            gate: gate.clone(),
            publishing: whip.clone(),
            viewing: whep.clone(),
            seats,
            audience,
            ice_servers,
        };
        let sockets = Sockets::new(runtime, sockets);
        let reports = Reports::new(monitor);
        Ok(Self { registry, page, gate, auth, allowed_origins, trusted_proxies, reports, sockets, whip, whep })
    }

    /// A channel of its own for an offer that names none.
    pub(crate) fn anywhere(&self) -> Place {
        Place { endpoint: self.whip.clone(), channel: Some(ChannelId::random()) }
    }

    /// The endpoint whose channels are below this path.
    pub(crate) fn endpoint(&self, path: &str) -> Option<Arc<Endpoint>> {
        match path {
            WHIP => Some(self.whip.clone()),
            WHEP => Some(self.whep.clone()),
            _ => None,
        }
    }
}
