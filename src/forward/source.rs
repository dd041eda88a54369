//! The shell around [`State`](super::state): sessions hand over, one task on the media runtime does the rest, a batch at a
//! time.

mod crowd;
mod joining;
mod publication;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use super::{
    program::Program,
    select::LayerLimits,
    state::{Action, State},
};
use crate::{
    codec::MediaKind,
    session::{KeyframeControl, Outlet, PacketSink, RtpPacket, SenderReport, Track},
};

use self::crowd::{Counted, is_crowd};
pub use self::{
    joining::{Joining, Viewer},
    publication::Publication,
};

/// Packets that wait for the task at most: a second of 20 Mbit/s. It runs where they come from, so that hardly any do.
const MOST_WAITING: usize = 4096;
/// Layers are decided anew although nothing comes.
const TICK: Duration = Duration::from_millis(200);
/// So long sound waits at most, in a crowd, for something to go out with.
const SOUND_WAITS: Duration = Duration::from_millis(40);
/// Who gets which layer is looked at no more often: all viewers are, and packets come several hundred times a second.
const DECIDE: Duration = Duration::from_millis(20);
/// What is on is looked at no more often.
const SURVEY: Duration = Duration::from_millis(500);

/// What is published on one channel, and everybody who views it. Its viewers outlive its publishers.
pub struct Source {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    outlets: Mutex<HashMap<u64, Place>>,
    queue: Mutex<VecDeque<Event>>,
    notify: Notify,
    /// Who is asked for keyframes.
    control: Mutex<Option<Control>>,
    overflowed: AtomicU64,
    next_viewer: AtomicU64,
    /// What the source could send at most, in bit/s; 0 if it cannot send more than it does.
    useful: AtomicU64,
    closed: watch::Sender<bool>,
    program: watch::Sender<Program>,
}

/// The publisher's session, once it is there.
type Control = Arc<OnceLock<Arc<dyn KeyframeControl>>>;

struct Place {
    outlet: Outlet,
    change: watch::Sender<ViewerChange>,
    _counted: Counted,
}

enum Event {
    /// `waits`: it is sound beside pictures, and may wait for others.
    Rtp {
        publication: u64,
        track: usize,
        packet: RtpPacket,
        layered: bool,
        waits: bool,
    },
    Report {
        publication: u64,
        track: usize,
        report: SenderReport,
    },
    Ready {
        viewer: u64,
    },
    Wants {
        viewer: u64,
        slot: usize,
    },
}

/// What a viewer's session has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ViewerChange {
    /// Nothing.
    #[default]
    None,
    /// What is published now is of another codec: the session must be negotiated anew.
    Renegotiate,
}

/// Counters of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Viewers that have joined and not left.
    pub viewers: usize,
    /// Packets dropped because they came faster than they could be handed on.
    pub overflowed: u64,
}

impl Source {
    /// A source without a publisher. `media` is the runtime of the sessions.
    pub fn new(media: &Handle) -> Self {
        let inner = Arc::new(Inner {
            state: Mutex::default(),
            outlets: Mutex::default(),
            queue: Mutex::default(),
            notify: Notify::new(),
            control: Mutex::default(),
            overflowed: AtomicU64::new(0),
            next_viewer: AtomicU64::new(0),
            useful: AtomicU64::new(0),
            closed: watch::Sender::new(false),
            program: watch::Sender::default(),
        });
        media.spawn(run(inner.clone()));
        Self { inner }
    }

    /// A publisher begins, with the tracks that its session takes; it takes over from the one before. `also` gets everything
    /// as well.
    pub fn publish(&self, tracks: &[Track], also: Option<Arc<dyn PacketSink>>) -> Arc<Publication> {
        let id = lock(&self.inner.state).publish(tracks);
        let control = Control::default();
        *lock(&self.inner.control) = Some(control.clone());
        let changed: Vec<u64> = {
            let state = lock(&self.inner.state);
            lock(&self.inner.outlets).keys().copied().filter(|viewer| !state.fits(*viewer)).collect()
        };
        for viewer in changed {
            if let Some(place) = lock(&self.inner.outlets).get(&viewer) {
                place.change.send_replace(ViewerChange::Renegotiate);
            }
        }
        self.inner.survey(Instant::now());
        let audible = match tracks.iter().any(|track| track.kind() == MediaKind::Video) {
            true => tracks.iter().filter(|track| track.kind() == MediaKind::Audio).map(|track| track.index).collect(),
            false => Vec::new(),
        };
        Arc::new(Publication { id, source: Arc::downgrade(&self.inner), control, audible, also })
    }

    /// What a viewer can get, now or from the last publisher.
    pub fn join(&self) -> Joining {
        let id = self.inner.next_viewer.fetch_add(1, Relaxed);
        let tracks = lock(&self.inner.state).outgoing();
        Joining { id, source: Arc::downgrade(&self.inner), tracks, wants: Vec::new() }
    }

    /// What the networks of the viewers carry that can be sent to, in bit/s; `None` for one of which that is not known.
    pub fn estimates(&self) -> Vec<Option<u64>> {
        let outlets = lock(&self.inner.outlets);
        let ready = outlets.values().filter(|place| place.outlet.is_ready());
        ready.map(|place| *place.outlet.estimate().borrow()).collect()
    }

    /// The same, of those networks that have shown what they carry: what an encoder for all of them has to keep to.
    pub fn bounds(&self, now: Instant) -> Vec<Option<u64>> {
        let outlets = lock(&self.inner.outlets);
        let ready = outlets.values().filter(|place| place.outlet.is_ready());
        ready.map(|place| place.outlet.bound(now)).collect()
    }

    /// The publisher could send so much, in bit/s, if all networks carried it: worth finding out.
    pub fn set_useful(&self, bits_per_second: u64) {
        self.inner.useful.store(bits_per_second, Relaxed);
    }

    /// What is on.
    pub fn program(&self) -> watch::Receiver<Program> {
        self.inner.program.subscribe()
    }

    /// Its counters.
    pub fn stats(&self) -> SourceStats {
        SourceStats { viewers: lock(&self.inner.state).viewers(), overflowed: self.inner.overflowed.load(Relaxed) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.inner.closed.send_replace(true);
    }
}

impl Inner {
    fn push(&self, event: Event) {
        let mut queue = lock(&self.queue);
        if queue.len() >= MOST_WAITING && matches!(event, Event::Rtp { .. }) {
            self.overflowed.fetch_add(1, Relaxed);
            return;
        }
        // One alone waits; with the second it goes out.
        let rests = matches!(event, Event::Rtp { waits: true, .. }) && queue.is_empty() && is_crowd();
        queue.push_back(event);
        drop(queue);
        if !rests {
            self.notify.notify_one();
        }
    }

    /// Sees what is on.
    fn survey(&self, now: Instant) {
        let program = lock(&self.state).program(now);
        self.program.send_if_modified(|told| {
            let is_news = told.differs(&program);
            if is_news {
                *told = program;
            }
            is_news
        });
    }

    /// Does what has come since the last time.
    fn turn(&self, events: &mut VecDeque<Event>, actions: &mut Vec<Action>, decided: &mut Instant) {
        std::mem::swap(events, &mut *lock(&self.queue));
        let now = Instant::now();
        let mut state = lock(&self.state);
        for event in events.drain(..) {
            match event {
                Event::Rtp { publication, track, packet, layered, .. } => {
                    state.rtp(publication, track, packet, layered, actions);
                }
                Event::Report { publication, track, report } => state.report(publication, track, report, actions),
                Event::Ready { viewer } => state.ready(viewer, now, actions),
                Event::Wants { viewer, slot } => state.wants(viewer, slot, now, actions),
            }
        }
        let outlets = lock(&self.outlets);
        let decides = now.saturating_duration_since(*decided) >= DECIDE;
        if decides {
            *decided = now;
        }
        for (viewer, place) in outlets.iter().filter(|_| decides) {
            let estimate = *place.outlet.estimate().borrow();
            if let Some(useful) = state.decide(*viewer, estimate, now, actions) {
                place.outlet.limit_estimate(useful.max(self.useful.load(Relaxed)));
            }
        }
        let control = lock(&self.control).as_ref().and_then(|control| control.get().cloned());
        for action in actions.drain(..) {
            match (action, &control) {
                (Action::Ask { track, ssrc: Some(ssrc) }, Some(control)) => control.request_layer_keyframe(track, ssrc),
                (Action::Ask { track, ssrc: None }, Some(control)) => control.request_keyframe(track),
                (Action::Arrived { track, ssrc: Some(ssrc) }, Some(control)) => {
                    control.layer_keyframe_arrived(track, ssrc)
                }
                (Action::Arrived { track, ssrc: None }, Some(control)) => control.keyframe_arrived(track),
                (Action::Clock { viewer, slot, clock }, _) => {
                    if let Some(place) = outlets.get(&viewer) {
                        place.outlet.set_clock(slot, clock);
                    }
                }
                (Action::Ask { .. } | Action::Arrived { .. }, None) => {}
            }
        }
        state.drain(|viewer, slot, packets| {
            if let Some(place) = outlets.get(&viewer) {
                place.outlet.send(slot, packets);
            }
        });
    }
}

/// Hands on what comes, until the source is dropped.
async fn run(inner: Arc<Inner>) {
    let mut closed = inner.closed.subscribe();
    let (mut events, mut actions) = (VecDeque::new(), Vec::new());
    let mut surveyed = Instant::now();
    let mut decided = surveyed;
    loop {
        tokio::select! {
            () = inner.notify.notified() => {}
            () = tokio::time::sleep(if is_crowd() { SOUND_WAITS } else { TICK }) => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
        inner.turn(&mut events, &mut actions, &mut decided);
        let now = Instant::now();
        if now.saturating_duration_since(surveyed) >= SURVEY {
            surveyed = now;
            inner.survey(now);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod threads;
