//! All destinations of a sink: fans units out, adds and takes away while it runs, and says what concerns them all.
//!
//! What is shared is asked for once: one keyframe serves everybody who needs one.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    Cadence, Config, Failure, KeyframeRequests, Location, State, Stats, Track, Tracks, Unit,
    destination::{Destination, Reports},
    feed::Taken,
    roster::{Outcome, Roster},
};

/// So many streams that were live and are named no longer are remembered: should they come back, their server may still
/// hold the old connection. More than anybody moves between in two minutes.
const MOST_FORMER: usize = 32;

/// Is told what destinations do. Called from their threads and from streaming threads, never under a lock.
pub trait Observer: Send + Sync + 'static {
    /// A destination's state changed; `index` is its place among the locations.
    fn state_changed(&self, index: u32, location: &Location, state: State, reason: &str);
    /// A destination's first failure of an outage.
    fn failed(&self, location: &Location, failure: &Failure);
    /// A destination makes no more attempts; others do.
    fn gave_up(&self, location: &Location, failure: &Failure);
    /// Every destination has given up; this one was the last.
    fn all_gave_up(&self, location: &Location, failure: &Failure);
    /// The end of the stream has been sent to every destination, or cannot be.
    fn finished(&self);
    /// A server needs a keyframe.
    fn request_keyframe(&self);
}

/// The running destinations. Dropping them ends all.
pub struct Destinations {
    config: Config,
    shared: Arc<Shared>,
    /// Taken before any other lock in here.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In the order of the locations. Streaming threads take a copy of the pointer, and then no lock.
    members: Arc<[Member]>,
    /// Those that still say goodbye.
    leaving: Vec<Arc<Destination>>,
    former: VecDeque<Location>,
    tracks: Tracks,
    ending: Ending,
}

#[derive(Clone)]
struct Member {
    destination: Arc<Destination>,
    reporter: Arc<Reporter>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    #[default]
    No,
    Arrived,
    Drained,
}

impl Destinations {
    /// Starts without any; `set_locations` adds them.
    pub fn new(config: Config, observer: Arc<dyn Observer>) -> Self {
        let keyframes =
            Keyframes { requests: KeyframeRequests::default(), cadence: Cadence::new(config.keyframe_interval) };
        let shared =
            Shared { observer, keyframes: Mutex::new(keyframes), roster: Mutex::default(), ids: AtomicU64::new(0) };
        Self { config, shared: Arc::new(shared), inner: Mutex::default() }
    }

    /// Makes these the destinations. Those that are among them already go on untouched.
    pub fn set_locations(&self, locations: Vec<Location>) -> std::io::Result<()> {
        let mut result = Ok(());
        let gone = {
            let mut inner = lock(&self.inner);
            let mut before: Vec<Member> = inner.members.to_vec();
            let mut members = Vec::with_capacity(locations.len());
            for location in locations {
                let index = u32::try_from(members.len()).unwrap_or(u32::MAX);
                match before.iter().position(|member| *member.destination.location() == location) {
                    Some(at) => {
                        let member = before.remove(at);
                        member.reporter.index.store(index, Ordering::Relaxed);
                        members.push(member);
                    }
                    None => match self.start(&inner, location, index) {
                        Ok(member) => members.push(member),
                        Err(error) => result = Err(error),
                    },
                }
            }
            inner.members = members.into();
            inner.forget(&before);
            before
        };
        for member in gone {
            member.destination.leave();
            let outcome = lock(&self.shared.roster).remove(member.reporter.id);
            self.shared.tell(outcome);
        }
        result
    }

    /// Which tracks to expect.
    pub fn set_tracks(&self, tracks: Tracks) {
        let mut inner = lock(&self.inner);
        inner.tracks = tracks;
        inner.members.iter().for_each(|member| member.destination.set_tracks(tracks));
    }

    /// A track has left: metadata names it no more until it comes back.
    pub fn forget(&self, track: Track) {
        let members = lock(&self.inner).members.clone();
        members.iter().for_each(|member| member.destination.forget(track));
    }

    /// Takes a unit for all. Never waits.
    pub fn push(&self, unit: Unit) {
        let now = Instant::now();
        let overdue = lock(&self.shared.keyframes).is_overdue(&unit);
        let members = lock(&self.inner).members.clone();
        let mut needed = false;
        for member in members.iter() {
            needed |= match member.destination.push(unit.clone(), now) {
                Taken::Held => false,
                Taken::Connected => overdue,
                Taken::NeedsKeyframe => true,
            };
        }
        if needed {
            self.shared.request_keyframe(now);
        }
    }

    /// All input has seen its end. `Observer::finished` follows within two seconds, whatever the servers do.
    pub fn ending(&self) {
        self.end(Ending::Arrived);
    }

    /// Every unit has been pushed; nothing more comes.
    pub fn ended(&self) {
        self.end(Ending::Drained);
    }

    /// What each has done so far, in the order of the locations.
    pub fn stats(&self) -> Vec<Stats> {
        let members = lock(&self.inner).members.clone();
        members.iter().map(|member| member.destination.stats()).collect()
    }

    fn start(&self, inner: &Inner, location: Location, index: u32) -> std::io::Result<Member> {
        let was_live = inner.former.contains(&location);
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let reporter = Arc::new(Reporter { id, index: AtomicU32::new(index), shared: self.shared.clone() });
        lock(&self.shared.roster).add(id);
        let destination = match Destination::start(location, was_live, self.config.clone(), reporter.clone()) {
            Ok(destination) => Arc::new(destination),
            Err(error) => {
                lock(&self.shared.roster).remove(id);
                return Err(error);
            }
        };
        destination.set_tracks(inner.tracks);
        inner.ending.tell(&destination);
        Ok(Member { destination, reporter })
    }

    fn end(&self, ending: Ending) {
        let members = {
            let mut inner = lock(&self.inner);
            inner.ending = inner.ending.max(ending);
            inner.members.clone()
        };
        members.iter().for_each(|member| ending.tell(&member.destination));
        let outcome = lock(&self.shared.roster).ended();
        self.shared.tell(outcome);
    }
}

impl Drop for Destinations {
    fn drop(&mut self) {
        // All at once: each takes its time to close its connection, and the fields' own drop waits for one by one.
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let running = inner.members.iter().map(|member| &member.destination).chain(&inner.leaving);
        running.for_each(|destination| destination.stop());
    }
}

impl Inner {
    /// Keeps what has to be known of destinations that are taken away.
    fn forget(&mut self, gone: &[Member]) {
        self.leaving.retain(|destination| !destination.is_over());
        for member in gone {
            if member.destination.was_live() {
                self.former.push_back(member.destination.location().clone());
            }
            self.leaving.push(member.destination.clone());
        }
        let surplus = self.former.len().saturating_sub(MOST_FORMER);
        self.former.drain(..surplus);
    }
}

impl Ending {
    fn tell(self, destination: &Destination) {
        match self {
            Self::No => {}
            Self::Arrived => destination.ending(),
            Self::Drained => destination.ended(),
        }
    }
}

/// What all have in common. Its locks are innermost; nothing is called under them.
struct Shared {
    observer: Arc<dyn Observer>,
    keyframes: Mutex<Keyframes>,
    roster: Mutex<Roster>,
    ids: AtomicU64,
}

struct Keyframes {
    requests: KeyframeRequests,
    cadence: Cadence,
}

impl Keyframes {
    /// Takes note of a unit; whether a keyframe is overdue.
    fn is_overdue(&mut self, unit: &Unit) -> bool {
        if unit.track() != Track::Video {
            return false;
        }
        if unit.keyframe {
            self.requests.came();
        }
        self.cadence.is_overdue(unit.dts, unit.keyframe)
    }
}

impl Shared {
    fn request_keyframe(&self, now: Instant) {
        let asks = lock(&self.keyframes).requests.should_ask(now);
        if asks {
            self.observer.request_keyframe();
        }
    }

    fn tell(&self, outcome: Outcome) {
        match outcome {
            Outcome::None => {}
            Outcome::AllGaveUp(location, failure) => self.observer.all_gave_up(&location, &failure),
            Outcome::AllFinished => self.observer.finished(),
        }
    }
}

/// Passes on what one destination reports.
struct Reporter {
    id: u64,
    index: AtomicU32,
    shared: Arc<Shared>,
}

impl Reports for Reporter {
    fn state_changed(&self, location: &Location, state: State, reason: &str) {
        self.shared.observer.state_changed(self.index.load(Ordering::Relaxed), location, state, reason);
    }

    fn failed(&self, location: &Location, failure: &Failure) {
        self.shared.observer.failed(location, failure);
    }

    fn gave_up(&self, location: &Location, failure: &Failure, first: bool) {
        let outcome = lock(&self.shared.roster).gave_up(self.id, location.clone(), failure.clone());
        match outcome {
            // No error will tell of it.
            Outcome::None => self.shared.observer.gave_up(location, failure),
            // The failure itself, before what it leads to.
            _ if first => self.shared.observer.failed(location, failure),
            _ => {}
        }
        self.shared.tell(outcome);
    }

    fn finished(&self) {
        let outcome = lock(&self.shared.roster).finished(self.id);
        self.shared.tell(outcome);
    }

    fn needs_keyframe(&self) {
        self.shared.request_keyframe(Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
