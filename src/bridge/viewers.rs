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
    forward::{self, Invitation, Source, Viewer, ViewerChange, WatchError, Watching, invite, watch as answer_viewer},
    session::{ConnectionState, DataSink, EndReason, SendStats, Session, SessionConfig},
    signaling::{
        Answer, AnswerError, COUNTER_OFFER, IceFragment, IceRefused, IceUpdated, LayerLimits, Offer, OfferAnswerer,
        Program, Sent, SessionId, SessionLease, SignaledSession, VideoLayer, Viewing, abbreviate,
    },
};

/// Where viewers' media comes from.
pub trait Sources: Send + Sync + 'static {
    /// What is to be watched on a channel, or at the one endpoint that there is.
    fn source(&self, channel: Option<&ChannelId>) -> Result<Arc<Source>, AnswerError>;
}

/// Who talks with viewers by data channels.
pub trait ViewerData: Send + Sync + 'static {
    /// Hears what a viewer says.
    fn ear(&self, viewer: &SessionId) -> Arc<dyn DataSink>;
    /// The viewer is there and can be spoken to.
    fn came(&self, viewer: &SessionId, session: &Session);
}

/// What viewers' connections are made of.
pub struct ViewersConfig {
    /// The connections themselves.
    pub session: SessionConfig,
    /// Runs the connections.
    pub media: Handle,
    /// Runs all else.
    pub http: Handle,
    /// Without it viewers have no data channels.
    pub data: Option<Arc<dyn ViewerData>>,
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

    /// Takes no more; those who are there stay.
    pub fn turn_away(&self) {
        self.shared.is_closed.store(true, Relaxed);
    }

    /// Ends all viewers and takes no more; does not wait for it.
    pub fn close(&self) {
        self.turn_away();
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
        let (newcomer, Offer { sdp, id, remote, lease, .. }) = self.newcomer(offer)?;
        let (config, watched) = (self.shared.config.session.clone(), newcomer.source.clone());
        let is_local = remote.ip().to_canonical().is_loopback();
        let ear = self.shared.config.data.as_ref().map(|data| data.ear(&id));
        let answering = async move { Box::pin(answer_viewer(&watched, &config, &sdp, is_local, ear, lease)).await };
        let watching = self.shared.on_media(answering).await??;
        let (sdp, told) = (watching.sdp.clone(), Told::default());
        let signaled = newcomer.attend(watching, &told).await?;
        Ok(Answer { sdp, session: Arc::new(ViewerSession { id, told, signaled: signaled.into(), invited: None }) })
    }

    async fn counter_offer(&self, offer: Offer) -> Option<Answer> {
        let (newcomer, Offer { id, remote, lease, .. }) = self.newcomer(offer).ok()?;
        let (config, watched) = (self.shared.config.session.clone(), newcomer.source.clone());
        let is_local = remote.ip().to_canonical().is_loopback();
        let ear = self.shared.config.data.as_ref().map(|data| data.ear(&id));
        let inviting = async move { Box::pin(invite(&watched, &config, is_local, ear)).await };
        let invitation = self.shared.on_media(inviting).await.ok()?.ok()?;
        let sdp = invitation.sdp().to_owned();
        let invited = Arc::new(Mutex::new(Some(Invited { newcomer, invitation, lease })));
        let waits = Arc::downgrade(&invited);
        self.shared.config.http.spawn(async move {
            tokio::time::sleep(COUNTER_OFFER).await;
            drop(waits.upgrade().map(|invited| lock(&invited).take()));
        });
        let (told, signaled) = (Told::default(), OnceLock::new());
        Some(Answer { sdp, session: Arc::new(ViewerSession { id, told, signaled, invited: Some(invited) }) })
    }
}

impl Viewers {
    /// Lets somebody in, as far as that can be told from what he asks for.
    fn newcomer(&self, offer: Offer) -> Result<(Newcomer, Offer), AnswerError> {
        let shared = &self.shared;
        if shared.is_closed.load(Relaxed) {
            return Err(closed());
        }
        let source = shared.sources.source(offer.channel.as_ref())?;
        let place = shared.admission.admit(offer.remote.ip())?;
        let (id, channel) = (offer.id.clone(), offer.channel.clone());
        Ok((Newcomer { shared: shared.clone(), id, channel, source, place }, offer))
    }
}

fn closed() -> AnswerError {
    AnswerError::Unavailable("it is about to end".into())
}

/// Somebody who is on his way in.
struct Newcomer {
    shared: Arc<Shared>,
    id: SessionId,
    channel: Option<ChannelId>,
    source: Arc<Source>,
    place: Place,
}

impl Newcomer {
    /// He is in: from here on his task does the rest.
    async fn attend(self, watching: Watching, told: &Told) -> Result<Signaled, AnswerError> {
        let Self { shared, id, channel, source, place } = self;
        let Watching { session, sdp, viewer } = watching;
        let (end, ending) = watch::channel(None);
        let entry = Entry { id: id.clone(), channel, since: Instant::now(), session: session.clone(), end };
        let member = Member::enter(&shared, entry);
        if shared.is_closed.load(Relaxed) {
            session.close(EndReason::Shutdown).await;
            return Err(closed());
        }
        if let Some(data) = &shared.config.data {
            data.came(&id, &session);
        }
        let signaled = Signaled::new(session.clone(), id);
        let attendance = Attendance {
            viewer,
            session,
            source,
            place,
            program: told.program.clone(),
            video_section: video_section(&sdp),
            limits: {
                // What was chosen before the answer came counts too.
                let mut limits = told.limits.subscribe();
                limits.mark_changed();
                limits
            },
            ending,
            ended: told.ended.clone(),
            member,
        };
        attendance.tell();
        shared.config.http.spawn(attendance.attend());
        Ok(signaled)
    }
}

/// What passes between a viewer's task and his session's URL.
#[derive(Default)]
struct Told {
    program: watch::Sender<Program>,
    limits: watch::Sender<LayerLimits>,
    ended: Arc<OnceLock<&'static str>>,
}

/// Somebody who may answer an offer of ours.
struct Invited {
    newcomer: Newcomer,
    invitation: Invitation,
    lease: SessionLease,
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
    /// Everything of a connection runs on the media thread.
    async fn on_media<T: Send + 'static>(&self, f: impl Future<Output = T> + Send + 'static) -> Result<T, AnswerError> {
        let done = self.config.media.spawn(f).await;
        done.map_err(|error| AnswerError::Internal(format!("answering failed: {error}")))
    }

    fn gone(&self) -> MutexGuard<'_, Sent> {
        lock(&self.gone)
    }

    fn present(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        lock(&self.present)
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
    id: SessionId,
    told: Told,
    /// Once there is one.
    signaled: OnceLock<Signaled>,
    /// Until there is.
    invited: Option<Arc<Mutex<Option<Invited>>>>,
}

#[async_trait]
impl SignaledSession for ViewerSession {
    async fn close(&self) {
        if let Some(invited) = &self.invited {
            drop(lock(invited).take());
        }
        if let Some(signaled) = self.signaled.get() {
            signaled.close().await;
        }
    }

    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        match self.signaled.get() {
            Some(signaled) => signaled.update_ice(fragment).await,
            None => Err(IceRefused::Unacceptable("our offer has not been answered yet".into())),
        }
    }

    fn ice_session_tag(&self) -> String {
        // As it will be.
        self.signaled.get().map_or_else(|| Signaled::first_tag(&self.id), Signaled::ice_session_tag)
    }

    fn end_reason(&self) -> Option<&'static str> {
        self.told.ended.get().copied()
    }

    fn viewing(&self) -> Option<&dyn Viewing> {
        Some(self)
    }
}

#[async_trait]
impl Viewing for ViewerSession {
    async fn answered(&self, sdp: &str) -> Result<(), AnswerError> {
        let invited = self.invited.as_ref().and_then(|invited| lock(invited).take());
        let Some(Invited { newcomer, invitation, lease }) = invited else {
            return Err(AnswerError::Unacceptable("no offer of ours waits for an answer".into()));
        };
        let (shared, sdp) = (newcomer.shared.clone(), sdp.to_owned());
        let answering = async move { Box::pin(invitation.answered(&sdp, lease)).await };
        let signaled = newcomer.attend(shared.on_media(answering).await??, &self.told).await?;
        let _ = self.signaled.set(signaled); // there is one answer
        Ok(())
    }

    fn program(&self) -> watch::Receiver<Program> {
        self.told.program.subscribe()
    }

    fn limit_layers(&self, limits: LayerLimits) {
        self.told.limits.send_replace(limits);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
