//! All sessions of one server: who gets in, who is there, and how everybody is brought to an end.
//!
//! Each session has a task of its own on the HTTP runtime (`run`), which owns everything of it. What concerns all of them,
//! the clock that they run on and their end, is given to them as orders.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
};

use super::{
    admission::{Admission, NoPlace},
    channels::Channels,
    description::Description,
    peer::Peer,
    pipeline::{Timing, statistics},
    report::{Observer, SessionChange, SessionState, SessionView, Totals},
    run,
    viewers::Sources,
};
use crate::{
    channel::{ChannelId, Registry},
    forward::Source,
    session::{MuxStats, Session, SessionConfig},
    signaling::{Answer, AnswerError, Offer, OfferAnswerer, SessionId},
};

/// Makes the pipeline of a session. Called on a thread that may wait.
pub trait SessionBuilder: Send + Sync + 'static {
    /// A pipeline, or an element to put into one, in NULL and in no other bin; or none, if media is not wanted. The error
    /// is told on the bus.
    fn build(&self, channel: &ChannelId, id: &SessionId) -> Result<Option<gst::Element>, String>;

    /// Whether its pipelines may have something to send. Offers that only receive are refused without a pipeline if not.
    fn may_send(&self) -> bool {
        true
    }

    /// Whether its pipelines may have to do with data channels. Offers of nothing else are refused without a pipeline if not.
    fn may_have_data(&self) -> bool {
        true
    }
}

impl<F> SessionBuilder for F
where
    F: Fn(&ChannelId, &SessionId) -> Result<Option<gst::Element>, String> + Send + Sync + 'static,
{
    fn build(&self, channel: &ChannelId, id: &SessionId) -> Result<Option<gst::Element>, String> {
        self(channel, id)
    }
}

impl SessionBuilder for Description {
    fn build(&self, _: &ChannelId, _: &SessionId) -> Result<Option<gst::Element>, String> {
        Description::build(self).map(Some)
    }

    fn may_send(&self) -> bool {
        self.sends()
    }

    fn may_have_data(&self) -> bool {
        self.takes_the_connection()
    }
}

/// What the sessions of one server are made of.
pub(crate) struct SessionsConfig {
    /// Their connections.
    pub(crate) session: SessionConfig,
    /// Runs their connections.
    pub(crate) media: Handle,
    /// Runs all else.
    pub(crate) http: Handle,
    /// The channels.
    pub(crate) registry: Arc<dyn Registry>,
    /// Makes their pipelines.
    pub(crate) builder: Arc<dyn SessionBuilder>,
    /// Hears of them.
    pub(crate) observer: Arc<dyn Observer>,
    /// The most that there may be.
    pub(crate) max_sessions: usize,
}

/// The sessions of one server.
#[derive(Clone)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) config: SessionsConfig,
    pub(super) admission: Arc<Admission>,
    pub(super) channels: Channels,
    pub(super) building: Semaphore,
    pub(super) orders: watch::Sender<Orders>,
    /// Lock order: alone.
    running: Mutex<BTreeMap<u64, Arc<Entry>>>,
    count: watch::Sender<usize>,
    started: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// What all sessions have to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Play on this clock; or not, if there is none.
    pub(super) timing: Option<Timing>,
    /// End, at this time at the latest.
    pub(super) drain: Option<Instant>,
}

/// Pipelines that are made at the same time: each takes a core for some milliseconds, which live ones need as well.
const BUILDING: usize = 4;

/// Longer than any session is let go on.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long stopping waits for pipelines to stop.
const STOPPING: Duration = Duration::from_secs(3);

impl Sessions {
    pub(crate) fn new(config: SessionsConfig) -> Self {
        let admission = Admission::new(config.max_sessions);
        let channels = Channels::new(config.media.clone());
        Self {
            shared: Arc::new(Shared {
                config,
                admission,
                channels,
                building: Semaphore::new(BUILDING),
                orders: watch::Sender::new(Orders::default()),
                running: Mutex::default(),
                count: watch::Sender::new(0),
                started: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// Lets sessions play on this clock, and takes offers.
    pub(crate) fn play(&self, clock: gst::Clock, base_time: gst::ClockTime) {
        self.shared.orders.send_modify(|orders| orders.timing = Some(Timing { clock, base_time }));
    }

    /// Lets sessions pause, and takes no offers.
    pub(crate) fn pause(&self) {
        self.shared.orders.send_modify(|orders| orders.timing = None);
    }

    /// Takes no more offers and brings all sessions to their end, within `time`; does not wait for it.
    pub(crate) fn drain(&self, time: Duration) {
        let now = Instant::now();
        // A time that the clock cannot show does not come; a year is as good.
        let until = now.checked_add(time).unwrap_or(now + FOR_EVER);
        self.shared.orders.send_modify(|orders| {
            orders.drain = Some(orders.drain.map_or(until, |before| before.min(until)));
        });
    }

    /// Returns when no session is left.
    pub(crate) async fn emptied(&self) {
        // The sender is in `self`: it cannot be gone.
        let _ = self.shared.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Ends all sessions at once, and waits for it, not long. Not from a runtime's thread.
    pub(crate) fn stop(&self) {
        self.drain(Duration::ZERO);
        let (done, stopped) = mpsc::channel::<()>();
        let sessions = self.clone();
        self.shared.config.http.spawn(async move {
            sessions.emptied().await;
            drop(done);
        });
        let _: Result<(), _> = stopped.recv_timeout(STOPPING);
    }

    /// All sessions as they are now, the oldest first.
    pub(crate) fn list(&self) -> Vec<SessionView> {
        let entries: Vec<Arc<Entry>> = self.shared.running().values().cloned().collect();
        entries.iter().map(|entry| entry.view()).collect()
    }

    /// Whether offers are taken now.
    pub(crate) fn takes_offers(&self) -> bool {
        self.shared.timing().is_ok()
    }

    /// Whether no more offers are taken.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.orders.borrow().drain.is_some()
    }

    /// The UDP port of all sessions.
    pub(crate) fn port(&self) -> u16 {
        self.shared.config.session.mux.port()
    }

    /// Its counters.
    pub(crate) fn port_stats(&self) -> MuxStats {
        self.shared.config.session.mux.stats()
    }

    pub(crate) fn totals(&self) -> Totals {
        let shared = &self.shared;
        let (sessions, half_open) = shared.admission.counts();
        Totals {
            sessions,
            half_open,
            started: shared.started.load(Relaxed),
            ended: shared.ended.load(Relaxed),
            failed: shared.failed.load(Relaxed),
            refused: shared.refused.load(Relaxed),
        }
    }
}

impl Sources for Sessions {
    fn source(&self, channel: Option<&ChannelId>) -> Result<Arc<Source>, AnswerError> {
        self.shared.timing()?;
        channel.and_then(|channel| self.shared.channels.find(channel)).ok_or(AnswerError::NotLive)
    }
}

#[async_trait]
impl OfferAnswerer for Sessions {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        let (tell, told) = oneshot::channel();
        // Whoever asks may go away; what has begun is brought to its end all the same.
        self.shared.config.http.spawn(run::run(self.shared.clone(), offer, tell));
        let answer = told.await.unwrap_or_else(|_| Err(AnswerError::Internal("answering failed".into())));
        if matches!(answer, Err(AnswerError::Unavailable(_))) {
            self.turned_away();
        }
        answer
    }

    fn check(&self, offer: &str, both_ways: bool) -> Result<(), AnswerError> {
        run::incoming(&self.shared, offer, both_ways).map(drop)
    }

    fn turned_away(&self) {
        self.shared.refused.fetch_add(1, Relaxed);
    }
}

impl From<NoPlace> for AnswerError {
    fn from(why: NoPlace) -> Self {
        Self::Unavailable(why.to_string())
    }
}

impl Shared {
    /// What a new session plays on, if there may be one.
    pub(super) fn timing(&self) -> Result<Timing, AnswerError> {
        let orders = self.orders.borrow();
        match (&orders.timing, orders.drain) {
            (_, Some(_)) => Err(AnswerError::Unavailable("the server is going down".into())),
            (None, None) => Err(AnswerError::Unavailable("the server is not playing".into())),
            (Some(timing), None) => Ok(timing.clone()),
        }
    }

    /// Takes note of a session.
    pub(super) fn enter(self: &Arc<Self>, id: SessionId, channel: ChannelId, peer: Peer) -> Member {
        let number = self.started.fetch_add(1, Relaxed);
        let (gone, _) = watch::channel(());
        let entry = Arc::new(Entry {
            id,
            channel,
            peer,
            since: Instant::now(),
            state: Mutex::new(SessionState::Starting),
            pipeline: Mutex::default(),
            discarded: Arc::default(),
            gone,
        });
        self.running().insert(number, entry.clone());
        self.count.send_modify(|count| *count += 1);
        Member { shared: Arc::downgrade(self), number, entry, told: SessionState::Starting }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that there is.
pub(super) struct Entry {
    pub(super) id: SessionId,
    pub(super) channel: ChannelId,
    pub(super) peer: Peer,
    since: Instant,
    state: Mutex<SessionState>,
    pub(super) pipeline: Mutex<gst::glib::WeakRef<gst::Pipeline>>,
    pub(super) discarded: Arc<AtomicU64>,
    /// Closed when it is over.
    gone: watch::Sender<()>,
}

impl Entry {
    fn view(&self) -> SessionView {
        let session = self.peer.session();
        let pipeline = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        SessionView {
            id: self.id.clone(),
            channel: self.channel.clone(),
            state: *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            since: self.since,
            connection: session.as_ref().map(Session::state).unwrap_or_default(),
            received: session.map(|session| session.stats()),
            elements: pipeline.as_ref().map(statistics).unwrap_or_default(),
            discarded: self.discarded.load(Relaxed),
        }
    }
}

/// A session's membership, which ends when it is dropped.
pub(super) struct Member {
    shared: Weak<Shared>,
    number: u64,
    pub(super) entry: Arc<Entry>,
    told: SessionState,
}

impl Member {
    /// Tells of a new state. Returns when that is done: whoever listens may take his time, which must not be this thread's.
    pub(super) async fn tell(&mut self, state: SessionState, reason: &str) {
        *self.entry.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        let Some(shared) = self.shared.upgrade() else { return };
        if state == SessionState::Failed && self.told != state {
            shared.failed.fetch_add(1, Relaxed);
        }
        self.told = state;
        let Entry { id, channel, .. } = &*self.entry;
        let report = SessionChange { id: id.clone(), channel: channel.clone(), state, reason: reason.to_owned() };
        let observer = shared.config.observer.clone();
        let _ = tokio::task::spawn_blocking(move || observer.session(&report)).await;
    }

    /// Closed when the session is over.
    pub(super) fn gone(&self) -> watch::Receiver<()> {
        self.entry.gone.subscribe()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let entry = shared.running().remove(&self.number);
        if self.told != SessionState::Failed {
            shared.ended.fetch_add(1, Relaxed);
        }
        shared.count.send_modify(|count| *count -= 1);
        drop(entry);
    }
}
