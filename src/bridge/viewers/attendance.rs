//! One task a viewer: tells what is on, passes on which layers it wants, and sees its end.

use std::sync::{Arc, OnceLock, atomic::Ordering::Relaxed};

use tokio::sync::watch;
use tracing::info;

use super::{super::admission::Place, Entry, Shared};
use crate::{
    forward::{self, Source, Viewer, ViewerChange},
    session::{ConnectionState, EndReason, Session},
    signaling::{LayerLimits, Program, VideoLayer, abbreviate},
};

/// The reasons that viewers are told.
const CHANGED: &str = "changed";
const LOST: &str = "lost";
/// The channel, or the server.
pub(super) const STOPPED: &str = "stopped";

/// A viewer's task, with all that is its own.
pub(super) struct Attendance {
    // Dropped in this order: who has ended is not counted any more.
    pub(super) viewer: Viewer,
    pub(super) session: Session,
    pub(super) source: Arc<Source>,
    pub(super) place: Place,
    pub(super) program: watch::Sender<Program>,
    pub(super) video_section: usize,
    pub(super) limits: watch::Receiver<LayerLimits>,
    pub(super) ending: watch::Receiver<Option<&'static str>>,
    pub(super) ended: Arc<OnceLock<&'static str>>,
    pub(super) member: Member,
}

impl Attendance {
    pub(super) async fn attend(mut self) {
        let reason = self.until_over().await;
        self.ended.get_or_init(|| reason);
        let is_renewable = matches!(reason, CHANGED | STOPPED);
        self.program.send_modify(|program| program.reconnect = is_renewable);
        let Self { viewer, session, member, place, .. } = self;
        drop(viewer);
        info!(session = abbreviate(member.entry.id.as_str()), reason, "viewer is gone");
        session.close(EndReason::Shutdown).await;
        drop(place);
        drop(member);
    }

    async fn until_over(&mut self) -> &'static str {
        let (mut states, mut changes) = (self.session.states(), self.viewer.changes());
        let mut on = self.source.program();
        loop {
            match *states.borrow_and_update() {
                ConnectionState::Connected => self.place.connected(),
                state if state.is_over() => return LOST,
                _ => {}
            }
            if *changes.borrow_and_update() == ViewerChange::Renegotiate {
                return CHANGED;
            }
            if let Some(reason) = *self.ending.borrow_and_update() {
                return reason;
            }
            on.borrow_and_update();
            self.tell();
            self.member.shared.count.send_modify(|_| ());
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return LOST },
                Ok(()) = changes.changed() => {}
                Ok(()) = on.changed() => {}
                Ok(()) = self.ending.changed() => {}
                Ok(()) = self.limits.changed() => {
                    let LayerLimits { layer, temporal, width, height } = *self.limits.borrow_and_update();
                    self.viewer.limit_layers(forward::LayerLimits { layer, temporal, width, height });
                }
            }
        }
    }

    /// Says what is on.
    pub(super) fn tell(&self) {
        let now = self.source.program().borrow().clone();
        let layer =
            |layer: forward::VideoLayer| VideoLayer { index: layer.index, size: layer.size, bitrate: layer.bitrate };
        let program = Program {
            is_active: now.is_live,
            layers: now.layers.into_iter().map(layer).collect(),
            video_section: self.video_section,
            reconnect: false,
        };
        self.program.send_if_modified(|told| {
            let is_news = *told != program;
            *told = program;
            is_news
        });
    }
}

/// A viewer's membership, which ends when it is dropped.
pub(super) struct Member {
    shared: Arc<Shared>,
    number: u64,
    entry: Arc<Entry>,
}

impl Member {
    pub(super) fn enter(shared: &Arc<Shared>, entry: Entry) -> Self {
        let number = shared.started.fetch_add(1, Relaxed);
        let entry = Arc::new(entry);
        shared.present().insert(number, entry.clone());
        shared.count.send_modify(|count| *count += 1);
        Self { shared: shared.clone(), number, entry }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut present = self.shared.present();
        let entry = present.remove(&self.number);
        self.entry.add_to(&mut self.shared.gone());
        drop(present);
        self.shared.count.send_modify(|count| *count -= 1);
        drop(entry);
    }
}

/// Where the video stands in a description.
pub(super) fn video_section(sdp: &str) -> usize {
    sdp.lines().filter(|line| line.starts_with("m=")).position(|line| line.starts_with("m=video")).unwrap_or(0)
}
