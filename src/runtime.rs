//! The process's tokio runtimes: one thread for peers' media, one for HTTP, so that a TLS handshake never delays a packet,
//! and one for RTMP destinations.
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

/// The runtime of RTMP destinations.
pub(crate) fn rtmp() -> io::Result<&'static Handle> {
    static RTMP: OnceCell<Handle> = OnceCell::new();
    RTMP.get_or_try_init(|| start("webrtc-rtmp"))
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
    #[cfg(unix)]
    outlive_broken_connections(&handle)?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _log = tracing::dispatcher::set_default(&tracing::Dispatch::new(log::GstLog));
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}

/// Makes a write to a connection that the other side has reset an error and no more. Programs in C, gst-launch-1.0 among them, leave
/// SIGPIPE to the system, which ends the process; std's `send` does not raise it, but `writev` does, of which hyper, rustls and we
/// make use. GIO does likewise for whoever uses its sockets. A handler, which stays for good, rather than ignoring it: programs
/// that this one starts have the system's way again, and an application's own handler is still called.
#[cfg(unix)]
fn outlive_broken_connections(runtime: &Handle) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _entered = runtime.enter();
    signal(SignalKind::pipe()).map(drop)
}
