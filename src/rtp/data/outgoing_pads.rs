//! The data pads of an element that sends, and the sessions that their messages go to.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use gst::prelude::*;

use super::outgoing::{DataOut, DataOutStats};
use crate::session::Session;

/// Called with true when EOS has come in at a pad, and with false when another stream begins.
pub type Ended = Arc<dyn Fn(bool) + Send + Sync>;

/// All of them. An element makes its pads by [`pad`](Self::pad) and adds them to itself, tells of sessions by
/// [`add`](Self::add), and of pads that go by [`remove`](Self::remove); the rest happens by itself.
#[derive(Default)]
pub struct DataPads {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pads: Vec<Out>,
    sessions: Vec<Session>,
}

#[derive(Clone)]
struct Out {
    pad: gst::Pad,
    out: Arc<DataOut>,
    ended: Arc<AtomicBool>,
}

impl DataPads {
    /// A pad for messages, not active yet.
    pub fn pad(&self, template: &gst::PadTemplate, name: &str, ended: Ended) -> gst::Pad {
        let out = Arc::new(DataOut::new(name));
        let has_ended = Arc::<AtomicBool>::default();
        let (chained, told, activated) = (out.clone(), out.clone(), out.clone());
        let (flag, reset) = (has_ended.clone(), has_ended.clone());
        let pad = gst::Pad::builder_from_template(template)
            .name(name)
            .chain_function(move |_, _, buffer| chained.chain(&buffer))
            .event_function(move |pad, parent, event| {
                told.event(&event);
                match event.type_() {
                    gst::EventType::Eos => {
                        flag.store(true, Relaxed);
                        ended(true);
                        true
                    }
                    gst::EventType::StreamStart => {
                        flag.store(false, Relaxed);
                        ended(false);
                        gst::Pad::event_default(pad, parent, event)
                    }
                    gst::EventType::FlushStop => {
                        flag.store(false, Relaxed);
                        gst::Pad::event_default(pad, parent, event)
                    }
                    _ => gst::Pad::event_default(pad, parent, event),
                }
            })
            .activatemode_function(move |_, _, _, active| {
                // Whoever waits for room holds what is needed to go on.
                if active {
                    reset.store(false, Relaxed);
                    activated.start()
                } else {
                    activated.stop()
                }
                Ok(())
            })
            .build();
        let mut state = self.lock();
        for session in &state.sessions {
            out.add(session.clone());
        }
        state.pads.push(Out { pad: pad.clone(), out, ended: has_ended });
        pad
    }

    /// The pad is gone; its channels are closed. False if it is none of these.
    pub fn remove(&self, pad: &gst::Pad) -> bool {
        let removed = {
            let mut state = self.lock();
            let place = state.pads.iter().position(|out| out.pad == *pad);
            place.map(|place| state.pads.remove(place))
        };
        if let Some(removed) = &removed {
            removed.out.stop();
            removed.out.close();
            removed.out.forget();
        }
        removed.is_some()
    }

    /// A session to send to, until it is over.
    pub fn add(&self, session: Session) {
        let mut state = self.lock();
        state.sessions.retain(|session| !session.state().is_over());
        for out in &state.pads {
            out.out.add(session.clone());
        }
        state.sessions.push(session);
    }

    /// Whether there are any pads.
    pub fn is_empty(&self) -> bool {
        self.lock().pads.is_empty()
    }

    /// Of each pad, whether it is linked, and whether EOS has come in there.
    pub fn ends(&self) -> Vec<(bool, bool)> {
        self.lock().pads.iter().map(|out| (out.pad.is_linked(), out.ended.load(Relaxed))).collect()
    }

    /// Whether one of the pads has this name.
    pub fn has(&self, name: &str) -> bool {
        self.lock().pads.iter().any(|out| out.pad.name() == name)
    }

    /// The counters of each pad, with its name.
    pub fn stats(&self) -> Vec<(String, DataOutStats)> {
        self.lock().pads.iter().map(|out| (out.pad.name().to_string(), out.out.stats())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
