//! The element as a WHEP client: one session after the other from one server, until it is stopped or the stream is over.
//!
//! A task on the HTTP runtime; everything of a session runs on the media runtime. When to try again is `reconnect`'s
//! decision, what the user is told `notices`'.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::watch};

use super::{
    codecs,
    notices::{Notices, State},
    reconnect::{Next, Outcome, Reconnect},
};
use crate::{
    rtp::Crossing,
    session::{ConnectionState, EndReason, Offering, PacketSink, Session, SessionConfig, SessionError},
    signaling::{
        SessionId,
        client::{ClientError, Negotiated, Resource, Verdict, WhepClient},
    },
};

/// What a client is made of.
pub(super) struct Parts {
    pub(super) media: Handle,
    pub(super) server: WhepClient,
    pub(super) url: String,
    pub(super) config: SessionConfig,
    pub(super) crossing: Arc<Crossing>,
    pub(super) eos: bool,
    pub(super) element: gst::glib::WeakRef<super::WebrtcIngest>,
}

/// A running client.
pub(super) struct Client {
    url: String,
    stop: watch::Sender<bool>,
    /// Disconnected when the task has ended.
    gone: Mutex<mpsc::Receiver<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    current: Mutex<Option<Session>>,
    attempts: AtomicU64,
    sessions: AtomicU64,
}

/// How long stopping waits for the server to be told, which takes three round trips with TLS.
const GOODBYE: Duration = Duration::from_secs(1);

impl Client {
    /// Starts calling.
    pub(super) fn start(http: &Handle, parts: Parts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (alive, gone) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let url = parts.url.clone();
        let notices = Notices::new(parts.element.clone(), url.clone());
        let task = Task { parts, shared: shared.clone(), notices };
        http.spawn(async move {
            task.run(stopped).await;
            drop(alive);
        });
        Self { url, stop, gone: Mutex::new(gone), shared }
    }

    /// Where it calls, without the query.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The session that is there.
    pub(super) fn current(&self) -> Option<Session> {
        self.shared.current()
    }

    /// How often the server was called, and how many sessions came of it.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.attempts.load(Relaxed), self.shared.sessions.load(Relaxed))
    }

    /// Ends the session and calls no more. Does not wait.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits a moment for the server to be told.
    pub(super) fn wait(&self) {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let _: Result<(), _> = gone.recv_timeout(GOODBYE);
    }
}

impl Shared {
    fn current(&self) -> Option<Session> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(&self, session: Option<Session>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

/// Why an attempt came to no session.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Server(#[from] ClientError),
    #[error("the answer of {url} cannot be used: {why}")]
    Answer { url: String, why: SessionError },
    #[error("no offer could be made: {0}")]
    Offer(SessionError),
    #[error("the media thread is gone: {0}")]
    Media(#[from] tokio::task::JoinError),
}

impl AttemptError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Server(error) => error.verdict(),
            Self::Answer { .. } | Self::Offer(_) | Self::Media(_) => Verdict::Final,
        }
    }
}

struct Task {
    parts: Parts,
    shared: Arc<Shared>,
    notices: Notices,
}

impl Task {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut reconnect = Reconnect::new(self.parts.eos);
        loop {
            self.notices.state(State::Connecting).await;
            self.shared.attempts.fetch_add(1, Relaxed);
            // What an attempt has begun ends when it is dropped; a session that the server has made meanwhile times out.
            let attempt = tokio::select! {
                attempt = Box::pin(self.attempt()) => attempt,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let (outcome, reason) = match attempt {
                Ok((session, resource)) => {
                    let outcome = self.watch(&session, &mut stopped).await;
                    self.hang_up(session, resource).await;
                    match outcome {
                        Some(ended) => ended,
                        None => break,
                    }
                }
                Err(error) => (Outcome::Failed(error.verdict()), error.to_string()),
            };
            match reconnect.next(outcome, Instant::now(), rand::random()) {
                Next::Retry(after) => {
                    self.notices.state(State::Retrying { reason, after }).await;
                    tokio::select! {
                        () = tokio::time::sleep(after) => {}
                        _ = stopped.wait_for(|stop| *stop) => break,
                    }
                }
                Next::End => {
                    self.notices.state(State::Stopped { reason }).await;
                    self.parts.crossing.end_of_stream();
                    return;
                }
                Next::Fail => {
                    self.notices.state(State::Refused { reason }).await;
                    return;
                }
            }
        }
        self.notices.state(State::Stopped { reason: "it was stopped here".into() }).await;
    }

    /// Makes an offer, and a session of what the server says to it.
    async fn attempt(&self) -> Result<(Session, Resource), AttemptError> {
        let Parts { media, server, crossing, .. } = &self.parts;
        let mut config = self.parts.config.clone();
        let (element, wanted) = (self.parts.element.clone(), config.codecs.clone());
        // A caps query goes wherever the pipeline leads; it must not hold up other requests.
        if let Ok(usable) = tokio::task::spawn_blocking(move || codecs::usable(&element, wanted)).await {
            config.codecs = usable;
        }
        let local = server.is_local().await;
        let offering = {
            let config = config.clone();
            media.spawn(async move { Box::pin(Offering::new(&config, local)).await }).await?
        };
        let offering = offering.map_err(AttemptError::Offer)?;
        let negotiated = server.offer(offering.sdp()).await?;
        let feed = crossing.feed(SessionId::random().as_str());
        let sink: Arc<dyn PacketSink> = Arc::new(feed.clone());
        let (made, resource) = match negotiated {
            Negotiated::Answer { sdp, resource } => {
                let begin = move |session: Session, tracks| feed.begin(session.keyframes(), tracks);
                let answered = async move { Box::pin(offering.answered(&sdp, sink, begin, ())).await };
                (media.spawn(answered).await?, resource)
            }
            Negotiated::CounterOffer { sdp, resource } => {
                drop(offering);
                let answer = async move { Box::pin(Session::answer(&config, &sdp, local, |_| sink, ())).await };
                let made = match media.spawn(answer).await? {
                    Ok(answered) => {
                        let session = answered.session;
                        feed.begin(session.keyframes(), answered.tracks);
                        if let Err(error) = resource.answer(&answered.sdp).await {
                            session.close(EndReason::Shutdown).await;
                            return Err(error.into());
                        }
                        Ok(session)
                    }
                    Err(error) => Err(error),
                };
                (made, resource)
            }
        };
        match made {
            Ok(session) => {
                let servers = resource.ice_servers().len();
                gst::debug!(super::imp::CAT, "{}: {servers} ICE servers offered, which are not used", self.parts.url);
                Ok((session, resource))
            }
            Err(why) => {
                goodbye(&resource).await;
                Err(AttemptError::Answer { url: self.parts.url.clone(), why })
            }
        }
    }

    /// Waits for the end of a session; `None` if we are the ones who end it.
    async fn watch(&mut self, session: &Session, stopped: &mut watch::Receiver<bool>) -> Option<(Outcome, String)> {
        self.shared.set_current(Some(session.clone()));
        self.shared.sessions.fetch_add(1, Relaxed);
        let mut states = session.states();
        let mut connected = false;
        loop {
            let state = *states.borrow_and_update();
            if state == ConnectionState::Connected && !connected {
                connected = true;
                self.notices.state(State::Live).await;
            }
            if state.is_over() {
                break;
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() { break },
                _ = stopped.wait_for(|stop| *stop) => return None,
            }
        }
        let reason = if connected { EndReason::ConnectionLost } else { EndReason::ConnectTimeout };
        let reason = match reason {
            EndReason::ConnectTimeout => "no media connection to the server came about: UDP may be blocked on the way",
            _ => "the connection to the server was lost, or the server has ended it",
        };
        Some((Outcome::Ended { had_media: session.last_media().is_some() }, format!("{}: {reason}", self.parts.url)))
    }

    /// Ends a session here and at the server.
    async fn hang_up(&self, session: Session, resource: Resource) {
        self.shared.set_current(None);
        let closing = self.parts.media.spawn(async move { session.close(EndReason::Shutdown).await });
        let (_, ()) = tokio::join!(closing, goodbye(&resource));
    }
}

/// Tells the server that it is over, which helps it to forget us early; more than trying is not worth it.
async fn goodbye(resource: &Resource) {
    match tokio::time::timeout(GOODBYE, resource.delete()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => gst::debug!(super::imp::CAT, "the server was not told of the session's end: {error}"),
        Err(_) => gst::debug!(super::imp::CAT, "the server did not answer to the session's end"),
    }
}
