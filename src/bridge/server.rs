//! A bridge server: its port, its channels and its sessions as one thing, and what is left when it goes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use super::{
    monitor::Everybody,
    properties, reach,
    report::{Observer, SessionChange},
    sessions::{SessionBuilder, Sessions, SessionsConfig},
    viewers::{Viewers, ViewersConfig},
};
use crate::{
    channel::{ChannelId, ChannelLimits, MemoryRegistry, Registry},
    runtime,
    session::{CodecPreferences, Mux, ReachConfig, SessionConfig, UdpPorts},
    signaling::{Access, Audience, IceServer, ListenAddress, SessionId, SiteConfig, SiteMount, TlsFiles, mount_site},
};

/// How long viewers have to be told of the end.
const FAREWELL: Duration = Duration::from_millis(300);

/// What a bridge server is made of. The defaults are those of `webrtcbridgebin`, with sessions that take no media.
pub struct ServerConfig {
    /// Where it listens; port 0 picks a free one.
    pub listen: ListenAddress,
    /// Serves HTTPS with these files.
    pub tls: Option<TlsFiles>,
    /// Who may do what.
    pub access: Access,
    /// STUN and TURN servers that peers are told of.
    pub ice_servers: Vec<IceServer>,
    /// Ways for peers to reach us besides our addresses: STUN and TURN servers that we use ourselves, TCP.
    pub reach: ReachConfig,
    /// The UDP port for the media of all sessions.
    pub udp_ports: UdpPorts,
    /// Addresses to announce in place of this machine's.
    pub public_addresses: Vec<IpAddr>,
    /// What may be received.
    pub codecs: CodecPreferences,
    /// The most that a peer shall send as video, in bit/s; 0 for no limit.
    pub max_bitrate: u32,
    /// How long a peer has from the answer to being connected.
    pub connect_timeout: Duration,
    /// How many channels there may be, and how long without a sign of life.
    pub channels: ChannelLimits,
    /// The most sessions at a time.
    pub max_sessions: usize,
    /// How many viewers there may be, and who serves them.
    pub audience: Audience,
    /// Serves the page.
    pub page: bool,
    /// Makes each session's pipeline: a [`Description`](super::Description), or a closure that gets channel and session id.
    pub session: Arc<dyn SessionBuilder>,
    /// Hears of each change of a session's state.
    pub observer: Arc<dyn Observer>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: ListenAddress { host: "127.0.0.1".into(), port: 8080 },
            tls: None,
            access: Access::default(),
            ice_servers: Vec::new(),
            reach: ReachConfig::default(),
            udp_ports: UdpPorts::Any,
            public_addresses: Vec::new(),
            codecs: CodecPreferences::default(),
            max_bitrate: 0,
            connect_timeout: Duration::from_secs(10),
            channels: ChannelLimits { max_channels: 100, ttl: Duration::from_secs(3600) },
            max_sessions: 100,
            audience: Audience { max_viewers: 1000, p2p_viewers: 0 },
            page: true,
            session: Arc::new(|_: &ChannelId, _: &SessionId| Ok(None)),
            observer: Arc::new(Nobody),
        }
    }
}

struct Nobody;

impl Observer for Nobody {
    fn session(&self, _: &SessionChange) {}
}

/// Why a server does not start: which setting is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

impl ServerError {
    pub(super) fn thread(error: std::io::Error) -> Self {
        Self(format!("a thread could not be started: {error}"))
    }

    pub(super) fn panicked(error: tokio::task::JoinError) -> Self {
        Self(format!("serving failed: {error}"))
    }
}

/// A server that listens. Sessions begin once it plays.
pub(crate) struct Server {
    mount: SiteMount,
    sessions: Sessions,
    viewers: Viewers,
    mux: Arc<Mux>,
}

impl Server {
    /// Checks everything and listens.
    pub(crate) fn start(config: ServerConfig) -> Result<Self, ServerError> {
        let media = runtime::media().map_err(ServerError::thread)?;
        let http = runtime::signaling().map_err(ServerError::thread)?;
        let (codecs, missing) = properties::receivable(config.codecs).map_err(ServerError)?;
        for why in missing {
            tracing::warn!("{why}");
        }
        let mux = Mux::shared(media, config.udp_ports).map_err(|error| {
            ServerError(format!("{error}; choose another ice-udp-port or ice-udp-port-range, or leave both out"))
        })?;
        let observer = config.observer.clone();
        let reach = reach::open_telling(&mux, config.reach, move |why| observer.problem(&why)).map_err(ServerError)?;
        let registry = Arc::new(MemoryRegistry::new(config.channels, http));
        let session = SessionConfig {
            mux: mux.clone(),
            codecs,
            public_addresses: config.public_addresses,
            connect_timeout: config.connect_timeout,
            max_bitrate: config.max_bitrate,
            reach,
        };
        // The limit is for those who send.
        let of_viewers = SessionConfig { max_bitrate: 0, ..session.clone() };
        let sessions = Sessions::new(SessionsConfig {
            session,
            media: media.clone(),
            http: http.clone(),
            registry: registry.clone(),
            builder: config.session,
            observer: config.observer,
            max_sessions: config.max_sessions,
        });
        let config_of_viewers =
            ViewersConfig { session: of_viewers, media: media.clone(), http: http.clone(), data: None };
        let viewers = Viewers::new(config_of_viewers, Arc::new(sessions.clone()));
        viewers.end_with_channels(&(registry.clone() as Arc<dyn Registry>));
        let site = SiteConfig {
            listen: config.listen,
            tls: config.tls,
            ice_servers: config.ice_servers,
            max_sessions: config.max_sessions,
            access: config.access,
            registry,
            publishing: Arc::new(sessions.clone()),
            viewing: Arc::new(viewers.clone()),
            monitor: Arc::new(Everybody { sessions: sessions.clone(), viewers: viewers.clone() }),
            audience: config.audience,
            page: config.page,
        };
        let mount = mount_site(http, site).map_err(|error| ServerError(error.to_string()))?;
        Ok(Self { mount, sessions, viewers, mux })
    }

    /// Where it is called, such as `http://127.0.0.1:8080`.
    pub(crate) fn url(&self) -> &str {
        self.mount.url()
    }

    /// What its user should be warned of.
    pub(crate) fn warning(&self) -> Option<String> {
        self.mount.warning()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.mount.local_addr()
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(crate) fn viewers(&self) -> &Viewers {
        &self.viewers
    }

    /// Takes no more offers and brings all sessions to their end within the time; whoever watches until then is told of the
    /// end. The future is for waiting for it; it returns how many sessions are left.
    pub(crate) fn drain(&self, time: Duration) -> impl Future<Output = usize> + Send + use<> {
        self.sessions.drain(time);
        self.viewers.turn_away();
        let (sessions, viewers) = (self.sessions.clone(), self.viewers.clone());
        async move {
            let _ = timeout(time, sessions.emptied()).await;
            viewers.close();
            let _ = timeout(FAREWELL, viewers.emptied()).await;
            sessions.totals().sessions
        }
    }

    /// Closes the port and ends all sessions. Not from a runtime's thread.
    pub(crate) fn stop(self) {
        let Self { mount, sessions, viewers, mux } = self;
        // First, so that none comes while they go.
        drop(mount);
        viewers.close();
        sessions.stop();
        drop(viewers);
        drop(sessions);
        // The last one closes the UDP port.
        drop(mux);
    }
}
