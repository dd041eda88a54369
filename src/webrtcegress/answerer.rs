//! Offers that come to the element's endpoint become viewers.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::fanout::Fanout;
use crate::{
    bridge::Signaled,
    forward::Viewer,
    session::{
        ConnectionState, EndReason, PacketSink, RtpPacket, SenderReport, Sends, Session, SessionConfig, SessionError,
    },
    signaling::{Answer, AnswerError, Offer, OfferAnswerer},
};

/// Answers for one element while it is started.
pub(super) struct Answerer {
    pub(super) media: Handle,
    pub(super) config: SessionConfig,
    pub(super) fanout: Arc<Fanout>,
    pub(super) max_viewers: Option<usize>,
    pub(super) viewers: Arc<Viewers>,
    pub(super) watch: Watch,
}

/// Is told the state of the connections.
pub(super) type Watch = Arc<dyn Fn(ConnectionState) + Send + Sync>;

/// The sessions of those who watch.
#[derive(Default)]
pub(super) struct Viewers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Offers are refused: the stream has ended.
    ended: bool,
    /// Offers that are being answered.
    answering: usize,
    sessions: Vec<Session>,
    so_far: u64,
}

impl Viewers {
    /// Refuses offers from now on and returns the sessions to be closed.
    pub(super) fn end(&self) -> Vec<Session> {
        let mut state = self.lock();
        state.ended = true;
        std::mem::take(&mut state.sessions)
    }

    /// Those that are there, and how many there have been.
    pub(super) fn counts(&self) -> (usize, u64) {
        let mut state = self.lock();
        state.sessions.retain(|session| !session.state().is_over());
        (state.sessions.len(), state.so_far)
    }

    /// Connected as soon as one of them is; new as long as there is none.
    pub(super) fn state(&self) -> ConnectionState {
        let states: Vec<_> = self.lock().sessions.iter().map(Session::state).collect();
        let any = |wanted| states.contains(&wanted).then_some(wanted);
        any(ConnectionState::Connected)
            .or_else(|| any(ConnectionState::Connecting))
            .or_else(|| any(ConnectionState::Disconnected))
            .unwrap_or(ConnectionState::New)
    }

    fn reserve(self: &Arc<Self>, most: Option<usize>) -> Result<Place, AnswerError> {
        let mut state = self.lock();
        if state.ended {
            return Err(AnswerError::Unavailable("the stream has ended".into()));
        }
        state.sessions.retain(|session| !session.state().is_over());
        if let Some(most) = most.filter(|most| state.sessions.len() + state.answering >= *most) {
            return Err(AnswerError::Unavailable(format!("there are {most} viewers already, and no more are let in")));
        }
        state.answering += 1;
        Ok(Place { viewers: self.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A viewer's place while its offer is answered.
struct Place {
    viewers: Arc<Viewers>,
}

impl Place {
    /// False if the stream ended meanwhile.
    fn fill(self, session: &Session) -> bool {
        let mut state = self.viewers.lock();
        if !state.ended {
            state.sessions.push(session.clone());
            state.so_far += 1;
        }
        !state.ended
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.viewers.lock();
        state.answering = state.answering.saturating_sub(1);
    }
}

#[async_trait]
impl OfferAnswerer for Answerer {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        let place = self.viewers.reserve(self.max_viewers)?;
        let decided = self.fanout.decide(&offer.sdp).map_err(SessionError::from)?;
        let decided = decided.ok_or_else(|| AnswerError::Unavailable("there is nothing to watch yet".into()))?;
        let (fanout, config, watch) = (self.fanout.clone(), self.config.clone(), self.watch.clone());
        // Everything of a session runs on the media thread; should the client hang up meanwhile, it runs on and times out.
        let answering = self.media.spawn(async move {
            let answered = Box::pin(answer(&config, offer, &fanout, place, &watch)).await;
            drop(decided);
            answered
        });
        answering.await.map_err(|error| AnswerError::Internal(format!("answering failed: {error}")))?
    }
}

async fn answer(
    config: &SessionConfig,
    offer: Offer,
    fanout: &Fanout,
    place: Place,
    watch: &Watch,
) -> Result<Answer, AnswerError> {
    let joining = fanout.source().join();
    let sends = Sends { tracks: fanout.outgoing(), events: joining.events(), receives: false };
    let local = offer.remote.ip().to_canonical().is_loopback();
    let answering = Session::exchange(config, &offer.sdp, local, Some(sends), |_| Arc::new(Deaf), offer.lease);
    let answered = Box::pin(answering).await?;
    let (viewers, watch) = (place.viewers.clone(), watch.clone());
    let session = answered.session.clone();
    let viewer = joining.begin(&answered);
    let Some(viewer) = viewer.filter(|_| place.fill(&session)) else {
        session.close(EndReason::Shutdown).await;
        return Err(AnswerError::Unavailable("the stream has ended".into()));
    };
    tokio::spawn(stays(viewer, session.clone(), move || watch(viewers.state())));
    Ok(Answer { sdp: answered.sdp, session: Arc::new(Signaled::new(session, offer.id)) })
}

/// Holds a viewer's place as long as its session lasts, and tells each change.
pub(super) async fn stays(viewer: Viewer, session: Session, changed: impl Fn()) {
    let mut states = session.states();
    drop(session);
    changed();
    while !states.borrow_and_update().is_over() && states.changed().await.is_ok() {
        changed();
    }
    drop(viewer);
    changed();
}

/// For what a peer sends that only receives.
pub(super) struct Deaf;

impl PacketSink for Deaf {
    fn rtp(&self, _: usize, _: RtpPacket) {}

    fn sender_report(&self, _: usize, _: SenderReport) {}

    fn state_changed(&self, _: ConnectionState) {}

    fn ended(&self, _: EndReason) {}

    fn resumed(&self) {}
}
