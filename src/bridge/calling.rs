//! An element as the client of a server: one session after the other, until it is stopped or the stream is over.
//!
//! A task on the HTTP runtime; everything of a session runs on the media runtime. How a session is made is the element's
//! business ([`Calls`]), what the server is asked while it is there is in `upkeep`; when to try again is `reconnect`'s
//! decision, what the user is told `notices`'.

mod learned;
mod reconnect;
mod upkeep;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::watch};
use tracing::debug;

pub(crate) use self::learned::Learned;
use self::{
    reconnect::{Next, Outcome, Reconnect},
    upkeep::{Request, Upkeep},
};
use super::{CallState as State, Notices};
use crate::{
    session::{ConnectionState, EndReason, Session, SessionError},
    signaling::client::{ClientError, Resource, Verdict},
};

/// How sessions are made, and what becomes of them.
#[async_trait]
pub(crate) trait Calls: Send + Sync + 'static {
    /// Calls the server; `None` if it was stopped meanwhile.
    async fn attempt(&self, stop: Stop) -> Result<Option<(Session, Resource)>, AttemptError>;

    /// Whether any media has gone over a session.
    fn had_media(&self, session: &Session) -> bool;

    /// The state of the session that there is.
    fn state_changed(&self, _state: ConnectionState) {}

    /// The stream is over.
    fn over(&self);
}

/// What a client is made of.
pub(crate) struct Parts {
    pub(crate) media: Handle,
    pub(crate) url: String,
    /// The end of the stream is to be EOS, not something to wait for.
    pub(crate) eos: bool,
    pub(crate) calls: Arc<dyn Calls>,
    pub(crate) notices: Notices,
}

/// Why an attempt came to no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Server(#[from] ClientError),
    #[error("the answer of {url} cannot be used: {why}")]
    Answer { url: String, why: SessionError },
    #[error("no offer could be made: {0}")]
    Offer(SessionError),
    #[error("nothing has come in that could be sent")]
    Nothing,
    #[error("the media thread is gone: {0}")]
    Media(#[from] tokio::task::JoinError),
}

impl AttemptError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Server(error) => error.verdict(),
            Self::Nothing => Verdict::Retry(None),
            Self::Answer { .. } | Self::Offer(_) | Self::Media(_) => Verdict::Final,
        }
    }
}

/// Whether a client has been stopped.
#[derive(Clone)]
pub(crate) struct Stop {
    stopped: watch::Receiver<bool>,
    /// Kept until the last word to the server is said.
    alive: mpsc::Sender<()>,
}

impl Stop {
    /// Returns when it is.
    pub(crate) async fn requested(&mut self) {
        let _ = self.stopped.wait_for(|stop| *stop).await;
    }

    /// Posts an offer by `post`; `None` if it was stopped meanwhile. Once the offer is on its way the server may have made a
    /// session of it: then its reply is waited for, beside everything else, and the session ended where it says that this is.
    pub(crate) async fn posting<R: Send + 'static>(
        &mut self,
        post: impl Future<Output = Result<R, ClientError>> + Send + 'static,
        resource: impl Fn(&R) -> &Resource + Send + Sync + 'static,
    ) -> Result<Option<R>, AttemptError> {
        let mut posting = tokio::spawn(post);
        tokio::select! {
            reply = &mut posting => Ok(Some(reply??)),
            () = self.requested() => {
                let alive = self.alive.clone();
                // With nothing of ours in it, so that ports are free while it goes on.
                tokio::spawn(async move {
                    if let Ok(Ok(reply)) = posting.await {
                        let resource = resource(&reply).clone();
                        goodbye(&resource).await;
                    }
                    drop(alive);
                });
                Ok(None)
            }
        }
    }
}

/// A running client.
pub(crate) struct Client {
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
    restarts: AtomicU64,
}

/// What a client has done so far.
pub(crate) struct Counts {
    /// The server was called.
    pub(crate) attempts: u64,
    /// A session came of it.
    pub(crate) sessions: u64,
    /// ICE was restarted.
    pub(crate) restarts: u64,
}

const LOST: &str = "the connection to the server was lost, or the server has ended it";

/// How long stopping waits for the server to be told, which takes three round trips with TLS.
const GOODBYE: Duration = Duration::from_secs(1);

impl Client {
    /// Starts calling.
    pub(crate) fn start(http: &Handle, parts: Parts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (alive, gone) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let url = parts.url.clone();
        let stop_seen = Stop { stopped, alive };
        http.spawn(Task { parts, shared: shared.clone() }.run(stop_seen));
        Self { url, stop, gone: Mutex::new(gone), shared }
    }

    /// Where it calls, without the query.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The session that is there.
    pub(crate) fn current(&self) -> Option<Session> {
        self.shared.current()
    }

    /// How often what was done.
    pub(crate) fn counts(&self) -> Counts {
        let Shared { attempts, sessions, restarts, .. } = &*self.shared;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        Counts { attempts: count(attempts), sessions: count(sessions), restarts: count(restarts) }
    }

    /// Ends the session and calls no more. Does not wait.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits a moment for the session's end, and for the server to be told.
    pub(crate) fn wait(&self) {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let _: Result<(), _> = gone.recv_timeout(2 * GOODBYE);
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

struct Task {
    parts: Parts,
    shared: Arc<Shared>,
}

impl Task {
    async fn run(mut self, mut stopped: Stop) {
        let mut reconnect = Reconnect::new(self.parts.eos);
        loop {
            self.parts.notices.state(State::Connecting).await;
            self.shared.attempts.fetch_add(1, Relaxed);
            let (outcome, reason) = match self.parts.calls.attempt(stopped.clone()).await {
                Ok(None) => break,
                Ok(Some((session, resource))) => {
                    let outcome = Box::pin(self.watch(&session, &resource, &mut stopped)).await;
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
                    self.parts.notices.state(State::Retrying { reason, after }).await;
                    tokio::select! {
                        () = tokio::time::sleep(after) => {}
                        () = stopped.requested() => break,
                    }
                }
                Next::End => {
                    self.parts.notices.state(State::Stopped { reason }).await;
                    self.parts.calls.over();
                    return;
                }
                Next::Fail => {
                    self.parts.notices.state(State::Refused { reason }).await;
                    return;
                }
            }
        }
        self.parts.notices.state(State::Stopped { reason: "it was stopped here".into() }).await;
    }

    /// Keeps a session up until it ends; `None` if we are the ones who end it.
    async fn watch(&mut self, session: &Session, resource: &Resource, stopped: &mut Stop) -> Option<(Outcome, String)> {
        self.shared.set_current(Some(session.clone()));
        self.shared.sessions.fetch_add(1, Relaxed);
        let mut states = session.states();
        let (mut was_connected, mut is_told) = (false, false);
        let mut upkeep = Upkeep::new(Instant::now());
        let mut asking: Option<Asking> = None;
        let reason = loop {
            let state = *states.borrow_and_update();
            self.parts.calls.state_changed(state);
            if state == ConnectionState::Connected && !is_told {
                (was_connected, is_told) = (true, true);
                self.parts.notices.state(State::Live).await;
            }
            if state.is_over() {
                break match was_connected {
                    true => LOST,
                    false => "no media connection to the server came about: UDP may be blocked on the way",
                };
            }
            upkeep.state(state, Instant::now());
            let due = upkeep.next().filter(|_| asking.is_none());
            tokio::select! {
                changed = states.changed() => if changed.is_err() { break LOST },
                () = stopped.requested() => return None,
                (request, outcome) = ended(&mut asking) => {
                    asking = None;
                    upkeep.asked(request, outcome, Instant::now(), rand::random());
                    // One that only takes no candidates may say so in this way as well, and media goes on.
                    if (request, outcome) == (Request::Restart, upkeep::Outcome::Over) {
                        break "the server has no such session any more";
                    }
                    if outcome == upkeep::Outcome::Restarted {
                        self.shared.restarts.fetch_add(1, Relaxed);
                        is_told = false;
                        self.parts.notices.state(State::Connecting).await;
                    }
                }
                request = at(due) => {
                    let asked = upkeep::ask(request, session.clone(), resource.clone());
                    asking = Some(Box::pin(async move { (request, asked.await) }));
                }
            }
        };
        Some((
            Outcome::Ended { had_media: self.parts.calls.had_media(session) },
            format!("{}: {reason}", self.parts.url),
        ))
    }

    /// Ends a session here and at the server.
    async fn hang_up(&self, session: Session, resource: Resource) {
        self.shared.set_current(None);
        // First here: what was said last by data channels would be cut off by the server's end of it.
        let _ = self.parts.media.spawn(async move { session.close(EndReason::Shutdown).await }).await;
        goodbye(&resource).await;
    }
}

async fn at(due: Option<(Instant, Request)>) -> Request {
    match due {
        Some((at, request)) => {
            tokio::time::sleep_until(at.into()).await;
            request
        }
        None => std::future::pending().await,
    }
}

/// A request under way: what is asked, and what comes of it.
type Asking = Pin<Box<dyn Future<Output = (Request, upkeep::Outcome)> + Send>>;

/// The end of what is being asked, if anything is.
async fn ended(asking: &mut Option<Asking>) -> (Request, upkeep::Outcome) {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

/// Tells the server that it is over, which helps it to forget us early; more than trying is not worth it.
pub(crate) async fn goodbye(resource: &Resource) {
    match tokio::time::timeout(GOODBYE, resource.delete()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!("the server was not told of the session's end: {error}"),
        Err(_) => debug!("the server did not answer to the session's end"),
    }
}
