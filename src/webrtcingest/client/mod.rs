//! The element as a WHEP client: one session after the other from one server, until it is stopped or the stream is over.
//!
//! A task on the HTTP runtime; everything of a session runs on the media runtime. How a session is made is in `attempt`,
//! what the server is asked while it is there in `upkeep`; when to try again is `reconnect`'s decision, what the user is
//! told `bridge`'s notices'.

mod attempt;
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

use tokio::{runtime::Handle, sync::watch};

use self::{
    attempt::attempt,
    reconnect::{Next, Outcome, Reconnect},
    upkeep::{Request, Upkeep},
};
use crate::{
    bridge::{CallState as State, Notices},
    rtp::Crossing,
    session::{ConnectionState, EndReason, Session, SessionConfig},
    signaling::client::{Resource, WhepClient},
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
    restarts: AtomicU64,
}

/// What a client has done so far.
pub(super) struct Counts {
    /// The server was called.
    pub(super) attempts: u64,
    /// A session came of it.
    pub(super) sessions: u64,
    /// ICE was restarted.
    pub(super) restarts: u64,
}

const LOST: &str = "the connection to the server was lost, or the server has ended it";

/// How long stopping waits for the server to be told, which takes three round trips with TLS.
const GOODBYE: Duration = Duration::from_secs(1);

impl Client {
    /// Starts calling.
    pub(super) fn start(http: &Handle, parts: Parts) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (alive, gone) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let url = parts.url.clone();
        let notices = Notices::new(parts.element.upgrade(), url.clone());
        http.spawn(Task { parts, shared: shared.clone(), notices, alive }.run(stopped));
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

    /// How often what was done.
    pub(super) fn counts(&self) -> Counts {
        let Shared { attempts, sessions, restarts, .. } = &*self.shared;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        Counts { attempts: count(attempts), sessions: count(sessions), restarts: count(restarts) }
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

struct Task {
    parts: Parts,
    shared: Arc<Shared>,
    notices: Notices,
    /// Dropped when the last word to the server is said.
    alive: mpsc::Sender<()>,
}

impl Task {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut reconnect = Reconnect::new(self.parts.eos);
        loop {
            self.notices.state(State::Connecting).await;
            self.shared.attempts.fetch_add(1, Relaxed);
            let (outcome, reason) = match Box::pin(attempt(&self.parts, &mut stopped, &self.alive)).await {
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
                    self.notices.state(State::Retrying { reason, after }).await;
                    tokio::select! {
                        () = tokio::time::sleep(after) => {}
                        () = stop(&mut stopped) => break,
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

    /// Keeps a session up until it ends; `None` if we are the ones who end it.
    async fn watch(
        &mut self,
        session: &Session,
        resource: &Resource,
        stopped: &mut watch::Receiver<bool>,
    ) -> Option<(Outcome, String)> {
        self.shared.set_current(Some(session.clone()));
        self.shared.sessions.fetch_add(1, Relaxed);
        let mut states = session.states();
        let (mut was_connected, mut is_told) = (false, false);
        let mut upkeep = Upkeep::new(Instant::now());
        let mut asking: Option<Asking> = None;
        let reason = loop {
            let state = *states.borrow_and_update();
            if state == ConnectionState::Connected && !is_told {
                (was_connected, is_told) = (true, true);
                self.notices.state(State::Live).await;
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
                () = stop(stopped) => return None,
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
                        self.notices.state(State::Connecting).await;
                    }
                }
                request = at(due) => {
                    let asked = upkeep::ask(request, session.clone(), resource.clone());
                    asking = Some(Box::pin(async move { (request, asked.await) }));
                }
            }
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

/// Waits until the client is stopped.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
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
async fn goodbye(resource: &Resource) {
    match tokio::time::timeout(GOODBYE, resource.delete()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => gst::debug!(super::imp::CAT, "the server was not told of the session's end: {error}"),
        Err(_) => gst::debug!(super::imp::CAT, "the server did not answer to the session's end"),
    }
}
