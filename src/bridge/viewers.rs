//! Viewers: each gets what a source has over a connection of its own, however its offer came. Who they are, and their ends.
//!
//! ```text
//!   signaling ─▶ Viewers (an OfferAnswerer) ─▶ Sources: which source
//!                   admission: half-open ones      │ forward::watch   its connection, its place at the source
//!                                                  └ attend           one task a viewer, until its end
//! ```
//!
//! How many there may be is known where they have their seats (`signaling`); that they are counted for their channel too.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{broadcast::error::RecvError, watch},
};
use tracing::info;

use super::{
    admission::{Admission, Place},
    signaled::Signaled,
};
use crate::{
    channel::{Change, ChannelId, Registry},
    forward::{self, Source, Viewer, ViewerChange, WatchError, Watching, watch as answer_viewer},
    session::{ConnectionState, EndReason, SendStats, Session, SessionConfig},
    signaling::{
        Answer, AnswerError, IceFragment, IceRefused, IceUpdated, LayerLimits, Offer, OfferAnswerer, Program, Sent,
        SessionId, SignaledSession, VideoLayer, Viewing, abbreviate,
    },
};

/// Where viewers' media comes from.
pub trait Sources: Send + Sync + 'static {
    /// What is to be watched on a channel, or at the one endpoint that there is.
    fn source(&self, channel: Option<&ChannelId>) -> Result<Arc<Source>, AnswerError>;
}

/// What viewers' connections are made of.
pub struct ViewersConfig {
    /// The connections themselves.
    pub session: SessionConfig,
    /// Runs the connections.
    pub media: Handle,
    /// Runs all else.
    pub http: Handle,
}

/// The viewers of one server or element.
#[derive(Clone)]
pub struct Viewers {
    shared: Arc<Shared>,
}

struct Shared {
    config: ViewersConfig,
    sources: Arc<dyn Sources>,
    admission: Arc<Admission>,
    /// Lock order: before `gone`.
    present: Mutex<BTreeMap<u64, Arc<Entry>>>,
    count: watch::Sender<usize>,
    started: AtomicU64,
    /// What was sent to those who have gone.
    gone: Mutex<Sent>,
    is_closed: AtomicBool,
}

/// A viewer that there is.
struct Entry {
    id: SessionId,
    channel: Option<ChannelId>,
    since: Instant,
    session: Session,
    /// It shall end, and why.
    end: watch::Sender<Option<&'static str>>,
}

/// A viewer as it is now.
#[derive(Clone, Debug)]
pub struct ViewerView {
    /// Its session's id.
    pub id: SessionId,
    /// The channel that it watches, where there are channels.
    pub channel: Option<ChannelId>,
    /// When it came.
    pub since: Instant,
    /// Of its connection.
    pub connection: ConnectionState,
    /// What it was sent.
    pub sent: Option<SendStats>,
}

/// The reasons that viewers are told.
const CHANGED: &str = "changed";
const LOST: &str = "lost";
/// The channel, or the server.
const STOPPED: &str = "stopped";

impl Viewers {
    /// Nobody yet.
    pub fn new(config: ViewersConfig, sources: Arc<dyn Sources>) -> Self {
        let admission = Admission::new(usize::MAX);
        Self {
            shared: Arc::new(Shared {
                config,
                sources,
                admission,
                present: Mutex::default(),
                count: watch::Sender::new(0),
                started: AtomicU64::new(0),
                gone: Mutex::default(),
                is_closed: AtomicBool::new(false),
            }),
        }
    }

    /// All viewers as they are now, the oldest first.
    pub fn list(&self) -> Vec<ViewerView> {
        let entries: Vec<Arc<Entry>> = self.shared.present().values().cloned().collect();
        entries.iter().map(|entry| entry.view()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Told when one comes, goes or changes its state.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.shared.count.subscribe()
    }

    /// How many have come so far.
    pub fn started(&self) -> u64 {
        self.shared.started.load(Relaxed)
    }

    /// What was sent to all that have come.
    pub fn sent(&self) -> Sent {
        // Who leaves meanwhile is counted in one of them: both are held.
        let present = self.shared.present();
        let mut sum = *self.shared.gone();
        for entry in present.values() {
            entry.add_to(&mut sum);
        }
        sum
    }

    /// Ends the viewers of each channel that goes, as long as there are viewers or channels to come.
    pub fn end_with_channels(&self, registry: &Arc<dyn Registry>) {
        let (shared, channels, mut changes) =
            (Arc::downgrade(&self.shared), Arc::downgrade(registry), registry.changes());
        self.shared.config.http.spawn(async move {
            loop {
                let gone: Box<dyn Fn(&ChannelId) -> bool + Send> = match changes.recv().await {
                    Ok(Change::Changed(_)) => continue,
                    Ok(Change::Gone(gone)) => Box::new(move |channel| *channel == gone),
                    Err(RecvError::Lagged(_)) => {
                        let Some(registry) = channels.upgrade() else { return };
                        let there: HashSet<ChannelId> = registry.list().await.into_iter().map(|info| info.id).collect();
                        Box::new(move |channel| !there.contains(channel))
                    }
                    Err(RecvError::Closed) => return,
                };
                let Some(shared) = shared.upgrade() else { return };
                let present = shared.present();
                for entry in present.values().filter(|entry| entry.channel.as_ref().is_some_and(&gone)) {
                    entry.end.send_replace(Some(STOPPED));
                }
            }
        });
    }

    /// Ends all viewers and takes no more; does not wait for it.
    pub fn close(&self) {
        self.shared.is_closed.store(true, Relaxed);
        for entry in self.shared.present().values() {
            entry.end.send_replace(Some(STOPPED));
        }
    }

    /// Returns when there are none.
    pub async fn emptied(&self) {
        // The sender is in `self`: it cannot be gone.
        let _ = self.shared.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

#[async_trait]
impl OfferAnswerer for Viewers {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        let shared = &self.shared;
        let closed = || AnswerError::Unavailable("it is about to end".into());
        if shared.is_closed.load(Relaxed) {
            return Err(closed());
        }
        let Offer { sdp, id, remote, channel, lease, .. } = offer;
        let source = shared.sources.source(channel.as_ref())?;
        let place = shared.admission.admit(remote.ip())?;
        let (config, watched) = (shared.config.session.clone(), source.clone());
        let is_local = remote.ip().to_canonical().is_loopback();
        // Everything of a connection runs on the media thread.
        let answering = shared
            .config
            .media
            .spawn(async move { Box::pin(answer_viewer(&watched, &config, &sdp, is_local, lease)).await });
        let Watching { session, sdp, viewer } =
            answering.await.map_err(|error| AnswerError::Internal(format!("answering failed: {error}")))??;
        let (end, ending) = watch::channel(None);
        let entry = Entry { id: id.clone(), channel, since: Instant::now(), session: session.clone(), end };
        let member = Member::enter(shared, entry);
        if shared.is_closed.load(Relaxed) {
            session.close(EndReason::Shutdown).await;
            return Err(closed());
        }
        let (program, limits) = (watch::Sender::default(), watch::Sender::default());
        let ended = Arc::<OnceLock<&'static str>>::default();
        let watcher = ViewerSession {
            signaled: Signaled::new(session.clone(), id),
            program: program.subscribe(),
            limits: limits.clone(),
            ended: ended.clone(),
        };
        let attendance = Attendance {
            viewer,
            session,
            source,
            place,
            program,
            video_section: video_section(&sdp),
            limits: limits.subscribe(),
            ending,
            ended,
            member,
        };
        attendance.tell();
        shared.config.http.spawn(attendance.attend());
        Ok(Answer { sdp, session: Arc::new(watcher) })
    }
}

impl From<WatchError> for AnswerError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::NotLive => Self::NotLive,
            WatchError::Session(error) => error.into(),
        }
    }
}

/// Where the video stands in a description.
fn video_section(sdp: &str) -> usize {
    sdp.lines().filter(|line| line.starts_with("m=")).position(|line| line.starts_with("m=video")).unwrap_or(0)
}

/// A viewer's task, with all that is its own.
struct Attendance {
    // Dropped in this order: who has ended is not counted any more.
    viewer: Viewer,
    session: Session,
    source: Arc<Source>,
    place: Place,
    program: watch::Sender<Program>,
    video_section: usize,
    limits: watch::Receiver<LayerLimits>,
    ending: watch::Receiver<Option<&'static str>>,
    ended: Arc<OnceLock<&'static str>>,
    member: Member,
}

impl Attendance {
    async fn attend(mut self) {
        let reason = self.until_over().await;
        self.ended.get_or_init(|| reason);
        let is_renewable = matches!(reason, CHANGED | STOPPED);
        self.program.send_modify(|program| program.reconnect = is_renewable);
        let Self { viewer, session, member, place, .. } = self;
        drop(viewer);
        info!(session = abbreviate(member.entry.id.as_str()), reason, "viewer is gone");
        session.close(EndReason::Shutdown).await;
        drop(place);
        drop(member);
    }

    async fn until_over(&mut self) -> &'static str {
        let (mut states, mut changes) = (self.session.states(), self.viewer.changes());
        let mut on = self.source.program();
        loop {
            match *states.borrow_and_update() {
                ConnectionState::Connected => self.place.connected(),
                state if state.is_over() => return LOST,
                _ => {}
            }
            if *changes.borrow_and_update() == ViewerChange::Renegotiate {
                return CHANGED;
            }
            if let Some(reason) = *self.ending.borrow_and_update() {
                return reason;
            }
            on.borrow_and_update();
            self.tell();
            self.member.shared.count.send_modify(|_| ());
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return LOST },
                Ok(()) = changes.changed() => {}
                Ok(()) = on.changed() => {}
                Ok(()) = self.ending.changed() => {}
                Ok(()) = self.limits.changed() => {
                    let LayerLimits { layer, temporal, width, height } = *self.limits.borrow_and_update();
                    self.viewer.limit_layers(forward::LayerLimits { layer, temporal, width, height });
                }
            }
        }
    }

    /// Says what is on.
    fn tell(&self) {
        let now = self.source.program().borrow().clone();
        let layer =
            |layer: forward::VideoLayer| VideoLayer { index: layer.index, size: layer.size, bitrate: layer.bitrate };
        let program = Program {
            is_active: now.is_live,
            layers: now.layers.into_iter().map(layer).collect(),
            video_section: self.video_section,
            reconnect: false,
        };
        self.program.send_if_modified(|told| {
            let is_news = *told != program;
            *told = program;
            is_news
        });
    }
}

/// A viewer's membership, which ends when it is dropped.
struct Member {
    shared: Arc<Shared>,
    number: u64,
    entry: Arc<Entry>,
}

impl Member {
    fn enter(shared: &Arc<Shared>, entry: Entry) -> Self {
        let number = shared.started.fetch_add(1, Relaxed);
        let entry = Arc::new(entry);
        shared.present().insert(number, entry.clone());
        shared.count.send_modify(|count| *count += 1);
        Self { shared: shared.clone(), number, entry }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut present = self.shared.present();
        let entry = present.remove(&self.number);
        self.entry.add_to(&mut self.shared.gone());
        drop(present);
        self.shared.count.send_modify(|count| *count -= 1);
        drop(entry);
    }
}

impl Shared {
    fn gone(&self) -> MutexGuard<'_, Sent> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn add_to(&self, sum: &mut Sent) {
        let stats = self.session.outlet().map(|outlet| outlet.stats()).unwrap_or_default();
        for track in stats.tracks.iter().flatten() {
            sum.packets += track.packets;
            sum.bytes += track.bytes;
            sum.nacked += track.nacked;
            sum.retransmitted += track.retransmitted;
            sum.probes += track.probes;
            sum.dropped += track.dropped;
            sum.keyframe_requests += track.plis + track.firs;
        }
    }

    fn view(&self) -> ViewerView {
        ViewerView {
            id: self.id.clone(),
            channel: self.channel.clone(),
            since: self.since,
            connection: self.session.state(),
            sent: self.session.outlet().map(|outlet| outlet.stats()),
        }
    }
}

/// The session as its URL sees it.
struct ViewerSession {
    signaled: Signaled,
    program: watch::Receiver<Program>,
    limits: watch::Sender<LayerLimits>,
    ended: Arc<OnceLock<&'static str>>,
}

#[async_trait]
impl SignaledSession for ViewerSession {
    async fn close(&self) {
        self.signaled.close().await;
    }

    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        self.signaled.update_ice(fragment).await
    }

    fn ice_session_tag(&self) -> String {
        self.signaled.ice_session_tag()
    }

    fn end_reason(&self) -> Option<&'static str> {
        self.ended.get().copied()
    }

    fn viewing(&self) -> Option<&dyn Viewing> {
        Some(self)
    }
}

#[async_trait]
impl Viewing for ViewerSession {
    async fn answered(&self, _: &str) -> Result<(), AnswerError> {
        Err(AnswerError::Unacceptable("no offer of ours waits for an answer".into()))
    }

    fn program(&self) -> watch::Receiver<Program> {
        self.program.clone()
    }

    fn limit_layers(&self, limits: LayerLimits) {
        self.limits.send_replace(limits);
    }
}
