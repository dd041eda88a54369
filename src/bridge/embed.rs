//! The bridge server as a library: for Rust programs that make their own pipeline for each session.

use std::{net::SocketAddr, time::Duration};

use gst::prelude::*;
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    call::{self, RunError},
    report::{SessionView, Totals},
    server::{Server, ServerConfig, ServerError},
    sessions::Sessions,
};
use crate::runtime;

/// A bridge server in a Rust program.
///
/// It listens from [`new`](Self::new) on, answers offers while [`serve`](Self::serve) runs, and brings its sessions to
/// their end when a [`ServerHandle`] says so. It brings its own threads: any executor will do.
///
/// ```no_run
/// use std::sync::Arc;
/// use gstwebrtcbridge::bridge::{Description, ServerConfig, WebRtcServer};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// gst::init()?;
/// gstwebrtcbridge::plugin_register_static()?;
/// let session = Description::parse("webrtcingest : rtmpbridgesink location=rtmp://127.0.0.1/live/{channel}")?;
/// let server = WebRtcServer::new(ServerConfig { session: Arc::new(session), ..ServerConfig::default() })?;
/// println!("publish to {}/whip/CHANNEL", server.handle().url());
/// server.serve().await?;
/// # Ok(())
/// # }
/// ```
pub struct WebRtcServer {
    server: Server,
    handle: ServerHandle,
    shutdown: watch::Receiver<Option<Duration>>,
}

/// Looks at a server, and shuts it down. Can be cloned.
#[derive(Clone)]
pub struct ServerHandle {
    url: String,
    address: SocketAddr,
    sessions: Sessions,
    shutdown: watch::Sender<Option<Duration>>,
}

impl WebRtcServer {
    /// Checks the configuration and listens. GStreamer has to be initialised, and the plugin registered.
    pub fn new(config: ServerConfig) -> Result<Self, ServerError> {
        let server = Server::start(config)?;
        let (stop, shutdown) = watch::channel(None);
        let handle = ServerHandle {
            url: server.url().to_owned(),
            address: server.local_addr(),
            sessions: server.sessions().clone(),
            shutdown: stop,
        };
        Ok(Self { server, handle, shutdown })
    }

    /// What its user should be warned of: that everybody may publish who can reach it.
    pub fn warning(&self) -> Option<String> {
        self.server.warning()
    }

    /// Meets another peer in a channel of a signaling server, and runs a pipeline with him until one of them has come to its
    /// end: `webrtcingest` and `webrtcegress` without `uri` in the description are the connection to him. Needs no server
    /// of its own. `url` is `ws://HOST:PORT/ws?channel=ID`, or `wss://`.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// gst::init()?;
    /// gstwebrtcbridge::plugin_register_static()?;
    /// let echo = "webrtcingest : webrtcegress";
    /// gstwebrtcbridge::WebRtcServer::run_with_signaling("ws://127.0.0.1:8080/ws?channel=echo", echo).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_with_signaling(url: &str, description: &str) -> Result<(), RunError> {
        call::run(url, description).await
    }

    /// A handle on it.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves until it is shut down, on the system's clock. Dropping the future leaves the server running until its
    /// process ends or a handle shuts it down.
    pub async fn serve(self) -> Result<(), ServerError> {
        let Self { server, mut shutdown, handle } = self;
        let clock = gst::SystemClock::obtain();
        let base_time = clock.time();
        server.sessions().play(clock, base_time);
        let http = runtime::signaling().map_err(ServerError::thread)?;
        let serving = http.spawn(async move {
            // Never fails: a handle is held here.
            let grace = shutdown.wait_for(Option::is_some).await.map_or(None, |grace| *grace).unwrap_or_default();
            server.drain(grace).await;
            let _ = spawn_blocking(move || server.stop()).await;
            drop(handle);
        });
        serving.await.map_err(ServerError::panicked)
    }
}

impl ServerHandle {
    /// Where it is called, such as `http://127.0.0.1:8080`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more offers, brings all sessions to their end within `grace`, and lets [`WebRtcServer::serve`] return.
    pub fn shutdown(&self, grace: Duration) {
        self.shutdown.send_replace(Some(grace));
    }

    /// All sessions as they are now.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.sessions.list()
    }

    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        self.sessions.totals()
    }
}
