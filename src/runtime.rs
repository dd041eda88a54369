//! The process's tokio runtimes: one thread for media, one for HTTP, so that a TLS handshake never delays a packet.
//!
//! Current-thread runtimes on threads of our own cost a quarter less CPU than a pool. Started with the first element that
//! needs them, they stay for the life of the process. What the core logs on them reaches GStreamer's log.

mod log;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use once_cell::sync::OnceCell;
use tokio::runtime::Handle;

use crate::session::Mux;

/// The runtime of peer connections and their shared UDP ports.
pub(crate) fn media() -> io::Result<&'static Handle> {
    static MEDIA: OnceCell<Handle> = OnceCell::new();
    MEDIA.get_or_try_init(|| start("webrtc-media"))
}

/// The runtime of HTTP servers.
pub(crate) fn signaling() -> io::Result<&'static Handle> {
    static SIGNALING: OnceCell<Handle> = OnceCell::new();
    SIGNALING.get_or_try_init(|| start("webrtc-http"))
}

/// The process's shared UDP port: `port`, or with 0 one that the system picks for all elements that say 0.
pub(crate) fn mux(port: u16) -> io::Result<Arc<Mux>> {
    static MUXES: Mutex<Option<HashMap<u16, Weak<Mux>>>> = Mutex::new(None);
    let mut muxes = MUXES.lock().unwrap_or_else(PoisonError::into_inner);
    let muxes = muxes.get_or_insert_default();
    if let Some(mux) = muxes.get(&port).and_then(Weak::upgrade) {
        return Ok(mux);
    }
    let _guard = media()?.enter();
    let mux = Arc::new(Mux::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?);
    muxes.insert(port, Arc::downgrade(&mux));
    Ok(mux)
}

fn start(name: &str) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _log = tracing::dispatcher::set_default(&tracing::Dispatch::new(log::GstLog));
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}
