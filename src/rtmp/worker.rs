//! A destination's one thread: connects, watches, waits and connects again.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use super::{
    Config, Decision, Failure, Location, Retry, State, Watchdog,
    connection::{Connection, Target},
    destination::{Reports, Status},
    feed::Feed,
};
use crate::backoff::Backoff;

/// EOS has to get through within 3 s whatever the server does; this leaves a second for the rest of the pipeline.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Goodbye to a server that is no longer wanted.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// How often to look at rtmp2sink's byte count: often while that tells of the connection coming up, or of the last bytes.
const TICK_FAST: Duration = Duration::from_millis(10);
const TICK_SLOW: Duration = Duration::from_millis(250);

/// What the worker is told, by the element and by connections.
#[derive(Debug)]
pub(super) enum Event {
    Media,
    Ending,
    Ended,
    Leave,
    Stop,
    Failed { generation: u64, text: String },
    Drained { generation: u64 },
}

/// Why the worker leaves what it is doing.
enum Exit {
    Stop,
    Finish,
    Leave,
}

/// What a connection says.
enum Word {
    Failed(String),
    Drained,
}

pub(super) struct Worker {
    location: Location,
    config: Config,
    retry: Retry,
    pub(super) feed: Arc<Feed>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) events: mpsc::Sender<Event>,
    reports: Arc<dyn Reports>,
    inbox: mpsc::Receiver<Event>,
    generation: u64,
    has_media: bool,
    end_by: Option<Instant>,
    ended: bool,
}

impl Worker {
    /// `was_live`: the server has taken this stream before.
    pub(super) fn new(location: Location, was_live: bool, config: Config, reports: Arc<dyn Reports>) -> Self {
        let feed = Arc::new(Feed::new(i64::try_from(config.max_queue.as_nanos()).unwrap_or(i64::MAX)));
        let status = Status { url: location.to_string(), was_live, ..Status::default() };
        let status = Arc::new(Mutex::new(status));
        let (events, inbox) = mpsc::channel();
        let backoff = Backoff::new(config.reconnect_min, config.reconnect_max);
        let retry = Retry::new(backoff, config.max_retries, was_live);
        Self {
            location,
            config,
            retry,
            feed,
            status,
            reports,
            events,
            inbox,
            generation: 0,
            has_media: false,
            end_by: None,
            ended: false,
        }
    }

    pub(super) fn run(mut self) {
        let Err(exit) = self.keep_connected();
        self.feed.close();
        match exit {
            Exit::Finish => {
                self.enter(State::Stopped, "end of stream");
                self.reports.finished();
            }
            Exit::Leave => self.enter(State::Stopped, "taken away"),
            Exit::Stop => self.update(|status| status.state = State::Stopped),
        }
    }

    fn keep_connected(&mut self) -> Result<Infallible, Exit> {
        while !self.has_media {
            if self.ended {
                return Err(Exit::Finish);
            }
            self.receive(self.end_by)?;
        }
        loop {
            self.enter(State::Connecting, "");
            let (failure, live_for) = self.attempt()?;
            if self.end_by.is_some() {
                return Err(Exit::Finish);
            }
            match self.retry.decide(&failure, live_for, Instant::now(), rand::random()) {
                Decision::Retry(after) => {
                    self.enter(State::Retrying, &failure.to_string());
                    if self.retry.is_first() {
                        self.reports.failed(&self.location, &failure);
                    }
                    self.wait(after)?;
                    self.update(|status| status.reconnects += 1);
                }
                Decision::Refused => return self.give_up(State::Refused, &failure),
                Decision::GiveUp => return self.give_up(State::Stopped, &failure),
            }
        }
    }

    /// One connection, from its start to its failure; with how long it was live.
    fn attempt(&mut self) -> Result<(Failure, Option<Duration>), Exit> {
        self.generation += 1;
        let target = Target {
            location: &self.location,
            tls_validation_flags: self.config.tls_validation_flags,
            // Ours fire first; this one is for the parts of connecting that only rtmp2sink sees.
            socket_timeout: self.config.connect_timeout.max(self.config.stall_timeout) + Duration::from_secs(1),
            timing: self.reports.timing(),
        };
        let connection = match Connection::open(target, self.events.clone(), self.generation) {
            Ok(connection) => Arc::new(connection),
            Err(error) => return Ok((Failure::Other(error.message.to_string()), None)),
        };
        let bytes_before = self.update(|status| status.bytes);
        let result = self.serve(&connection, bytes_before);
        self.feed.disconnect();
        if let Err(Exit::Leave) = result {
            self.leave(&connection);
        }
        let bytes = connection.bytes();
        self.update(|status| status.bytes = status.bytes.max(bytes_before + bytes));
        result
    }

    fn serve(&mut self, connection: &Arc<Connection>, bytes_before: u64) -> Result<(Failure, Option<Duration>), Exit> {
        let started = Instant::now();
        let mut live_since = None;
        let mut end_sent = false;
        let mut watchdog = Watchdog::new(self.config.stall_timeout, started);
        let failure = loop {
            let now = Instant::now();
            let bytes = connection.bytes();
            if live_since.is_some() {
                if watchdog.is_stalled(bytes, connection.has_queued(), now) {
                    break Failure::Stalled;
                }
            } else if bytes > 0 {
                live_since = Some(now);
                watchdog = Watchdog::new(self.config.stall_timeout, now);
                self.update(|status| status.was_live = true);
                self.enter(State::Live, "");
                if self.feed.connect(connection.clone(), now) {
                    self.reports.needs_keyframe();
                }
            } else if now.duration_since(started) >= self.config.connect_timeout {
                break Failure::ConnectTimeout;
            }
            if live_since.is_some() {
                self.update(|status| status.bytes = bytes_before + bytes);
                if self.ended && !std::mem::replace(&mut end_sent, true) {
                    self.feed.flush();
                    connection.end();
                }
            }
            let tick = if live_since.is_none() || self.end_by.is_some() { TICK_FAST } else { TICK_SLOW };
            match self.receive(Some(now + tick))? {
                Some(Word::Failed(text)) => {
                    break Failure::read(&self.location.sanitise(&text), live_since.is_some());
                }
                Some(Word::Drained) if end_sent => {
                    self.flush(connection);
                    return Err(Exit::Finish);
                }
                Some(Word::Drained) | None => {}
            }
        };
        Ok((failure, live_since.map(|since| since.elapsed())))
    }

    /// rtmp2sink says EOS when it has queued its goodbye, not when that has left: waits until the byte count stands still.
    fn flush(&mut self, connection: &Connection) {
        let mut bytes = 0;
        for _ in 0..10 {
            std::thread::sleep(2 * TICK_FAST);
            match connection.bytes() {
                now if now == bytes => return,
                now => bytes = now,
            }
        }
    }

    /// Says goodbye to a server that is no longer wanted.
    fn leave(&mut self, connection: &Connection) {
        connection.end();
        let until = Instant::now() + LEAVE_WITHIN;
        while Instant::now() < until {
            match self.receive(Some(until)) {
                Ok(None) => {}
                Ok(Some(_)) => return self.flush(connection),
                Err(_) => return, // everything stops, or ends: either way there is no time left
            }
        }
    }

    fn wait(&mut self, time: Duration) -> Result<(), Exit> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.end_by.is_some() {
                return Err(Exit::Finish); // nobody is there to hear the end
            }
            self.receive(Some(until))?;
        }
        Ok(())
    }

    /// Stays until the element stops or ends, or the destination is taken away.
    fn give_up(&mut self, state: State, failure: &Failure) -> Result<Infallible, Exit> {
        self.feed.close();
        self.enter(state, &failure.to_string());
        self.reports.gave_up(&self.location, failure, self.retry.is_first());
        loop {
            if self.end_by.is_some() {
                return Err(Exit::Finish);
            }
            self.receive(None)?;
        }
    }

    /// Takes the next event. Returns with `None` after every event that only changed our fields, and at `until`.
    fn receive(&mut self, until: Option<Instant>) -> Result<Option<Word>, Exit> {
        let event = match until {
            None => self.inbox.recv().map_err(|_| Exit::Stop)?,
            Some(until) => match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Exit::Stop),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let late = self.end_by.is_some_and(|end_by| Instant::now() >= end_by);
                    return if late { Err(Exit::Finish) } else { Ok(None) };
                }
            },
        };
        match event {
            Event::Media => self.has_media = true,
            Event::Ending => self.end_by = self.end_by.or(Some(Instant::now() + END_WITHIN)),
            Event::Ended => {
                self.end_by = self.end_by.or(Some(Instant::now() + END_WITHIN));
                self.ended = true;
            }
            Event::Stop => return Err(Exit::Stop),
            Event::Leave => return Err(Exit::Leave),
            Event::Failed { generation, text } if generation == self.generation => {
                return Ok(Some(Word::Failed(text)));
            }
            Event::Drained { generation } if generation == self.generation => return Ok(Some(Word::Drained)),
            Event::Failed { .. } | Event::Drained { .. } => {} // of a connection that is gone
        }
        Ok(None)
    }

    fn enter(&self, state: State, reason: &str) {
        self.update(|status| status.state = state);
        self.reports.state_changed(&self.location, state, reason);
    }

    fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
