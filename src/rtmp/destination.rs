//! One destination's handle: starts its thread, feeds it, and ends it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Failure, Location, Track, Tracks, Unit,
    feed::{Feed, Taken},
    worker::{Event, Worker},
};

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

/// The clock that the inner pipeline shares with the one around the element.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The clock.
    pub clock: gst::Clock,
    /// The base time.
    pub base_time: gst::ClockTime,
}

/// Is told what one destination does, by its thread, never under a lock.
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
    /// The clock to share, once there is one.
    fn timing(&self) -> Option<Timing>;
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
}

/// The part of the stats that the worker writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub(super) url: String,
    pub(super) state: State,
    pub(super) bytes: u64,
    pub(super) reconnects: u32,
    pub(super) was_live: bool,
}

/// A running destination: one thread, which dropping it ends.
pub(super) struct Destination {
    location: Location,
    feed: Arc<Feed>,
    status: Arc<Mutex<Status>>,
    events: mpsc::Sender<Event>,
    has_media: AtomicBool,
    worker: Option<thread::JoinHandle<()>>,
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
        let worker = Worker::new(location.clone(), was_live, config, reports);
        let (feed, status, events) = (worker.feed.clone(), worker.status.clone(), worker.events.clone());
        let worker = thread::Builder::new().name("rtmpbridgesink".into()).spawn(move || worker.run())?;
        Ok(Self { location, feed, status, events, has_media: AtomicBool::new(false), worker: Some(worker) })
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

    /// Ends without a goodbye. Dropping it does so too, and waits.
    pub(super) fn stop(&self) {
        self.tell(Event::Stop);
    }

    /// Whether its thread has ended.
    pub(super) fn is_over(&self) -> bool {
        self.worker.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// Whether the server has ever taken the stream.
    pub(super) fn was_live(&self) -> bool {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).was_live
    }

    /// What it has done so far.
    pub(super) fn stats(&self) -> Stats {
        let Status { url, state, bytes, reconnects, .. } =
            self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counts = self.feed.counts();
        let lag = Duration::from_nanos(self.feed.lag_ns().max(0).unsigned_abs());
        Stats { url, state, bytes, frames: counts.frames, dropped: counts.dropped, reconnects, lag }
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send(event); // fails only when the worker is done, and then it has said so
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stop();
        // An application may stop its pipeline from a message handler that runs on the worker: it cannot join itself.
        if let Some(worker) = self.worker.take().filter(|worker| worker.thread().id() != thread::current().id()) {
            let _ = worker.join();
        }
    }
}
