//! Mounting an endpoint: endpoints of one process on the same HOST:PORT share a server, which closes with the last.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
};

use tracing::debug;

use super::{
    answerer::OfferAnswerer,
    auth::{ApplicationGate, Authorizer, Door, Gate, Patient, Role, TokenGate},
    endpoint::{Endpoint, EndpointParts, MAX_SESSIONS},
    forwarded::TrustedProxies,
    ice_server::IceServer,
    server::{self, Server},
    site::{Site, SiteConfig},
    tls::TlsFiles,
    tls_reload::Loaded,
    uri::{ListenAddress, normalise_path},
    viewing::{Seating, Seats},
};

/// What to mount, and where.
pub struct EndpointConfig {
    /// Where the server listens.
    pub listen: ListenAddress,
    /// The endpoint's path, such as `/whip/live`.
    pub path: String,
    /// Serves HTTPS with these files.
    pub tls: Option<TlsFiles>,
    /// The bearer token to require. An empty one lets nobody in.
    pub auth_token: Option<String>,
    /// Decides about requests that do not show the token; asked by the last segment of the path, as its channel.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// STUN and TURN servers that clients are told of.
    pub ice_servers: Vec<IceServer>,
    /// Proxies that are believed who the client is; of this endpoint alone, whatever else the server serves.
    pub trusted_proxies: TrustedProxies,
}

impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("listen", &self.listen)
            .field("path", &self.path)
            .field("tls", &self.tls)
            .field("auth_token", &self.auth_token.as_ref().map(|_| "***"))
            .field("authorizer", &self.authorizer.as_ref().map(|_| "…"))
            .field("ice_servers", &self.ice_servers)
            .field("trusted_proxies", &self.trusted_proxies)
            .finish()
    }
}

/// Why an endpoint could not be mounted, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Another process (or socket) has the port.
    #[error("{address} is in use by another program; stop it, or choose another port (0 picks a free one)")]
    PortInUse {
        /// HOST:PORT.
        address: String,
    },
    /// The host is no address of this machine, or its name is unknown.
    #[error("cannot listen on {host}: {why}; use an address of this machine, or 0.0.0.0 for all")]
    Resolve {
        /// As configured.
        host: String,
        /// The system's words.
        why: String,
    },
    /// Another element of this process has the same path on the same HOST:PORT.
    #[error("{path} is already served on {address} by another element; choose another path")]
    PathTaken {
        /// The path.
        path: String,
        /// HOST:PORT.
        address: String,
    },
    /// Another element of this process is a bridge server on the same HOST:PORT.
    #[error("{address} is served by another webrtcbridgebin already; choose another port")]
    SiteTaken {
        /// HOST:PORT.
        address: String,
    },
    /// Another element of this process serves the same HOST:PORT with other TLS settings.
    #[error(
        "{address} is already served by another element with other TLS settings; give both the same certificate and key, or choose another port"
    )]
    TlsMismatch {
        /// HOST:PORT.
        address: String,
    },
    /// The certificate or the key cannot be used.
    #[error("{}: {what}", path.display())]
    TlsFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// This machine lacks what asking others takes.
    #[error("jwks-uri and auth-url cannot be used: {0}")]
    Asking(String),
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// HOST:PORT.
        address: String,
        /// The system's error.
        source: io::Error,
    },
}

/// A server that is used, and what it is called.
struct Held {
    server: Arc<Server>,
    /// What stands before the path in URLs, such as `http://127.0.0.1:8080`.
    origin: String,
}

/// A mounted endpoint. Dropping it unmounts the path; the last one of a server closes its port before it returns.
pub struct Mount {
    /// `None` only while being dropped.
    server: Option<Arc<Server>>,
    address: SocketAddr,
    /// What stands before the path in URLs, such as `http://127.0.0.1:8080`.
    origin: String,
    path: String,
    is_exposed: bool,
    /// Its clients are viewers.
    views: bool,
}

/// Mounts an endpoint. A server that is not yet there runs in tasks of `runtime`, which must outlive the mount.
pub fn mount(
    runtime: &tokio::runtime::Handle,
    config: EndpointConfig,
    answerer: Arc<dyn OfferAnswerer>,
) -> Result<Mount, MountError> {
    mount_for(runtime, config, answerer, None)
}

/// Mounts an endpoint for viewers (WHEP), so many at most; 0: no limit.
pub fn mount_viewers(
    runtime: &tokio::runtime::Handle,
    config: EndpointConfig,
    answerer: Arc<dyn OfferAnswerer>,
    max_viewers: u32,
) -> Result<Mount, MountError> {
    mount_for(runtime, config, answerer, Some(Seating { seats: Seats::new(max_viewers), registry: None }))
}

fn mount_for(
    runtime: &tokio::runtime::Handle,
    config: EndpointConfig,
    answerer: Arc<dyn OfferAnswerer>,
    seating: Option<Seating>,
) -> Result<Mount, MountError> {
    let EndpointConfig { listen, path, tls, auth_token, authorizer, ice_servers, trusted_proxies } = config;
    let path = normalise_path(&path);
    let views = seating.is_some();
    let mut servers = servers();
    let Held { server, origin } = hold(&mut servers, runtime, &listen, tls)?;
    let role = if views { Role::View } else { Role::Publish };
    let gate = gate(auth_token.as_deref(), authorizer, &path);
    let is_exposed = gate.door(role) == Door::Open && !server.address.ip().to_canonical().is_loopback();
    let endpoint = Endpoint::new(EndpointParts {
        path: path.clone(),
        role,
        gate,
        answerer,
        links: ice_servers.iter().filter_map(IceServer::link).collect(),
        // Viewers have seats, and those who have not connected are bounded by their answerer.
        most_sessions: if views { usize::MAX } else { MAX_SESSIONS },
        seating,
        trusted_proxies,
    });
    if !server.table.insert(Arc::new(endpoint)) {
        return Err(MountError::PathTaken { path, address: listen.to_string() });
    }
    debug!(%origin, %path, "endpoint mounted");
    Ok(Mount { address: server.address, server: Some(server), origin, path, is_exposed, views })
}

/// Who may use an endpoint: who shows its token, or whom the application lets in; everybody, where there is neither.
fn gate(token: Option<&str>, authorizer: Option<Arc<dyn Authorizer>>, path: &str) -> Arc<dyn Gate> {
    let counters = Arc::default();
    let Some(authorizer) = authorizer else { return Arc::new(Patient::new(TokenGate::new(token), counters)) };
    let channel = path.rsplit('/').next().and_then(|last| last.parse().ok());
    Arc::new(Patient::new(ApplicationGate::new(token, authorizer, channel, Arc::clone(&counters)), counters))
}

/// Mounts a bridge server: of each HOST:PORT there can be one.
pub fn mount_site(runtime: &tokio::runtime::Handle, config: SiteConfig) -> Result<SiteMount, MountError> {
    let mut servers = servers();
    let Held { server, origin } = hold(&mut servers, runtime, &config.listen, config.tls.clone())?;
    let address = config.listen.to_string();
    let site = Site::new(runtime, config).map_err(MountError::Asking)?;
    let is_open = site.gate.door(Role::Publish) == Door::Open;
    let is_exposed = is_open && !server.address.ip().to_canonical().is_loopback();
    if !server.table.set_site(Arc::new(site)) {
        return Err(MountError::SiteTaken { address });
    }
    debug!(%origin, "bridge server mounted");
    Ok(SiteMount { address: server.address, server: Some(server), origin, is_exposed })
}

/// The server of an address: one that is there, or a new one.
fn hold(
    servers: &mut Servers,
    runtime: &tokio::runtime::Handle,
    listen: &ListenAddress,
    tls: Option<TlsFiles>,
) -> Result<Held, MountError> {
    let addresses = resolve(listen)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    servers.retain(|_, server| server.strong_count() > 0);
    let shared = addresses.iter().find_map(|address| servers.get(address)?.upgrade());
    let server = match shared {
        Some(server) if server.tls != tls => return Err(MountError::TlsMismatch { address: listen.to_string() }),
        Some(server) => server,
        None => {
            let server = Arc::new(start(runtime, listen, &addresses, tls)?);
            servers.insert(server.address, Arc::downgrade(&server));
            server
        }
    };
    server.table.add_name(&listen.host);
    let address = server.address;
    let origin = format!("{scheme}://{}", ListenAddress { host: host_for_urls(listen, address), port: address.port() });
    Ok(Held { server, origin })
}

/// A mounted bridge server. Dropping it takes its routes away; the last mount of a server closes its port before it returns.
pub struct SiteMount {
    /// `None` only while being dropped.
    server: Option<Arc<Server>>,
    address: SocketAddr,
    origin: String,
    is_exposed: bool,
}

impl SiteMount {
    /// Where the server listens, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it is called, such as `http://127.0.0.1:8080`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.origin
    }

    /// What its user should be warned of.
    pub fn warning(&self) -> Option<String> {
        self.is_exposed.then(|| {
            format!(
                "everybody who can reach {} may publish: it listens beyond this machine and needs no token; set \
                 publish-token (or jwt-secret, jwks-uri, auth-url), or listen on 127.0.0.1",
                self.address
            )
        })
    }
}

impl Drop for SiteMount {
    fn drop(&mut self) {
        // Under the lock, as below.
        let _servers = servers();
        if let Some(server) = self.server.take() {
            server.table.take_site();
            debug!(origin = %self.origin, "bridge server unmounted");
        }
    }
}

impl fmt::Debug for SiteMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SiteMount").field(&self.origin).finish()
    }
}

impl Mount {
    /// Where the server listens, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint's own URL.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// What its user should be warned of.
    pub fn warning(&self) -> Option<String> {
        self.is_exposed.then(|| {
            format!(
                "everybody who can reach {} may {} {}: it listens beyond this machine and needs no token; set \
                 auth-token, or listen on 127.0.0.1",
                self.address,
                if self.views { "watch" } else { "publish to" },
                self.path
            )
        })
    }

    /// The page that publishes to it.
    pub fn page_url(&self) -> String {
        format!("{}/", self.origin)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Under the lock, so that whoever mounts next finds either this server or a free port.
        let _servers = servers();
        if let Some(server) = self.server.take() {
            server.table.remove(&self.path);
            debug!(origin = %self.origin, path = %self.path, "endpoint unmounted");
        }
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mount").field(&self.url()).finish()
    }
}

type Servers = HashMap<SocketAddr, Weak<Server>>;

/// The servers of this process. Lock order: this, then a server's table.
fn servers() -> MutexGuard<'static, Servers> {
    static SERVERS: LazyLock<Mutex<Servers>> = LazyLock::new(Mutex::default);
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resolve(listen: &ListenAddress) -> Result<Vec<SocketAddr>, MountError> {
    let resolve = |why: String| MountError::Resolve { host: listen.host.clone(), why };
    let mut addresses: Vec<_> =
        (listen.host.as_str(), listen.port).to_socket_addrs().map_err(|e| resolve(e.to_string()))?.collect();
    if addresses.is_empty() {
        return Err(resolve("it has no address".into()));
    }
    // A name such as localhost may have both: clients that try IPv6 first fall back, those that know only IPv4 cannot.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

fn start(
    runtime: &tokio::runtime::Handle,
    listen: &ListenAddress,
    addresses: &[SocketAddr],
    tls: Option<TlsFiles>,
) -> Result<Server, MountError> {
    let tls = match tls {
        Some(files) => {
            let loaded = Loaded::new(&files).map_err(|bad| MountError::TlsFile { path: bad.path, what: bad.what })?;
            Some((files, loaded))
        }
        None => None,
    };
    let address = || listen.to_string();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in addresses {
        match server::bind(*candidate) {
            Ok(socket) => {
                return Server::start(runtime, socket, tls)
                    .map_err(|source| MountError::Io { address: address(), source });
            }
            Err(error) => last = error,
        }
        if last.kind() == io::ErrorKind::AddrInUse {
            break;
        }
    }
    Err(match last.kind() {
        io::ErrorKind::AddrInUse => MountError::PortInUse { address: address() },
        io::ErrorKind::AddrNotAvailable => {
            MountError::Resolve { host: listen.host.clone(), why: "it is not an address of this machine".into() }
        }
        _ => MountError::Io { address: address(), source: last },
    })
}

/// A wildcard is no address to call; loopback is, and browsers give the camera to pages from there without HTTPS.
fn host_for_urls(listen: &ListenAddress, address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.to_string(),
        _ => listen.host.clone(),
    }
}
