//! One destination's handle: starts its task, feeds it, and ends it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Failure, Location, Track, Tracks, Unit,
    feed::{Feed, Taken},
    news::{self, Reporter},
    worker::{Event, Worker},
};
use crate::runtime;

/// How destinations behave. Resolved once, when the element starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// How far apart keyframes should be; one is asked for when they are further.
    pub keyframe_interval: Duration,
    /// How far the connection may lag.
    pub max_queue: Duration,
    /// First delay before a retry.
    pub reconnect_min: Duration,
    /// Longest delay before a retry.
    pub reconnect_max: Duration,
    /// Retries in one outage; `None`: no limit.
    pub max_retries: Option<u32>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long data may wait with no byte leaving.
    pub stall_timeout: Duration,
    /// GTlsCertificateFlags.
    pub tls_validation_flags: u32,
}

/// Where a destination stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not started, or done.
    #[default]
    Stopped,
    /// On its way to the server.
    Connecting,
    /// The server has accepted the stream.
    Live,
    /// Waiting for the next attempt.
    Retrying,
    /// The server said no for good.
    Refused,
}

impl State {
    /// As messages and stats write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Retrying => "retrying",
            Self::Refused => "refused",
        }
    }
}

/// Is told what one destination does, in its order, by threads that may wait, never under a lock.
pub(super) trait Reports: Send + Sync + 'static {
    /// The state changed.
    fn state_changed(&self, location: &Location, state: State, reason: &str);
    /// The first failure of an outage; attempts go on.
    fn failed(&self, location: &Location, failure: &Failure);
    /// No more attempts; `first`: no failure of this outage has been told before.
    fn gave_up(&self, location: &Location, failure: &Failure, first: bool);
    /// The end of the stream has been sent, or cannot be.
    fn finished(&self);
    /// The server needs a keyframe.
    fn needs_keyframe(&self);
}

/// What a destination has done so far.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Redacted URL.
    pub url: String,
    /// Where it stands.
    pub state: State,
    /// Bytes written to servers.
    pub bytes: u64,
    /// Units sent.
    pub frames: u64,
    /// Units left out.
    pub dropped: u64,
    /// Connections begun after a failure.
    pub reconnects: u32,
    /// How long the oldest queued unit has been waiting.
    pub lag: Duration,
    /// How often it failed, by [`Failure::kind`].
    pub failures: BTreeMap<&'static str, u64>,
    /// Why it failed last, in words; nothing secret in them.
    pub last_failure: Option<String>,
}

/// The part of the stats that the worker writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub(super) url: String,
    pub(super) state: State,
    pub(super) reconnects: u32,
    pub(super) was_live: bool,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) last_failure: Option<String>,
}

/// A running destination: a task, which dropping it ends.
pub(super) struct Destination {
    location: Location,
    feed: Arc<Feed>,
    status: Arc<Mutex<Status>>,
    written: Arc<AtomicU64>,
    events: mpsc::UnboundedSender<Event>,
    has_media: AtomicBool,
    reporter: Reporter,
}

impl Destination {
    /// Starts a destination. It connects when the first unit comes: servers drop publishers that send nothing.
    /// `was_live`: the server has taken this stream before.
    pub(super) fn start(
        location: Location,
        was_live: bool,
        config: Config,
        reports: Arc<dyn Reports>,
    ) -> std::io::Result<Self> {
        let handle = runtime::rtmp()?;
        let (news, reporter) = news::start(handle, reports);
        let worker = Worker::new(location.clone(), was_live, config, news);
        let (feed, status, events) = (worker.feed.clone(), worker.status.clone(), worker.events.clone());
        let written = worker.written.clone();
        handle.spawn(worker.run());
        Ok(Self { location, feed, status, written, events, has_media: AtomicBool::new(false), reporter })
    }

    /// Where to.
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    /// Which tracks to expect.
    pub(super) fn set_tracks(&self, tracks: Tracks) {
        self.feed.set_tracks(tracks);
    }

    /// A track has left: metadata names it no more until it comes back.
    pub(super) fn forget(&self, track: Track) {
        self.feed.forget(track);
    }

    /// Takes a unit. Never waits.
    pub(super) fn push(&self, unit: Unit, now: Instant) -> Taken {
        if !self.has_media.swap(true, Ordering::Relaxed) {
            self.tell(Event::Media);
        }
        self.feed.push(unit, now)
    }

    /// It is not wanted any more: says goodbye to the server and ends.
    pub(super) fn leave(&self) {
        self.feed.close();
        self.tell(Event::Leave);
    }

    /// All input has seen its end. `Reports::finished` follows within two seconds, whatever the server does.
    pub(super) fn ending(&self) {
        self.tell(Event::Ending);
    }

    /// Every unit has been pushed; nothing more comes.
    pub(super) fn ended(&self) {
        self.tell(Event::Ended);
    }

    /// Ends without a goodbye, and says nothing more. Dropping it does so too, and waits.
    pub(super) fn stop(&self) {
        self.reporter.silence();
        self.tell(Event::Stop);
    }

    /// Whether its task has ended.
    pub(super) fn is_over(&self) -> bool {
        self.reporter.is_done()
    }

    /// Whether the server has ever taken the stream.
    pub(super) fn was_live(&self) -> bool {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).was_live
    }

    /// What it has done so far.
    pub(super) fn stats(&self) -> Stats {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Status { url, state, reconnects, failures, last_failure, .. } = status;
        let bytes = self.written.load(Ordering::Relaxed);
        let counts = self.feed.counts();
        let lag = Duration::from_nanos(self.feed.lag_ns().max(0).unsigned_abs());
        let (frames, dropped) = (counts.frames, counts.dropped);
        Stats { url, state, bytes, frames, dropped, reconnects, lag, failures, last_failure }
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send(event); // fails only when the worker is done, and then it has said so
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stop(); // and the reporter's own drop waits
    }
}
