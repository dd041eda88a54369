//! The life of one HTTP server: bind, serve, and close with its last endpoint.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    http::{HeaderValue, header},
    middleware,
    routing::{any, get},
};
use axum_server::{Handle, Server as AxumServer, accept::DefaultAcceptor, tls_rustls::RustlsAcceptor};
use hyper_util::rt::TokioTimer;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, task::AbortHandle};
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::{debug, error};

use super::{
    api,
    connection::{Listener, Peer},
    forwarded,
    limits::Limits,
    metrics::requests::{self, Requests},
    opening::Http1Only,
    origin, page, socket,
    table::Table,
    tls::TlsFiles,
    tls_reload::{self, Loaded},
    whip,
};

/// What a client may take for its request line and headers, which keeps idle connections from piling up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Of a request line and headers: some ten times what browsers with a long token send. hyper would take 400 KB of each of
/// thousands of connections.
const MOST_HEADERS: usize = 32 * 1024;

/// What requests in flight get when the server closes.
const GRACE: Duration = Duration::from_secs(1);

/// A running server; dropping it closes its port before it returns.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) table: Arc<Table>,
    listener: Listener,
    handle: Handle<Peer>,
    /// Looks for new certificates.
    reloading: Option<AbortHandle>,
}

impl Server {
    /// Serves what will be mounted on `socket`, in tasks of `runtime`.
    pub(crate) fn start(
        runtime: &tokio::runtime::Handle,
        socket: StdListener,
        tls: Option<(TlsFiles, Loaded)>,
    ) -> io::Result<Self> {
        let _entered = runtime.enter();
        let address = socket.local_addr()?;
        let table = Arc::new(Table::default());
        let listener = Listener::new(TcpListener::from_std(socket)?, table.connections.clone());
        let handle = Handle::new();
        let service = router(table.clone()).into_make_service_with_connect_info::<Peer>();
        let mut server = AxumServer::from_listener(listener.clone()).handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MOST_HEADERS);

        let (tls, loaded) = tls.unzip();
        let (config, reloading) = loaded
            .map(|loaded| {
                let config = loaded.config.clone();
                (config, runtime.spawn(tls_reload::run(loaded, table.tls.clone())).abort_handle())
            })
            .unzip();
        runtime.spawn(async move {
            let ended = match config {
                Some(config) => {
                    let acceptor = Http1Only::new(RustlsAcceptor::new(config), HEADER_TIMEOUT);
                    server.acceptor(acceptor).serve(service).await
                }
                None => server.acceptor(Http1Only::new(DefaultAcceptor::new(), HEADER_TIMEOUT)).serve(service).await,
            };
            match ended {
                Ok(()) => debug!(%address, "server closed"),
                Err(error) => error!(%address, %error, "server failed"),
            }
        });
        debug!(%address, tls = tls.is_some(), "server listens");
        Ok(Self { address, tls, table, listener, handle, reloading })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.close();
        if let Some(reloading) = &self.reloading {
            reloading.abort();
        }
        self.handle.graceful_shutdown(Some(GRACE));
    }
}

/// Binds at once, so that a port in use is told to whoever asked for it.
pub(crate) fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Old connections in TIME_WAIT must not keep the port; on Windows the option would let two servers share it.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::] is for all interfaces and families, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn router(table: Arc<Table>) -> Router {
    Router::new()
        .route("/", api::read_only(get(page::index)))
        .route("/endpoints.json", api::read_only(get(page::endpoints)))
        .route("/page/{file}", api::read_only(get(page::asset)))
        .merge(api::routes())
        .route("/ws", any(socket::serve))
        .route("/api/v1/signaling.schema.json", api::read_only(get(socket::serve_schema)))
        .route_layer(middleware::from_fn_with_state(table.clone(), api::endpoints_first))
        .fallback(whip::serve)
        .layer(middleware::from_fn_with_state(table.clone(), origin::guard))
        .layer(middleware::from_fn_with_state(table.clone(), forwarded::resolve))
        .layer(middleware::from_fn(requests::count))
        .layer(Extension(Arc::new(Requests::default())))
        .layer(Extension(Arc::new(Limits::default())))
        .layer(SetResponseHeaderLayer::overriding(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .with_state(table)
}
