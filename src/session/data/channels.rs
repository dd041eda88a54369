//! All data channels of one session: those that the peer opens, within limits, and those that we open.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rtc::peer_connection::transport::RTCSctpTransportState;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use webrtc::{
    data_channel::{DataChannel as StackChannel, RTCDataChannelInit},
    peer_connection::PeerConnection,
};

use super::{
    ChannelEnd, DataChannel, DataError, DataOptions, DataSink, DataStats, LONGEST_LABEL, Reliability,
    burden::{Burden, Seen},
    channel::{Work, options},
    section::PeerData,
    stats::Counts,
};
use crate::session::{mux::MuxHandle, time};

/// Channels that may be open at a time, made by either side.
const MOST_CHANNELS: usize = 64;

/// A peer that has opened so many channels which had to be refused is hung up on: the stack keeps a little of each.
const MOST_REFUSED: u64 = 64;

/// Channels that a peer may open in the life of a session, for the same reason.
const MOST_EVER: u64 = 10_000;

/// How often it is looked whether a new connection can carry channels: the stack loses those that are opened while it is
/// being set up, and does not tell when it is. The longer it takes the less often.
const SETTING_UP: Duration = Duration::from_millis(10);
const SETTING_UP_LONGER: Duration = Duration::from_millis(200);

/// How often it is looked whether what comes is of any use.
const LOOKING: Duration = Duration::from_millis(250);

/// The stack gives a new channel the number of one that has just been closed, and closes it with what is still said of the
/// old one. So a little time has to pass, and one that was closed nevertheless before it was open is opened again.
const SETTLING: Duration = Duration::from_millis(200);
const TRIES: usize = 4;

/// How long a session that we end may take to send what is waiting: a few round trips, of which nobody who has stopped a
/// pipeline should become aware.
const FLUSHING: Duration = Duration::from_secs(1);

/// The channels of a session.
pub(in crate::session) struct Channels {
    /// Let go of at the end.
    sink: Mutex<Option<Arc<dyn DataSink>>>,
    media: Handle,
    connection: OnceLock<Weak<dyn PeerConnection>>,
    peer: OnceLock<PeerData>,
    /// Whether the connection can carry channels by now; an error once the session is over.
    ready: watch::Sender<Ready>,
    open: Mutex<Vec<DataChannel>>,
    last_closed: Mutex<Option<Instant>>,
    next: AtomicU64,
    opened: AtomicU64,
    by_peer: AtomicU64,
    refused: AtomicU64,
    counts: Arc<Counts>,
    flooded: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    NotYet,
    Now,
    NeverMore,
}

impl Channels {
    /// Of a session whose peer's channels go to this sink; without one they are refused. Must be called on the media
    /// runtime.
    pub(in crate::session) fn new(sink: Option<Arc<dyn DataSink>>) -> Arc<Self> {
        Arc::new(Self {
            sink: Mutex::new(sink),
            media: Handle::current(),
            connection: OnceLock::new(),
            peer: OnceLock::new(),
            ready: watch::Sender::new(Ready::NotYet),
            open: Mutex::default(),
            last_closed: Mutex::default(),
            next: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            by_peer: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            counts: Arc::default(),
            flooded: Notify::new(),
        })
    }

    /// Whether there is somebody to take what comes.
    pub(in crate::session) fn are_wanted(&self) -> bool {
        self.sink().is_some()
    }

    /// Whether the peer takes any.
    pub(in crate::session) fn are_agreed(&self) -> bool {
        self.peer.get().is_some()
    }

    fn sink(&self) -> Option<Arc<dyn DataSink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Both descriptions are known: what the peer's says of channels, if it takes any.
    pub(in crate::session) fn agreed(
        self: &Arc<Self>,
        connection: Weak<dyn PeerConnection>,
        peer: Option<PeerData>,
        routes: MuxHandle,
    ) {
        let _ = self.connection.set(connection.clone()); // set once
        let Some(peer) = peer else {
            self.end();
            return;
        };
        let _ = self.peer.set(peer);
        let channels = Arc::downgrade(self);
        self.media.spawn(look_after(channels.clone(), Burden::new(self.are_wanted()), routes));
        self.media.spawn(async move {
            if until_set_up(connection, &channels).await
                && let Some(channels) = channels.upgrade()
            {
                channels.become_ready(Ready::Now);
            }
        });
    }

    fn become_ready(&self, now: Ready) {
        self.ready.send_if_modified(|ready| {
            let is_news = *ready != Ready::NeverMore && *ready != now;
            if is_news {
                *ready = now;
            }
            is_news
        });
    }

    /// Opens a channel. It can be sent by at once; messages wait until it is open.
    pub(in crate::session) fn open(
        self: &Arc<Self>,
        label: &str,
        options: DataOptions,
    ) -> Result<DataChannel, DataError> {
        for (what, size) in [("label", label.len()), ("protocol", options.protocol.len())] {
            if size > LONGEST_LABEL {
                return Err(DataError::LongName { what, size });
            }
        }
        let (channel, work) = self.admit(label.to_owned(), options.clone())?;
        let (channels, label) = (self.clone(), label.to_owned());
        self.media.spawn(async move {
            let mut work = work;
            for _ in 0..TRIES {
                let Some(stack) = channels.make(&label, &options).await else {
                    return work.end(ChannelEnd::SessionOver).await;
                };
                let run = work.run(stack).await;
                channels.closed();
                match run {
                    Ok(()) => return,
                    Err(again) => work = again,
                }
            }
            work.end(ChannelEnd::ByPeer).await;
        });
        Ok(channel)
    }

    /// Registers a channel, if there may be another one.
    fn admit(&self, label: String, options: DataOptions) -> Result<(DataChannel, Work), DataError> {
        let largest = self.peer.get().ok_or(DataError::NotNegotiated)?.largest;
        let mut open = self.lock();
        open.retain(|channel| !channel.is_closed());
        if *self.ready.borrow() == Ready::NeverMore {
            return Err(DataError::Closed);
        }
        let sink = self.sink().ok_or(DataError::NotNegotiated)?;
        if open.len() >= MOST_CHANNELS {
            return Err(DataError::TooMany(open.len()));
        }
        let id = self.next.fetch_add(1, Relaxed);
        let (channel, work) = DataChannel::new(id, label, options, largest, self.counts.clone(), sink);
        open.push(channel.clone());
        self.opened.fetch_add(1, Relaxed);
        Ok((channel, work))
    }

    async fn make(&self, label: &str, options: &DataOptions) -> Option<Arc<dyn StackChannel>> {
        let mut ready = self.ready.subscribe();
        let is_up = ready.wait_for(|ready| *ready != Ready::NotYet).await.is_ok_and(|ready| *ready == Ready::Now);
        let closed = *self.last_closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(closed) = closed {
            tokio::time::sleep(SETTLING.saturating_sub(closed.elapsed())).await;
        }
        let connection = self.connection.get()?.upgrade().filter(|_| is_up)?;
        let (max_retransmits, lifetime) = match options.reliability {
            Reliability::Reliable => (None, None),
            Reliability::Retransmits(count) => (Some(count), None),
            Reliability::Lifetime(time) => (None, Some(u16::try_from(time.as_millis()).unwrap_or(u16::MAX))),
        };
        let init = RTCDataChannelInit {
            ordered: options.ordered,
            max_retransmits,
            max_packet_life_time: lifetime,
            protocol: options.protocol.clone(),
            negotiated: None,
        };
        match connection.create_data_channel(label, Some(init)).await {
            Ok(channel) => Some(channel),
            Err(error) => {
                tracing::warn!(%error, label, "no data channel can be opened");
                None
            }
        }
    }

    /// The peer has opened a channel. Runs on the stack's driver.
    pub(in crate::session) fn arrived(self: &Arc<Self>, stack: Arc<dyn StackChannel>) {
        if self.by_peer.fetch_add(1, Relaxed) >= MOST_EVER {
            self.flooded.notify_one();
            return;
        }
        let channels = self.clone();
        self.media.spawn(async move {
            let Err(why) = channels.take(&stack).await else { return };
            tracing::debug!(why, "a data channel of the peer is refused");
            let _ = stack.close().await;
            if channels.refused.fetch_add(1, Relaxed) + 1 >= MOST_REFUSED {
                channels.flooded.notify_one();
            }
        });
    }

    /// Takes a channel of the peer, to its end; or says why not.
    async fn take(&self, stack: &Arc<dyn StackChannel>) -> Result<(), String> {
        let gone = |_| "it is gone".to_owned();
        let label = stack.label().await.map_err(gone)?;
        let options = options(&**stack).await.ok_or("it is gone")?;
        if label.len().max(options.protocol.len()) > LONGEST_LABEL {
            return Err("its name is too long".into());
        }
        let (_, work) = self.admit(label, options).map_err(|error| error.to_string())?;
        if let Err(work) = work.run(stack.clone()).await {
            work.end(ChannelEnd::ByPeer).await;
        }
        self.closed();
        Ok(())
    }

    fn closed(&self) {
        *self.last_closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(time::now());
    }

    /// An open channel of this label, the first one if there are several.
    pub(in crate::session) fn find(&self, label: &str) -> Option<DataChannel> {
        self.lock().iter().find(|channel| channel.label() == label && !channel.is_closed()).cloned()
    }

    /// Waits until the peer has done more than is to be borne.
    pub(in crate::session) async fn flooded(&self) {
        self.flooded.notified().await;
    }

    /// Waits until the peer has all that was sent, in channels that are open or about to be; not long.
    pub(in crate::session) async fn flushed(&self) {
        let waiting: Vec<_> = self.lock().iter().filter_map(DataChannel::flushed).collect();
        let _ = tokio::time::timeout(FLUSHING, async {
            for flushed in waiting {
                let _ = flushed.await; // or the channel is closed
            }
        })
        .await;
    }

    /// The session is over, or there are none.
    pub(in crate::session) fn end(&self) {
        self.become_ready(Ready::NeverMore);
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(sink);
        for channel in self.lock().drain(..) {
            channel.end(ChannelEnd::SessionOver);
        }
    }

    /// What has been counted.
    pub(in crate::session) fn stats(&self) -> DataStats {
        let counts = &self.counts;
        DataStats {
            opened: self.opened.load(Relaxed),
            refused: self.refused.load(Relaxed),
            messages_sent: counts.messages_sent.load(Relaxed),
            bytes_sent: counts.bytes_sent.load(Relaxed),
            messages_received: counts.messages_received.load(Relaxed),
            bytes_received: counts.bytes_received.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            malformed: counts.malformed.load(Relaxed),
            held: counts.held.load(Relaxed),
            channels: self.lock().iter().filter(|channel| channel.is_open()).map(DataChannel::stats).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DataChannel>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that the peer does not send too much for nothing, until the session is over.
async fn look_after(channels: Weak<Channels>, mut burden: Burden, routes: MuxHandle) {
    while let Some(channels) = channels.upgrade().filter(|channels| *channels.ready.borrow() != Ready::NeverMore) {
        let counts = &channels.counts;
        let seen = Seen {
            came: routes.data_bytes(),
            messages: counts.messages_received.load(Relaxed),
            taken: counts.bytes_received.load(Relaxed),
            sent: counts.bytes_sent.load(Relaxed),
        };
        let is_too_much = burden.is_too_much(seen);
        counts.held.store(burden.held(), Relaxed);
        if is_too_much {
            channels.flooded.notify_one();
        }
        drop(channels);
        tokio::time::sleep(LOOKING).await;
    }
}

/// Waits until the connection can carry channels; `false` if it is gone before.
async fn until_set_up(connection: Weak<dyn PeerConnection>, channels: &Weak<Channels>) -> bool {
    let start = time::now();
    loop {
        let Some(connection) = connection.upgrade().filter(|_| channels.strong_count() > 0) else { return false };
        if let Some(transport) = connection.sctp().await
            && transport.state().await.is_ok_and(|state| state == RTCSctpTransportState::Connected)
        {
            return true;
        }
        drop(connection);
        tokio::time::sleep((start.elapsed() / 20).clamp(SETTING_UP, SETTING_UP_LONGER)).await;
    }
}
