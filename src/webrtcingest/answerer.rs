//! Offers that come to the element's endpoint become its session.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::codecs;
use crate::{
    bridge::Signaled,
    channel::{Credential, Present, may_replace},
    rtp::{Crossing, SessionFeed},
    session::{EndReason, PacketSink, Session, SessionConfig, SessionError, Terms, negotiate_with_data},
    signaling::{Answer, AnswerError, Offer, OfferAnswerer},
};

/// Answers for one element while it is started.
pub(super) struct Answerer {
    pub(super) media: Handle,
    pub(super) config: SessionConfig,
    pub(super) crossing: Arc<Crossing>,
    pub(super) slot: Arc<Slot>,
    pub(super) element: gst::glib::WeakRef<super::WebrtcIngest>,
}

/// The one place for a publisher.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    /// Offers are refused: the stream has ended.
    ended: bool,
    /// An offer is being answered.
    answering: bool,
    current: Option<Placed>,
}

struct Placed {
    session: Session,
    since: Instant,
    /// What its publisher has shown.
    credential: Credential,
}

impl Slot {
    /// The session that is there.
    pub(super) fn current(&self) -> Option<Session> {
        self.lock().current.as_ref().map(|placed| placed.session.clone())
    }

    /// Refuses offers from now on and returns the session to be closed.
    pub(super) fn end(&self) -> Option<Session> {
        let mut state = self.lock();
        state.ended = true;
        state.current.take().map(|placed| placed.session)
    }

    /// Reserves the place for a newcomer; returns the session that has to go first, which keeps it until then.
    fn reserve(self: &Arc<Self>, credential: Credential) -> Result<(Reservation, Option<Session>), AnswerError> {
        let mut state = self.lock();
        if state.ended {
            return Err(AnswerError::Unavailable("the stream has ended".into()));
        }
        if state.answering {
            return Err(AnswerError::Unavailable("another offer is just being answered".into()));
        }
        if let Some(Placed { session, since, credential: shown }) = &state.current {
            let present = Present { since: *since, last_media: session.last_media() };
            let is_same = shown.is_same_as(credential);
            if !session.state().is_over() && !may_replace(present, is_same, Instant::now()) {
                return Err(AnswerError::Conflict);
            }
        }
        state.answering = true;
        let replaced = state.current.as_ref().map(|placed| placed.session.clone());
        Ok((Reservation { slot: self.clone(), credential }, replaced))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while an offer is answered; dropping it gives the place up.
struct Reservation {
    slot: Arc<Slot>,
    credential: Credential,
}

impl Reservation {
    /// Puts the session in its place; false if the stream ended meanwhile.
    fn fill(self, session: &Session) -> bool {
        let mut state = self.slot.lock();
        if !state.ended {
            let (session, credential) = (session.clone(), self.credential);
            state.current = Some(Placed { session, since: Instant::now(), credential });
        }
        !state.ended
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.slot.lock().answering = false;
    }
}

#[async_trait]
impl OfferAnswerer for Answerer {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        let (reservation, replaced) = self.slot.reserve(offer.credential)?;
        let feed = self.crossing.feed(offer.id.as_str());
        let mut config = self.config.clone();
        let element = self.element.clone();
        let wanted = config.codecs.clone();
        // A caps query goes wherever the pipeline leads; it must not hold up other requests.
        if let Ok(usable) = tokio::task::spawn_blocking(move || codecs::usable(&element, wanted)).await {
            config.codecs = usable;
        }
        // Everything of a session runs on the media thread; should the client hang up meanwhile, it runs on and times out.
        // One that cannot be answered leaves the session that is there alone.
        negotiate_with_data(&offer.sdp, &config.codecs).map_err(SessionError::from)?;
        let answering = self.media.spawn(async move { answer(&config, offer, feed, reservation, replaced).await });
        answering.await.map_err(|error| AnswerError::Internal(format!("answering failed: {error}")))?
    }
}

async fn answer(
    config: &SessionConfig,
    offer: Offer,
    feed: SessionFeed,
    reservation: Reservation,
    replaced: Option<Session>,
) -> Result<Answer, AnswerError> {
    let sink: Arc<dyn PacketSink> = Arc::new(feed.clone());
    let local = offer.remote.ip().to_canonical().is_loopback();
    let terms = Terms { sends: None, data: feed.data() };
    let answered = Session::exchange(config, &offer.sdp, local, terms, |_| sink, offer.lease).await?;
    let session = answered.session;
    // Only now that the newcomer has an answer, and before its place is its own: what ended is told before what begins.
    if let Some(replaced) = replaced {
        replaced.close(EndReason::Replaced).await;
        feed.state_changed(session.state()); // the last word was the other one's
    }
    if !reservation.fill(&session) {
        session.close(EndReason::Shutdown).await;
        return Err(AnswerError::Unavailable("the stream has ended".into()));
    }
    // The pads are on their way before the peer can read the answer.
    feed.begin(session.keyframes(), answered.tracks);
    Ok(Answer { sdp: answered.sdp, session: Arc::new(Signaled::new(session, offer.id)) })
}
