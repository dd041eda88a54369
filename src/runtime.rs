//! The process's tokio runtimes: one thread for media, one for HTTP, so that a TLS handshake never delays a packet.
//!
//! Current-thread runtimes on threads of our own cost a quarter less CPU than a pool. Started with the first element that
//! needs them, they stay for the life of the process. What the core logs on them reaches GStreamer's log.

mod log;

use std::{io, time::Duration};

use once_cell::sync::OnceCell;
use tokio::runtime::Handle;

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

/// Threads for what may wait go soon after: sessions come and go, and what they took is to be free again.
const BLOCKING_IDLE: Duration = Duration::from_secs(1);

/// A pipeline that hangs takes one of them for good; more than a few such must not stop the others.
const BLOCKING: usize = 128;

fn start(name: &str) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(BLOCKING_IDLE)
        .max_blocking_threads(BLOCKING)
        .thread_name(format!("{name}-wait"))
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _log = tracing::dispatcher::set_default(&tracing::Dispatch::new(log::GstLog));
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}
