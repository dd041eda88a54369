//! Listening and TCP connections, with the bounds that axum-server lacks: how many connections there are, in all and of one
//! address, and how long a peer may refuse to read. And a listener that another thread can close at once.

use std::{
    future::{Future as _, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::connect_info::Connected;
use axum_server::{AddrListener, Address};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tracing::{info, warn};

use super::{
    files,
    places::{Place, Places},
};

/// One server's connections at a time; further ones wait in the kernel's backlog until one ends. A thousand viewers
/// (`max-viewers`) with a WebSocket each, a hundred publishers, and pages that are being loaded. Where the system lets the
/// process have fewer files there are fewer ([`files`]).
pub(super) const MAX_CONNECTIONS: usize = 4096;

/// For one address; people behind one NAT, with a browser's six connections each, and twice the WebSockets that it may
/// have. Sixteen addresses are needed to take all.
const MOST_FROM_ONE: usize = 256;

/// The page's largest file takes 0.3 s at 8 Mbit/s; who takes nothing at all for so long is not reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer's address. Ours, so that axum-server listens through [`Listener`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Address for Peer {
    type Stream = Connection;
    type Listener = Listener;
}

impl Connected<Self> for Peer {
    fn connect_info(peer: Self) -> Self {
        peer
    }
}

/// A listening socket that all clones share; [`Listener::close`] closes it for all.
#[derive(Clone)]
pub(crate) struct Listener {
    socket: Arc<Mutex<Option<TcpListener>>>,
    room: Arc<Semaphore>,
    places: Arc<Places>,
    counters: Arc<Counters>,
}

/// What became of connections that were not taken.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Closed at once, as there were too many from where they came.
    pub(crate) turned_away: AtomicU64,
    /// Could not be taken at all: the process has no file left for them.
    pub(crate) failed: AtomicU64,
    /// The last attempt failed: an outage is told once.
    failing: AtomicBool,
}

impl Listener {
    /// One that counts what it does not take.
    pub(crate) fn new(socket: TcpListener, counters: Arc<Counters>) -> Self {
        Self {
            socket: Arc::new(Mutex::new(Some(socket))),
            room: Arc::new(Semaphore::new(files::room_for_connections())),
            // The semaphore bounds them all.
            places: Arc::new(Places::new(usize::MAX, MOST_FROM_ONE)),
            counters,
        }
    }

    /// Frees the port before it returns, from any thread.
    pub(crate) fn close(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(socket);
    }

    fn place(&self, from: SocketAddr) -> Option<Place> {
        let place = self.places.take(from.ip()).ok();
        if place.is_none() {
            self.counters.turned_away.fetch_add(1, Relaxed);
        }
        place
    }

    fn with<T>(&self, f: impl FnOnce(&TcpListener) -> T) -> Option<T> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(f)
    }
}

impl Counters {
    /// What became of an attempt to take a connection.
    fn note(&self, error: Option<&io::Error>) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        match error {
            None if self.failing.swap(false, Relaxed) => info!("connections are taken again"),
            None => {}
            // Who called has gone already.
            Some(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Some(error) => {
                self.failed.fetch_add(1, Relaxed);
                if !self.failing.swap(true, Relaxed) {
                    warn!(%error, "no connection can be taken until others end; see ulimit -n, or LimitNOFILE= of systemd");
                }
            }
        }
    }
}

impl AddrListener<Connection, Peer> for Listener {
    async fn bind_to(Peer(address): Peer) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(address).await?, Arc::default()))
    }

    async fn accept_stream(&self) -> io::Result<(Connection, Peer)> {
        let permit = self.room.clone().acquire_owned().await.map_err(io::Error::other)?;
        loop {
            // Once closed it stays pending: the server's handle ends the loop around it.
            let accepted = poll_fn(|cx| self.with(|socket| socket.poll_accept(cx)).unwrap_or(Poll::Pending)).await;
            self.counters.note(accepted.as_ref().err());
            let (stream, address) = accepted?; // axum-server tries again after 50 ms
            let Some(place) = self.place(address) else { continue };
            // Answers are small and wanted at once.
            stream.set_nodelay(true)?;
            return Ok((Connection { stream, stuck: None, _permit: permit, _place: place }, Peer(address)));
        }
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        self.with(|socket| socket.local_addr()).unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into())).map(Peer)
    }
}

/// One TCP connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Runs while the peer takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Connection {
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stuck = None;
            return progress;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        stuck.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_all_connections() {
        let counters = Arc::<Counters>::default();
        let listener = Listener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), counters.clone());
        let from = |last| SocketAddr::from(([192, 0, 2, last], 1));
        let mut places: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| listener.place(from(1))).collect();
        assert_eq!(places.len(), MOST_FROM_ONE);
        assert_eq!(counters.turned_away.load(Relaxed), (MAX_CONNECTIONS - MOST_FROM_ONE) as u64);
        assert!(listener.place(from(2)).is_some(), "others are not touched");
        places.pop();
        assert!(listener.place(from(1)).is_some());
    }

    #[tokio::test]
    async fn who_is_turned_away_is_closed_at_once_and_the_next_is_taken() {
        let mut listener = Listener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::default());
        listener.places = Arc::new(Places::new(1, 1));
        let address = listener.get_local_addr().unwrap().0;
        let client = async || TcpStream::connect(address).await.unwrap();
        let (_first, taken) = tokio::join!(client(), listener.accept_stream());
        let accepting = listener.accept_stream();
        tokio::pin!(accepting);
        let mut second = client().await;
        let mut nothing = [0];
        tokio::select! {
            _ = &mut accepting => panic!("there is no place"),
            end = tokio::io::AsyncReadExt::read(&mut second, &mut nothing) => assert_eq!(end.unwrap(), 0),
        }
        drop(taken);
        let (_third, taken) = tokio::join!(client(), accepting);
        assert!(taken.is_ok());
    }
}
