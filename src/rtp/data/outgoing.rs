//! What goes out by data channels: a request pad's buffers, to every session that there is.
//!
//! An element has its pads made by [`DataPads`](super::DataPads); this is what one of them does.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::message;
use crate::session::{ConnectionState, DataChannel, DataError, DataMessage, DataOptions, Reliability, Session};

/// Counters of one pad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataOutStats {
    /// Messages that were handed to a session; one for each.
    pub messages: u64,
    /// Messages that a session had no room for, or no channel, or that were too large for it; and those that came when there
    /// was no session.
    pub dropped: u64,
}

/// A pad's channel, in every session.
pub struct DataOut {
    state: Mutex<State>,
    /// Whether whoever waits for room shall give up.
    stopped: watch::Sender<bool>,
    messages: AtomicU64,
    dropped: AtomicU64,
}

struct State {
    label: String,
    options: DataOptions,
    /// What a buffer is that does not say.
    text: bool,
    ended: bool,
    sessions: Vec<(Session, Option<DataChannel>)>,
}

impl DataOut {
    /// For a pad; `label` is what its channel is called if the caps do not say.
    pub fn new(label: &str) -> Self {
        let state = State {
            label: label.to_owned(),
            options: DataOptions::default(),
            text: false,
            ended: false,
            sessions: Vec::new(),
        };
        let (messages, dropped) = Default::default();
        Self { state: Mutex::new(state), stopped: watch::Sender::new(false), messages, dropped }
    }

    /// Takes the pad's caps: `label`, `protocol` (string), `ordered` (boolean), `max-retransmits` or `max-packet-lifetime`
    /// (int, the latter in ms), and `kind` ("text" or "binary", the default) for buffers without the meta. All may be
    /// missing.
    pub fn configure(&self, caps: &gst::CapsRef) {
        let Some(caps) = caps.structure(0) else { return };
        let number = |name| caps.get::<i32>(name).ok().map(|number| u16::try_from(number).unwrap_or(u16::MAX));
        let reliability = match (number("max-retransmits"), number("max-packet-lifetime")) {
            (Some(count), _) => Reliability::Retransmits(count),
            (None, Some(lifetime)) => Reliability::Lifetime(Duration::from_millis(lifetime.into())),
            (None, None) => Reliability::Reliable,
        };
        let mut state = self.lock();
        if let Ok(label) = caps.get::<String>("label")
            && state.label != label
        {
            // Opened before its name was known.
            for channel in state.sessions.iter_mut().filter_map(|(_, channel)| channel.take()) {
                channel.close();
            }
            state.label = label;
        }
        state.options = DataOptions {
            ordered: caps.get("ordered").unwrap_or(true),
            reliability,
            protocol: caps.get("protocol").unwrap_or_default(),
        };
        state.text = caps.get::<&str>("kind").is_ok_and(|kind| kind == super::TEXT);
    }

    /// A session that gets what comes from here on. Its channel is opened at once.
    pub fn add(&self, session: Session) {
        let mut state = self.lock();
        state.sessions.retain(|(session, _)| !session.state().is_over());
        let channel = if state.ended { None } else { open(&session, &state) };
        state.sessions.push((session, channel));
    }

    /// A buffer of the pad. With one session, a reliable channel without room holds up the pad; of several sessions none
    /// waits for another, and drops are counted.
    pub fn chain(&self, buffer: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (targets, text, waits) = {
            let mut state = self.lock();
            state.sessions.retain(|(session, _)| !session.state().is_over());
            let missing: Vec<usize> = (0..state.sessions.len())
                .filter(|place| state.sessions.get(*place).is_some_and(|(_, channel)| is_gone(channel)))
                .collect();
            for place in missing {
                let channel = state.sessions.get(place).and_then(|(session, _)| open(session, &state));
                if let Some((_, place)) = state.sessions.get_mut(place) {
                    *place = channel;
                }
            }
            let targets: Vec<_> = state
                .sessions
                .iter()
                .map(|(session, channel)| (channel.clone(), session.state() == ConnectionState::Connected))
                .collect();
            (targets, state.text, state.options.reliability == Reliability::Reliable)
        };
        let message = message(buffer, text).ok_or(gst::FlowError::Error)?;
        if targets.is_empty() {
            self.dropped.fetch_add(1, Relaxed);
        }
        let waits = waits && targets.len() == 1;
        for (channel, is_connected) in targets {
            let sent = match channel {
                Some(channel) => self.send(&channel, message.clone(), waits && is_connected)?,
                None => false,
            };
            let count = if sent { &self.messages } else { &self.dropped };
            count.fetch_add(1, Relaxed);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Whether it could be sent.
    fn send(&self, channel: &DataChannel, message: DataMessage, waits: bool) -> Result<bool, gst::FlowError> {
        match channel.try_send(message.clone()) {
            Ok(()) => Ok(true),
            Err(DataError::Full) if waits => {
                let mut stopped = self.stopped.subscribe();
                let sent = async {
                    tokio::select! {
                        sent = channel.send(message) => Ok(sent.is_ok()),
                        _ = stopped.wait_for(|stopped| *stopped) => Err(gst::FlowError::Flushing),
                    }
                };
                gst::glib::MainContext::new().block_on(sent)
            }
            Err(_) => Ok(false),
        }
    }

    /// An event of the pad, which the element may handle as it likes besides.
    pub fn event(&self, event: &gst::EventRef) {
        match event.view() {
            gst::EventView::Caps(caps) => self.configure(caps.caps()),
            gst::EventView::FlushStart(_) => self.stop(),
            // After EOS it is a new stream's.
            gst::EventView::FlushStop(_) | gst::EventView::StreamStart(_) => self.start(),
            gst::EventView::Eos(_) => self.close(),
            _ => {}
        }
    }

    /// Whoever waits gives up, and nobody will wait any more until it is started again.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Waiting is in order again, and what has ended begins anew: with the first message the channels are opened again.
    pub fn start(&self) {
        self.lock().ended = false;
        self.stopped.send_replace(false);
    }

    /// Closes the channel in every session, after what is on its way; sessions that come later get none until it is started
    /// again.
    pub fn close(&self) {
        let channels: Vec<_> = {
            let mut state = self.lock();
            state.ended = true;
            state.sessions.iter_mut().filter_map(|(_, channel)| channel.take()).collect()
        };
        for channel in channels {
            channel.close();
        }
    }

    /// Lets go of the sessions: as long as somebody has hold of one it does not end.
    pub(super) fn forget(&self) {
        self.lock().sessions.clear();
    }

    /// Counters so far.
    pub fn stats(&self) -> DataOutStats {
        DataOutStats { messages: self.messages.load(Relaxed), dropped: self.dropped.load(Relaxed) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channel of this label in a session: one that is there, whoever made it, so that an answer goes back the same way.
fn open(session: &Session, state: &State) -> Option<DataChannel> {
    if let Some(channel) = session.channel(&state.label) {
        return Some(channel);
    }
    match session.open_channel(&state.label, state.options.clone()) {
        Ok(channel) => Some(channel),
        Err(error) => {
            tracing::debug!(%error, label = state.label, "no data channel");
            None
        }
    }
}

fn is_gone(channel: &Option<DataChannel>) -> bool {
    channel.as_ref().is_none_or(DataChannel::is_closed)
}
