//! From an offer to a session that has been answered; or why there is none.

use std::{
    sync::{Arc, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};
use tracing::warn;

use super::{Started, running::Running, signaled::Published, stop};
use crate::{
    bridge::{
        admission,
        hearing::{Discard, Heard, Hearing},
        peer::Peer,
        pipeline::{SessionPipeline, Timing},
        placeholders::Names,
        report::SessionState,
        sending::Sending,
        sessions::{Member, Shared},
        signaled::Signaled,
    },
    channel::{ChannelId, Claim, PublishError, SILENCE},
    forward::Publication,
    rtp::SessionFeed,
    session::{
        DataSink, PacketSink, Sends, Session, SessionError, Terms, Track, data::Both, negotiate, negotiate_with_data,
        only_receives,
    },
    signaling::{Answer, AnswerError, Offer, abbreviate},
};

/// What a pipeline gets to start. Answers have 7 s, with what deciding who may publish takes of them.
const STARTING: Duration = Duration::from_secs(5);

pub(super) async fn begin(shared: &Arc<Shared>, offer: Offer) -> Result<(Answer, Running), AnswerError> {
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
pub(in crate::bridge) fn incoming(shared: &Shared, sdp: &str, both_ways: bool) -> Result<Vec<Track>, AnswerError> {
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
    let terms = Terms { sends, data: who_hears(feed.as_ref(), sending.as_ref()) };
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

/// Where goes what the peer says by data channels: to the element that receives and to the one that sends, as far as they are
/// there and want it. Where nobody hears there are no channels.
pub(in crate::bridge) fn who_hears(
    feed: Option<&SessionFeed>,
    sending: Option<&Arc<dyn Sending>>,
) -> Option<Arc<dyn DataSink>> {
    match (feed.and_then(SessionFeed::data), sending.and_then(|sending| sending.hears())) {
        (Some(receiver), Some(sender)) => Some(Arc::new(Both(receiver, sender))),
        (receiver, sender) => receiver.or(sender),
    }
}

/// Asks whoever sends, on a thread that may wait.
pub(in crate::bridge) async fn what_is_sent(
    sending: Option<&Arc<dyn Sending>>,
    incoming: &[Track],
    receives: bool,
) -> Option<Sends> {
    let (sending, incoming) = (sending?.clone(), incoming.to_vec());
    let sends = tokio::task::spawn_blocking(move || sending.sends(&incoming)).await.ok()?;
    Some(Sends { receives, ..sends })
}
