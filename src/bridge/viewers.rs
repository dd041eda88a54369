//! Viewers: each gets what a source has over a connection of its own, however its offer came. Who they are, and their ends.
//!
//! ```text
//!   signaling ─▶ Viewers (an OfferAnswerer) ─▶ Sources: which source
//!                   admission: half-open ones      │ forward::watch   its connection, its place at the source
//!                                                  └ attend           one task a viewer, until its end
//! ```
//!
//! How many there may be is known where they have their seats (`signaling`); that they are counted for their channel too.

mod attendance;
mod url;

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

use self::{
    attendance::{Attendance, Member, STOPPED, video_section},
    url::{Invited, Told, ViewerSession},
};
use super::{
    admission::{self, Admission, Place},
    signaled::Signaled,
};
use crate::{
    channel::{Change, ChannelId, Registry},
    forward::{Source, WatchError, Watching, invite, watch as answer_viewer},
    session::{ConnectionState, DataSink, EndReason, Outgoing, SendStats, Session, SessionConfig, Track},
    signaling::{Answer, AnswerError, COUNTER_OFFER, Offer, OfferAnswerer, Sent, SessionId},
};

/// Where viewers' media comes from.
pub trait Sources: Send + Sync + 'static {
    /// What is to be watched on a channel, or at the one endpoint that there is.
    fn source(&self, channel: Option<&ChannelId>) -> Result<Arc<Source>, AnswerError>;

    /// What somebody may choose from whom we make an offer; `None`: what the source has.
    fn choices(&self) -> Option<Vec<Outgoing>> {
        None
    }

    /// This was chosen. What is returned is held until the viewer is there; `None` if it cannot be had any more.
    fn chosen(&self, _taken: &[Track]) -> Option<Box<dyn Send>> {
        Some(Box::new(()))
    }
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

impl Viewers {
    /// Nobody yet.
    pub fn new(config: ViewersConfig, sources: Arc<dyn Sources>) -> Self {
        let admission = Admission::of_viewers();
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
        let choices = self.shared.sources.choices();
        let inviting = async move { Box::pin(invite(&watched, &config, is_local, ear, choices)).await };
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
        admission::room_for_files()?;
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

impl From<WatchError> for AnswerError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::NotLive => Self::NotLive,
            WatchError::Changed => Self::Unacceptable(error.to_string()),
            WatchError::Session(error) => error.into(),
        }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
