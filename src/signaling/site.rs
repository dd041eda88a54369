//! A bridge server's part of a HOST:PORT: publishers by channel, and what all its routes share.

use std::sync::Arc;

use super::{
    answerer::OfferAnswerer,
    auth::{Access, Gate, Role},
    ice_server::IceServer,
    table::{Endpoint, EndpointParts},
    tls::TlsFiles,
    uri::ListenAddress,
};
use crate::channel::Registry;

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
    /// The channels.
    pub registry: Arc<dyn Registry>,
    /// Answers who publishes.
    pub publishing: Arc<dyn OfferAnswerer>,
}

/// What all routes of a bridge server share.
pub(crate) struct Site {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) gate: Arc<dyn Gate>,
    /// `/whip/{channel}`
    whip: Arc<Endpoint>,
}

/// The path that publishers' channels are below.
const WHIP: &str = "/whip";

impl Site {
    pub(crate) fn new(config: SiteConfig) -> Self {
        let SiteConfig { ice_servers, max_sessions, access, registry, publishing, .. } = config;
        let gate = access.gate(registry.clone());
        let whip = Endpoint::new(EndpointParts {
            path: WHIP.into(),
            role: Role::Publish,
            gate: gate.clone(),
            answerer: publishing,
            links: ice_servers.iter().filter_map(IceServer::link).collect(),
            most_sessions: max_sessions,
        });
        Self { registry, gate, whip: Arc::new(whip) }
    }

    /// Where to publish, with a placeholder for the channel, and whether that needs a token.
    pub(crate) fn publish_template(&self) -> (String, bool) {
        (format!("{WHIP}/{{channel}}"), self.gate.needs_token(Role::Publish))
    }

    /// The endpoint whose channels are below this path.
    pub(crate) fn endpoint(&self, path: &str) -> Option<Arc<Endpoint>> {
        (path == WHIP).then(|| self.whip.clone())
    }
}
