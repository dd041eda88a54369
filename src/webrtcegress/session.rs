//! The element as the sending half of a connection that is not its own: of the session around it, or of a call that it
//! shares with a `webrtcingest`.
//!
//! What only passes through the pipeline comes in the codec of the peer's that it goes out in again: then nothing is encoded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::glib;
use tokio::runtime::Handle;

use super::{WebrtcEgress, answerer::Watch, data::Messages, fanout::Fanout, push::SERVER};
use crate::{
    bridge::Sending,
    forward::{Joining, Viewer},
    session::{Answered, DataSink, Sends, Track},
};

/// What is registered with the connection.
pub(super) struct Half {
    pub(super) fanout: Arc<Fanout>,
    pub(super) element: glib::WeakRef<WebrtcEgress>,
    pub(super) http: Handle,
    pub(super) watch: Watch,
    messages: Arc<Messages>,
    state: Mutex<State>,
}

/// The peer is one viewer among others.
#[derive(Default)]
struct State {
    joining: Option<Joining>,
    viewer: Option<Viewer>,
    total: u64,
}

impl Half {
    pub(super) fn new(
        fanout: Arc<Fanout>,
        element: glib::WeakRef<WebrtcEgress>,
        http: Handle,
        watch: Watch,
        messages: Arc<Messages>,
    ) -> Arc<Self> {
        Arc::new(Self { fanout, element, http, watch, messages, state: Mutex::default() })
    }

    /// Peers that are there, and how many there have been.
    pub(super) fn peers(&self) -> (usize, u64) {
        let state = self.lock();
        (usize::from(state.viewer.is_some()), state.total)
    }

    /// Whether there is something to say by data channels.
    pub(super) fn has_data_pads(&self) -> bool {
        self.element.upgrade().is_some_and(|element| element.has_data_pads())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending for Half {
    fn sends(&self, incoming: &[Track]) -> Sends {
        let element = self.element.upgrade();
        let passes = |index, codec| element.as_ref().is_none_or(|element| element.may_get(index, codec));
        self.fanout.expect(incoming, passes);
        let joining = self.fanout.source().join();
        let events = joining.events();
        let gone = {
            let mut state = self.lock();
            state.joining = Some(joining);
            state.viewer.take()
        };
        drop(gone);
        Sends { tracks: self.fanout.outgoing(), events, receives: false }
    }

    fn hears(&self) -> Option<Arc<dyn DataSink>> {
        Some(self.messages.ear(SERVER))
    }

    fn answered(&self, answered: &Answered) {
        self.fanout.agreed(&answered.outgoing);
        if let Some(element) = self.element.upgrade() {
            element.has_session(SERVER, &answered.session);
        }
        let joining = self.lock().joining.take();
        let viewer = joining.and_then(|joining| joining.begin(answered));
        let mut state = self.lock();
        state.total += u64::from(viewer.is_some());
        state.viewer = viewer;
        drop(state);
        let (mut states, watch) = (answered.session.states(), self.watch.clone());
        self.http.spawn(async move {
            loop {
                let state = *states.borrow_and_update();
                watch(state);
                if state.is_over() || states.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}
