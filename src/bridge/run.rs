//! One session, from its offer to its end: a task that owns all of it.
//!
//! ```text
//!   offer ─▶ place ─▶ channel ─▶ pipeline ─▶ answer ─▶ live ─▶ ending ─▶ over
//!               refused: 503       409, 503   500       400, 422    EOS, bounded   NULL; channel and place are free
//! ```

use std::{
    sync::{Arc, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    admission::{self, Place},
    hearing::{Discard, Heard, Hearing},
    peer::Peer,
    pipeline::{Event, SessionPipeline, Timing},
    placeholders::Names,
    report::{Over, SessionState},
    sending::Sending,
    sessions::{Member, Orders, Shared},
    signaled::Signaled,
};
use crate::{
    channel::{ChannelId, Claim, Displaced, PublishError, PublisherLease, SILENCE},
    forward::Publication,
    session::{
        DataSink, EndReason, PacketSink, Sends, Session, SessionError, Terms, Track, data::Unheard, negotiate,
        negotiate_with_data, only_receives,
    },
    signaling::{Answer, AnswerError, IceFragment, IceRefused, IceUpdated, Offer, SignaledSession, abbreviate},
};

/// What a pipeline gets to start. Answers have 8 s.
const STARTING: Duration = Duration::from_secs(5);

/// What a pipeline gets to stop before the session is over without it.
const STOPPING: Duration = Duration::from_secs(10);

/// What the end of a session gets before whoever asked for it is told that it is over: an RTMP server takes a fraction of it.
const LEAVING: Duration = Duration::from_secs(2);

/// Answers an offer, and runs what comes of it.
pub(super) async fn run(shared: Arc<Shared>, offer: Offer, tell: oneshot::Sender<Result<Answer, AnswerError>>) {
    match begin(&shared, offer).await {
        Err(error) => {
            let _ = tell.send(Err(error));
        }
        Ok((answer, running)) => {
            let unheard = tell.send(Ok(answer)).is_err();
            if unheard {
                debug!(session = abbreviate(running.member.entry.id.as_str()), "nobody waits for the answer any more");
                running.session.close(EndReason::ClosedByPeer).await;
            }
            running.run().await;
        }
    }
}

/// A session that has been answered.
struct Running {
    // Dropped in this order: the channel is free when nothing of the session is left.
    session: Session,
    heard: watch::Receiver<Heard>,
    pipeline: Option<(Arc<SessionPipeline>, mpsc::Receiver<Event>)>,
    orders: watch::Receiver<Orders>,
    /// What its pipeline plays on; nothing when it is paused.
    plays_on: Option<Timing>,
    /// Set when it comes to its end, with what its publisher is told of that.
    ended: Arc<OnceLock<&'static str>>,
    member: Member,
    lease: PublisherLease,
    place: Place,
}

async fn begin(shared: &Arc<Shared>, offer: Offer) -> Result<(Answer, Running), AnswerError> {
    // An offer that cannot be answered leaves the publisher that is there alone.
    let incoming = incoming(shared, &offer.sdp, offer.both_ways)?;
    let orders = shared.orders.subscribe();
    let timing = shared.timing()?;
    admission::room_for_files()?;
    let place = shared.admission.admit(offer.remote.ip())?;
    let channel = offer.channel.clone().unwrap_or_else(ChannelId::random);
    let names = Names::new(channel.to_string(), offer.id.to_string());
    let source = shared.channels.obtain(&channel);
    let peer = Peer::new(names, shared.config.media.clone(), shared.config.session.mux.clone(), source);
    let ended = Arc::new(OnceLock::new());
    let claim = claim(&peer, &offer, &ended);
    let lease = shared.config.registry.publish(&channel, claim).await?;
    let id = offer.id.clone();
    let mut member = shared.enter(id.clone(), channel, peer.clone());
    member.tell(SessionState::Starting, "").await;
    let failed = |why: &str| warn!(session = abbreviate(id.as_str()), why, "a session could not be started");
    let pipeline = match start_pipeline(shared, &mut member, &timing).await {
        Ok(pipeline) => pipeline,
        Err(why) => {
            failed(&why);
            member.tell(SessionState::Failed, &why).await;
            // The bus tells why; it is none of the peer's business.
            return Err(AnswerError::Internal("the session's pipeline does not start".into()));
        }
    };
    match answer(shared, offer, &incoming, &peer, &member, pipeline.is_some()).await {
        Ok((session, sdp, heard)) => {
            let signaled = Signaled::new(session.clone(), id.clone());
            let published = Published { signaled, gone: member.gone(), ended: ended.clone() };
            let answer = Answer { sdp, session: Arc::new(published) };
            let plays_on = Some(timing);
            if !session.outgoing().is_empty() {
                lease.make_private(); // it speaks with its pipeline
            }
            Ok((answer, Running { session, heard, pipeline, orders, plays_on, ended, member, lease, place }))
        }
        Err(error) => {
            failed(&error.to_string());
            if let Some((pipeline, _)) = pipeline {
                stop(&pipeline).await;
            }
            member.tell(SessionState::Failed, &error.to_string()).await;
            Err(error)
        }
    }
}

/// What an offer brings; or why it cannot be answered.
pub(super) fn incoming(shared: &Shared, sdp: &str, both_ways: bool) -> Result<Vec<Track>, AnswerError> {
    let (codecs, builder) = (&shared.config.session.codecs, &shared.config.builder);
    let read = if builder.may_have_data() { negotiate_with_data } else { negotiate };
    match read(sdp, codecs) {
        Ok(incoming) => Ok(incoming),
        Err(_) if both_ways && builder.may_send() && only_receives(sdp) => Ok(Vec::new()),
        Err(error) => Err(SessionError::from(error).into()),
    }
}

/// What the registry is told of the publisher. One that is coming to its end has been silent for long.
fn claim(peer: &Peer, offer: &Offer, ended: &Arc<OnceLock<&'static str>>) -> Claim {
    let (peer, ended) = (peer.clone(), ended.clone());
    let last_media = move || match ended.get().is_some() {
        true => Instant::now().checked_sub(SILENCE),
        false => peer.session()?.last_media(),
    };
    Claim { credential: offer.credential, last_media: Arc::new(last_media), is_private: offer.is_private }
}

impl From<PublishError> for AnswerError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Live => Self::Conflict,
            PublishError::Stopped | PublishError::Full(_) => Self::Unavailable(error.to_string()),
        }
    }
}

type Started = Option<(Arc<SessionPipeline>, mpsc::Receiver<Event>)>;

async fn start_pipeline(shared: &Arc<Shared>, member: &mut Member, timing: &Timing) -> Result<Started, String> {
    let _permit = shared.building.acquire().await;
    let (builder, timing) = (shared.config.builder.clone(), timing.clone());
    let entry = member.entry.clone();
    let starting = tokio::task::spawn_blocking(move || {
        let Some(element) = builder.build(&entry.channel, &entry.id)? else { return Ok(None) };
        let (pipeline, events) = SessionPipeline::start(element, &entry.peer, &timing)?;
        *entry.pipeline.lock().unwrap_or_else(PoisonError::into_inner) = pipeline.weak();
        Ok(Some((Arc::new(pipeline), events)))
    });
    match timeout(STARTING, starting).await {
        Ok(Ok(started)) => started,
        Ok(Err(_)) => Err("what builds its pipeline has panicked".into()),
        // When it has started after all, it is dropped, and that stops it.
        Err(_) => Err(format!("its pipeline has not started within {} s", STARTING.as_secs())),
    }
}

type Answered = (Session, String, watch::Receiver<Heard>);

async fn answer(
    shared: &Shared,
    offer: Offer,
    incoming: &[Track],
    peer: &Peer,
    member: &Member,
    has_pipeline: bool,
) -> Result<Answered, AnswerError> {
    let feed = peer.feed(offer.id.as_str());
    let sending = peer.sending();
    // What comes is of no use to a pipeline that only sends.
    let receives = feed.is_some() || sending.is_none() || !offer.both_ways;
    let sends = what_is_sent(sending.as_ref(), incoming, receives).await.filter(|_| offer.both_ways);
    // Who only sends hears nothing, and has channels to send by.
    let data = match &feed {
        Some(feed) => feed.data(),
        None => sending.as_ref().map(|_| Arc::new(Unheard) as Arc<dyn DataSink>),
    };
    let terms = Terms { sends, data };
    let to: Option<Arc<dyn PacketSink>> = match &feed {
        Some(feed) => Some(Arc::new(feed.clone())),
        None if has_pipeline => Some(Arc::new(Discard(member.entry.discarded.clone()))),
        None => None,
    };
    // What viewers get is the publisher's own, or made of it by its pipeline.
    let source = (!peer.feeds_viewers()).then(|| peer.source()).flatten();
    let (told, heard) = watch::channel(Heard::default());
    let published = Arc::<OnceLock<Arc<Publication>>>::default();
    let publishing = published.clone();
    let sink = move |tracks: &[Track]| -> Arc<dyn PacketSink> {
        let to = match source {
            Some(source) => {
                let publication = source.publish(tracks, to);
                Some(publishing.get_or_init(|| publication).clone() as Arc<dyn PacketSink>)
            }
            None => to,
        };
        Arc::new(Hearing::new(to, told))
    };
    let config = shared.config.session.clone();
    let is_local = offer.remote.ip().to_canonical().is_loopback();
    let Offer { sdp, lease, .. } = offer;
    // Everything of a connection runs on the media thread.
    let answering = shared
        .config
        .media
        .spawn(async move { Box::pin(Session::exchange(&config, &sdp, is_local, terms, sink, lease)).await });
    let answered = answering.await.map_err(|error| AnswerError::Internal(format!("answering failed: {error}")))??;
    peer.set_session(Some(answered.session.clone()));
    // First, so that it knows its formats when media comes.
    if let Some(sending) = sending {
        sending.answered(&answered);
    }
    if let Some(publication) = published.get() {
        publication.begin(answered.session.keyframes());
    }
    if let Some(feed) = feed {
        // The pads are on their way before the peer can read the answer.
        feed.begin(answered.session.keyframes(), answered.tracks);
    }
    Ok((answered.session, answered.sdp, heard))
}

/// Asks whoever sends, on a thread that may wait.
pub(super) async fn what_is_sent(
    sending: Option<&Arc<dyn Sending>>,
    incoming: &[Track],
    receives: bool,
) -> Option<Sends> {
    let (sending, incoming) = (sending?.clone(), incoming.to_vec());
    let sends = tokio::task::spawn_blocking(move || sending.sends(&incoming)).await.ok()?;
    Some(Sends { receives, ..sends })
}

impl Running {
    async fn run(mut self) {
        let over = self.until_over().await;
        self.ended.get_or_init(|| match over {
            Over::Displaced(Displaced::Replaced) => "replaced",
            Over::Displaced(Displaced::Stopped) => "stopped",
            _ => "ended",
        });
        let id = self.member.entry.id.clone();
        info!(session = abbreviate(id.as_str()), reason = over.reason(), "session is over");
        if over.grace(Instant::now()).is_some_and(|grace| !grace.is_zero()) {
            self.member.tell(SessionState::Ending, over.reason()).await;
            self.say_goodbye(&over).await;
        }
        let reason = match &over {
            Over::Displaced(Displaced::Replaced) => EndReason::Replaced,
            _ => EndReason::Shutdown,
        };
        let Self { session, pipeline, mut member, lease, place, .. } = self;
        let stopped = async {
            if let Some((pipeline, events)) = pipeline {
                stop(&pipeline).await;
                drop(events);
            }
        };
        tokio::join!(session.close(reason), stopped);
        member.entry.peer.set_session(None);
        drop(session);
        drop(lease);
        drop(place);
        member.tell(over.state(), over.reason()).await;
    }

    async fn until_over(&mut self) -> Over {
        let mut is_live = false;
        loop {
            let heard = *self.heard.borrow_and_update();
            if let Some(reason) = heard.ended {
                return Over::Peer(reason);
            }
            if heard.connected && !is_live {
                is_live = true;
                self.place.connected();
                self.member.tell(SessionState::Live, "").await;
            }
            let orders = self.orders.borrow_and_update().clone();
            if let Some(until) = orders.drain {
                return Over::Drained { until };
            }
            // By comparing: an order that came while something else was done, or before the pipeline was there, counts too.
            if orders.timing != self.plays_on {
                self.follow(orders.timing).await;
                continue;
            }
            tokio::select! {
                heard = self.heard.changed() => if heard.is_err() {
                    return Over::Peer(EndReason::ConnectionLost);
                },
                event = next(&mut self.pipeline) => match event {
                    Event::Ended => return Over::PipelineEnded,
                    Event::Failed(why) => return Over::PipelineFailed(why),
                    Event::Warned(why) => self.log_warning(&why),
                    Event::Latency => self.with_pipeline(SessionPipeline::recalculate_latency).await.unwrap_or(()),
                },
                why = self.lease.displaced() => return Over::Displaced(why),
                // Never an error: the sender lives as long as this task.
                _ = self.orders.changed() => {}
            }
        }
    }

    /// Plays or pauses as everybody does.
    async fn follow(&mut self, timing: Option<Timing>) {
        self.plays_on.clone_from(&timing);
        self.with_pipeline(move |pipeline| match timing {
            // If that fails, an element has said so.
            Some(timing) => drop(pipeline.play(&timing)),
            None => pipeline.pause(),
        })
        .await;
    }

    /// Its bus is nobody's but ours: what is in trouble, a destination for example, is in the log or nowhere.
    fn log_warning(&self, why: &str) {
        let entry = &self.member.entry;
        warn!(session = abbreviate(entry.id.as_str()), channel = %entry.channel, why, "a session has a warning");
    }

    /// Brings the stream to its end, so that servers hear of it; not longer than there is time, or until the next wants the
    /// channel.
    async fn say_goodbye(&mut self, over: &Over) {
        if self.with_pipeline(SessionPipeline::end_of_stream).await != Some(true) {
            return;
        }
        let now = Instant::now();
        let mut until = now + over.grace(now).unwrap_or_default();
        loop {
            if let Some(drained) = self.orders.borrow_and_update().drain {
                until = until.min(drained);
            }
            tokio::select! {
                event = next(&mut self.pipeline) => match event {
                    Event::Ended | Event::Failed(_) => return,
                    Event::Warned(why) => self.log_warning(&why),
                    Event::Latency => {}
                },
                why = self.lease.displaced(), if !matches!(over, Over::Displaced(_)) => {
                    if why == Displaced::Replaced {
                        return;
                    }
                }
                changed = self.orders.changed() => if changed.is_err() { return },
                () = sleep_until(until.into()) => return,
            }
        }
    }

    /// Does something with the pipeline on a thread that may wait.
    async fn with_pipeline<T: Send + 'static>(
        &self,
        f: impl FnOnce(&SessionPipeline) -> T + Send + 'static,
    ) -> Option<T> {
        let (pipeline, _) = self.pipeline.as_ref()?;
        let pipeline = pipeline.clone();
        timeout(STOPPING, tokio::task::spawn_blocking(move || f(&pipeline))).await.ok()?.ok()
    }
}

/// What the pipeline says next; nothing, ever, if there is none.
async fn next(pipeline: &mut Started) -> Event {
    match pipeline {
        Some((_, events)) => match events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn stop(pipeline: &Arc<SessionPipeline>) {
    let stopping = pipeline.clone();
    if timeout(STOPPING, tokio::task::spawn_blocking(move || stopping.stop())).await.is_err() {
        warn!("a session's pipeline does not stop; it is left alone");
    }
}

/// The session as its URL sees it.
struct Published {
    signaled: Signaled,
    gone: watch::Receiver<()>,
    ended: Arc<OnceLock<&'static str>>,
}

#[async_trait]
impl SignaledSession for Published {
    async fn close(&self) {
        self.signaled.close().await;
        // Whoever publishes again at once shall find the RTMP server free as well.
        let mut gone = self.gone.clone();
        let _ = timeout(LEAVING, async { while gone.changed().await.is_ok() {} }).await;
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
}
