//! A destination's task: connects, watches, waits and connects again.
//!
//! The tasks of all destinations share one thread, on which nothing waits: what is reported goes through `news`.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Config, Decision, Failure, Location, Retry, State, Watchdog,
    destination::{Reports, Status},
    feed::Feed,
    news::News,
};
use crate::{
    backoff::Backoff,
    rtmp_client::{self, Connection, Target},
};

/// EOS has to get through within 3 s whatever the server does; this leaves a second for a goodbye and the rest of the pipeline.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Goodbye to a server that is no longer wanted.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// How often to look whether a connection is stalled: often while something waits for it.
const TICK_WAITING: Duration = Duration::from_millis(250);
const TICK_IDLE: Duration = Duration::from_secs(1);

/// What the worker is told by the element.
#[derive(Debug)]
pub(super) enum Event {
    Media,
    Ending,
    Ended,
    Leave,
    Stop,
}

/// Why the worker leaves what it is doing.
enum Exit {
    Stop,
    Finish,
    Leave,
}

pub(super) struct Worker {
    location: Location,
    config: Config,
    retry: Retry,
    pub(super) feed: Arc<Feed>,
    pub(super) status: Arc<Mutex<Status>>,
    /// Bytes of media that servers' sockets took.
    pub(super) written: Arc<AtomicU64>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    news: News,
    has_media: bool,
    end_by: Option<Instant>,
    ended: bool,
}

impl Worker {
    /// `was_live`: the server has taken this stream before.
    pub(super) fn new(location: Location, was_live: bool, config: Config, news: News) -> Self {
        let feed = Arc::new(Feed::new(i64::try_from(config.max_queue.as_nanos()).unwrap_or(i64::MAX)));
        let status = Status { url: location.to_string(), was_live, ..Status::default() };
        let status = Arc::new(Mutex::new(status));
        // Holds what an element does to a destination in its life, and that it does once.
        let (events, inbox) = mpsc::unbounded_channel();
        let backoff = Backoff::new(config.reconnect_min, config.reconnect_max);
        let retry = Retry::new(backoff, config.max_retries, was_live);
        Self {
            location,
            config,
            retry,
            feed,
            status,
            written: Arc::default(),
            events,
            inbox,
            news,
            has_media: false,
            end_by: None,
            ended: false,
        }
    }

    pub(super) async fn run(mut self) {
        let Err(exit) = self.keep_connected().await;
        self.feed.close();
        match exit {
            Exit::Finish => {
                self.enter(State::Stopped, "end of stream").await;
                self.tell(|reports, _| reports.finished()).await;
            }
            Exit::Leave => self.enter(State::Stopped, "taken away").await,
            Exit::Stop => self.update(|status| status.state = State::Stopped),
        }
    }

    async fn keep_connected(&mut self) -> Result<Infallible, Exit> {
        while !self.has_media {
            if self.ended {
                return Err(Exit::Finish);
            }
            self.receive(self.end_by).await?;
        }
        loop {
            self.enter(State::Connecting, "").await;
            let (failure, live_for) = self.attempt().await?;
            if self.end_by.is_some() {
                return Err(Exit::Finish);
            }
            self.update(|status| {
                *status.failures.entry(failure.kind()).or_default() += 1;
                status.last_failure = Some(failure.to_string());
            });
            match self.retry.decide(&failure, live_for, Instant::now(), rand::random()) {
                Decision::Retry(after) => {
                    self.enter(State::Retrying, &failure.to_string()).await;
                    if self.retry.is_first() {
                        self.tell(move |reports, location| reports.failed(location, &failure)).await;
                    }
                    self.wait(after).await?;
                    self.update(|status| status.reconnects += 1);
                }
                Decision::Refused => return self.give_up(State::Refused, failure).await,
                Decision::GiveUp => return self.give_up(State::Stopped, failure).await,
            }
        }
    }

    /// One connection, from its start to its failure; with how long it was live.
    async fn attempt(&mut self) -> Result<(Failure, Option<Duration>), Exit> {
        let mut connection = match self.connect().await? {
            Ok(connection) => connection,
            Err(failure) => return Ok((failure, None)),
        };
        let live_since = Instant::now();
        self.update(|status| status.was_live = true);
        // Media first: a keyframe waits here, and nothing else can go wrong with it while others are told.
        let needs_keyframe = self.feed.connect(connection.sender(), live_since);
        self.enter(State::Live, "").await;
        if needs_keyframe {
            self.tell(|reports, _| reports.needs_keyframe()).await;
        }
        let result = self.serve(&mut connection, live_since).await;
        self.feed.disconnect();
        match result {
            Ok(failure) => Ok((failure, Some(live_since.elapsed()))),
            Err(exit) => {
                match exit {
                    Exit::Leave => self.leave(&mut connection).await,
                    // What would come last hangs in an encoder. The server can hear that it is over all the same.
                    Exit::Finish if !self.ended => {
                        let _ = tokio::time::timeout(LEAVE_WITHIN, connection.finish()).await;
                    }
                    Exit::Finish | Exit::Stop => {}
                }
                Err(exit)
            }
        }
    }

    async fn connect(&mut self) -> Result<Result<Connection, Failure>, Exit> {
        let Location { tls, host, port, application, stream, credentials } = self.location.clone();
        let target = Target {
            tls,
            tls_validation_flags: self.config.tls_validation_flags,
            host,
            port,
            application,
            stream,
            credentials,
            codecs: self.feed.codecs(),
            written: self.written.clone(),
        };
        let until = Instant::now() + self.config.connect_timeout;
        let mut opening = Box::pin(rtmp_client::open(target));
        loop {
            tokio::select! {
                opened = &mut opening => {
                    return Ok(opened.map_err(|error| Failure::of(&error, false, &self.location)));
                }
                received = self.receive(Some(until)) => received?,
            }
            if Instant::now() >= until {
                return Ok(Err(Failure::ConnectTimeout));
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection, live_since: Instant) -> Result<Failure, Exit> {
        let sender = connection.sender();
        let mut watchdog = Watchdog::new(self.config.stall_timeout, live_since);
        let mut flushed = false;
        loop {
            let now = Instant::now();
            let waiting = sender.has_queued();
            if watchdog.is_stalled(self.written.load(Ordering::Relaxed), waiting, now) {
                return Ok(Failure::Stalled);
            }
            let tick = if waiting { TICK_WAITING } else { TICK_IDLE };
            if self.ended {
                if !std::mem::replace(&mut flushed, true) {
                    self.feed.flush();
                }
                tokio::select! {
                    finished = connection.finish() => return match finished {
                        Ok(()) => Err(Exit::Finish),
                        Err(error) => Ok(Failure::of(&error, true, &self.location)),
                    },
                    received = self.receive(Some(now + tick)) => received?,
                }
            } else {
                tokio::select! {
                    error = connection.run() => return Ok(Failure::of(&error, true, &self.location)),
                    received = self.receive(Some(now + tick)) => received?,
                }
            }
        }
    }

    /// Says goodbye to a server that is no longer wanted.
    async fn leave(&mut self, connection: &mut Connection) {
        let goodbye = tokio::time::timeout(LEAVE_WITHIN, connection.finish());
        tokio::pin!(goodbye);
        loop {
            tokio::select! {
                _ = &mut goodbye => return,
                // Everything stops, or ends: either way there is no time left.
                received = self.receive(None) => if received.is_err() { return },
            }
        }
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Exit> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.end_by.is_some() {
                return Err(Exit::Finish); // nobody is there to hear the end
            }
            self.receive(Some(until)).await?;
        }
        Ok(())
    }

    /// Stays until the element stops or ends, or the destination is taken away.
    async fn give_up(&mut self, state: State, failure: Failure) -> Result<Infallible, Exit> {
        self.feed.close();
        self.enter(state, &failure.to_string()).await;
        let first = self.retry.is_first();
        self.tell(move |reports, location| reports.gave_up(location, &failure, first)).await;
        loop {
            if self.end_by.is_some() {
                return Err(Exit::Finish);
            }
            self.receive(None).await?;
        }
    }

    /// Takes the next event. Returns after every event that only changed our fields, and at `until`; the end has its own
    /// time.
    async fn receive(&mut self, until: Option<Instant>) -> Result<(), Exit> {
        let until = until.into_iter().chain(self.end_by).min();
        let event = match until {
            None => self.inbox.recv().await,
            Some(until) => match tokio::time::timeout_at(until.into(), self.inbox.recv()).await {
                Ok(event) => event,
                Err(_) => {
                    let late = self.end_by.is_some_and(|end_by| Instant::now() >= end_by);
                    return if late { Err(Exit::Finish) } else { Ok(()) };
                }
            },
        };
        match event {
            Some(Event::Media) => self.has_media = true,
            Some(Event::Ending) => self.end_by = self.end_by.or(Some(Instant::now() + END_WITHIN)),
            Some(Event::Ended) => {
                self.end_by = self.end_by.or(Some(Instant::now() + END_WITHIN));
                self.ended = true;
            }
            Some(Event::Leave) => return Err(Exit::Leave),
            Some(Event::Stop) | None => return Err(Exit::Stop),
        }
        Ok(())
    }

    async fn enter(&self, state: State, reason: &str) {
        self.update(|status| status.state = state);
        let reason = reason.to_owned();
        self.tell(move |reports, location| reports.state_changed(location, state, &reason)).await;
    }

    async fn tell(&self, what: impl FnOnce(&dyn Reports, &Location) + Send + 'static) {
        let location = self.location.clone();
        self.news.tell(move |reports| what(reports, &location)).await;
    }

    fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
