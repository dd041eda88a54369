//! A call to another peer through a signaling server: what `uri=ws://…` is, and [`WebRtcServer::run_with_signaling`].
//!
//! ```text
//!   webrtcingest ─┐                                  ┌─ patience: when to try again, when it is over
//!                 ├─ seats ─▶ Call ─▶ task ─▶ stay ─┼─ meeting:  whom we talk to, who offers
//!   webrtcegress ─┘            │                     └─ talk:     the connection ─▶ Session
//!                              ╰─ Peer: who takes what comes, and who sends
//! ```
//!
//! Elements of one pipeline that name the same URL share the call. It begins when the pipeline plays: by then all of them
//! have started. It ends with the first of them that stops.
//!
//! [`WebRtcServer::run_with_signaling`]: super::WebRtcServer::run_with_signaling

mod meeting;
mod patience;
mod run;
mod seats;
mod stay;
mod talk;
mod task;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch};

use super::Peer;
use crate::{
    session::{CodecPreferences, SessionConfig},
    signaling::client::socket::SocketConfig,
};

pub(super) use self::run::run;
pub use self::{run::RunError, seats::Seat};

/// How a call is made.
#[derive(Clone)]
pub struct CallConfig {
    /// Where the other peer is to be found.
    pub socket: SocketConfig,
    /// What the connection is made of; its codecs are those that `codecs` tells.
    pub session: SessionConfig,
    /// What can be received just now. Asked on a thread that may wait.
    pub codecs: Arc<dyn Fn() -> CodecPreferences + Send + Sync>,
    /// Whether the other peer's end is the end of the stream.
    pub ends: bool,
    /// Runs connections.
    pub media: Handle,
    /// Runs all else.
    pub http: Handle,
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    /// The server is called.
    Connecting,
    /// In the channel; the other peer has not come, or has gone.
    Waiting,
    /// Media can flow.
    Live,
    /// Something went wrong that may go away.
    Retrying {
        /// What.
        reason: String,
        /// When it is tried again.
        after: Duration,
    },
    /// Something went wrong that somebody has to change. Nothing more will be tried.
    Refused {
        /// What.
        reason: String,
    },
    /// It is over.
    Stopped {
        /// Why.
        reason: String,
    },
}

impl CallState {
    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Live => "live",
            Self::Retrying { .. } => "retrying",
            Self::Refused { .. } => "refused",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// What went wrong, or why it is over.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Connecting | Self::Waiting | Self::Live => None,
            Self::Retrying { reason, .. } | Self::Refused { reason } | Self::Stopped { reason } => Some(reason),
        }
    }
}

/// Hears how a call stands. Called on a thread that may wait.
pub trait CallObserver: Send + Sync + 'static {
    /// It has changed.
    fn changed(&self, state: &CallState);
}

/// What a call has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// The server was called.
    pub attempts: u64,
    /// A connection came of it.
    pub sessions: u64,
}

/// A call. Dropping it ends it.
pub(super) struct Call {
    peer: Peer,
    url: String,
    /// Who has asked for it to begin, and to stop.
    orders: watch::Sender<Orders>,
    /// Disconnected when the task has ended.
    gone: Mutex<mpsc::Receiver<()>>,
    counters: Arc<Counters>,
    observers: Arc<Mutex<Vec<Arc<dyn CallObserver>>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    begin: bool,
    stop: bool,
}

#[derive(Default)]
struct Counters {
    attempts: AtomicU64,
    sessions: AtomicU64,
}

/// How long stopping waits for the server and the other peer to be told.
const GOODBYE: Duration = Duration::from_secs(1);

impl Call {
    /// Waits for the order to begin. The error says which setting is wrong.
    pub(super) fn new(peer: Peer, config: Arc<Mutex<CallConfig>>) -> Result<Self, String> {
        let (http, url, client) = {
            let config = config.lock().unwrap_or_else(PoisonError::into_inner);
            let client = crate::signaling::client::socket::SocketClient::new(&config.socket)?;
            (config.http.clone(), config.socket.url.to_string(), client)
        };
        let (orders, told) = watch::channel(Orders::default());
        let (alive, gone) = mpsc::channel();
        let counters = Arc::<Counters>::default();
        let observers = Arc::<Mutex<Vec<Arc<dyn CallObserver>>>>::default();
        let task = task::Task {
            client,
            config,
            peer: peer.clone(),
            url: url.clone(),
            counters: counters.clone(),
            observers: observers.clone(),
            _alive: alive,
        };
        http.spawn(task.run(told));
        Ok(Self { peer, url, orders, gone: Mutex::new(gone), counters, observers })
    }

    pub(super) fn observe(&self, observer: Arc<dyn CallObserver>) {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// Everybody who has part in it is there.
    pub(super) fn begin(&self) {
        self.orders.send_modify(|orders| orders.begin = true);
    }

    /// Ends it. Does not wait.
    pub(super) fn stop(&self) {
        self.orders.send_modify(|orders| orders.stop = true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.orders.borrow().stop
    }

    /// Waits a moment for the connection's end and the goodbyes.
    pub(super) fn wait(&self) {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let _: Result<(), _> = gone.recv_timeout(2 * GOODBYE);
    }

    pub(super) fn counts(&self) -> CallCounts {
        let Counters { attempts, sessions } = &*self.counters;
        CallCounts { attempts: attempts.load(Relaxed), sessions: sessions.load(Relaxed) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.stop();
    }
}
