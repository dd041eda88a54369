//! A viewer's place at its source: from what it can be offered, over its answer, until it goes.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::{Counted, Event, Inner, LayerLimits, Place, ViewerChange, lock};
use crate::{
    codec::MediaKind,
    session::{Answered, Outgoing, Outlet, SendEvents, Session, Track},
};

/// A viewer whose session is just being made.
pub struct Joining {
    pub(super) id: u64,
    pub(super) source: Weak<Inner>,
    pub(super) tracks: Vec<Outgoing>,
    pub(super) wants: Vec<MediaKind>,
}

impl Joining {
    /// It wants media of these kinds, now or once there is some.
    pub(in crate::forward) fn wanting(self, kinds: Vec<MediaKind>) -> Self {
        Self { wants: kinds, ..self }
    }

    /// What there is for it; empty before the first publisher.
    pub fn tracks(&self) -> &[Outgoing] {
        &self.tracks
    }

    /// Who hears what its session wants.
    pub fn events(&self) -> Arc<dyn SendEvents> {
        Arc::new(Wishes { viewer: self.id, source: self.source.clone() })
    }

    /// The session is there: from its connection on it gets what it has agreed to. `None` if it takes nothing, or the source
    /// is gone.
    pub fn begin(self, answered: &Answered) -> Option<Viewer> {
        self.begin_with(answered.outlet.as_ref(), &answered.outgoing)
    }

    /// The same for a session that we have offered.
    pub fn begin_session(self, session: &Session) -> Option<Viewer> {
        self.begin_with(session.outlet(), session.outgoing())
    }

    pub(super) fn begin_with(self, outlet: Option<&Outlet>, outgoing: &[Track]) -> Option<Viewer> {
        let (source, outlet) = (self.source.upgrade()?, outlet?.clone());
        let (change, changes) = watch::channel(ViewerChange::None);
        let mut state = lock(&source.state);
        for track in outgoing {
            if let Some(slot) = state.slots.get(track.index) {
                outlet.keep_in(track.index, slot.history.clone());
            }
        }
        state.join(self.id, outgoing);
        let is_there = |kind: &MediaKind| self.tracks.iter().any(|track| track.kind == *kind);
        state.lacks(self.id, self.wants.into_iter().filter(|kind| !is_there(kind)).collect());
        if !state.fits(self.id) {
            change.send_replace(ViewerChange::Renegotiate);
        }
        drop(state);
        let is_ready = outlet.is_ready();
        lock(&source.outlets).insert(self.id, Place { outlet, change, _counted: Counted::new() });
        if is_ready {
            source.push(Event::Ready { viewer: self.id });
        }
        Some(Viewer { id: self.id, source: self.source, changes })
    }
}

/// A viewer; it gets nothing more once this is dropped.
pub struct Viewer {
    id: u64,
    source: Weak<Inner>,
    changes: watch::Receiver<ViewerChange>,
}

impl Viewer {
    /// What it wants at most.
    pub fn limit_layers(&self, limits: LayerLimits) {
        if let Some(source) = self.source.upgrade() {
            lock(&source.state).limit(self.id, limits);
        }
    }

    /// What its session has to do.
    pub fn changes(&self) -> watch::Receiver<ViewerChange> {
        self.changes.clone()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if let Some(source) = self.source.upgrade() {
            lock(&source.state).leave(self.id);
            lock(&source.outlets).remove(&self.id);
        }
    }
}

/// Passes on what a viewer's session wants.
struct Wishes {
    viewer: u64,
    source: Weak<Inner>,
}

impl SendEvents for Wishes {
    fn ready(&self) {
        if let Some(source) = self.source.upgrade() {
            source.push(Event::Ready { viewer: self.viewer });
        }
    }

    fn keyframe_wanted(&self, track: usize) {
        if let Some(source) = self.source.upgrade() {
            source.push(Event::Wants { viewer: self.viewer, slot: track });
        }
    }
}
