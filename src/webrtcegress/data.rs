//! Data channels of the peers that the element sends to: signals when messages come, named with the session that they came
//! from, and action signals to send some, to one session or to all. What comes in on data pads goes to all of them as well.
//!
//! ```text
//!  media thread         │ a thread
//!  Ear (a DataSink) ────┼─▶ queue ─▶ signals
//! ```
//!
//! What waits is bounded: a handler that takes its time slows the peers down.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use async_trait::async_trait;
use gst::{glib, prelude::*, subclass::prelude::*};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{WebrtcEgress, imp::CAT};
use crate::{
    bridge::ViewerData,
    session::{ChannelEnd, DataChannel, DataError, DataMessage, DataOptions, DataSink, Session},
    signaling::SessionId,
};

/// Messages that wait for the signals' handlers, 16 MB at most.
const MOST_WAITING: usize = 64;

/// The signals of data channels:
///
/// | signal | parameters | |
/// | --- | --- | --- |
/// | `data-channel-opened`, `data-channel-closed` | session, label | whoever opened or closed it |
/// | `data-received` | session, label, GBytes | a binary message has come |
/// | `text-received` | session, label, text | a text message has come |
/// | `send-data` | session or NULL for all, label, GBytes | action: sends a binary message, by a new channel if none has this label |
/// | `send-text` | session or NULL for all, label, text | action: the same with text |
pub(super) fn signals() -> Vec<glib::subclass::Signal> {
    let (string, bytes) = (String::static_type(), glib::Bytes::static_type());
    let send = |name: &str, of: glib::Type, message: fn(&glib::Value) -> Option<DataMessage>| {
        glib::subclass::Signal::builder(name)
            .param_types([String::static_type(), String::static_type(), of])
            .action()
            .class_handler(move |values| {
                let element = values.first()?.get::<WebrtcEgress>().ok()?;
                let session = values.get(1)?.get::<Option<String>>().ok()?.filter(|session| !session.is_empty());
                let label = values.get(2)?.get::<Option<String>>().ok()??;
                element.send_message(session.as_deref(), &label, &message(values.get(3)?)?);
                None
            })
            .build()
    };
    let told = |name: &str, types: &[glib::Type]| {
        glib::subclass::Signal::builder(name).param_types(types.iter().copied()).build()
    };
    vec![
        told("data-channel-opened", &[string, string]),
        told("data-channel-closed", &[string, string]),
        told("data-received", &[string, string, bytes]),
        told("text-received", &[string, string, string]),
        send("send-data", bytes, |value| {
            let bytes = value.get::<Option<glib::Bytes>>().ok()??;
            Some(bytes::Bytes::from_owner(bytes).into())
        }),
        send("send-text", string, |value| value.get::<Option<String>>().ok()?.map(DataMessage::from)),
    ]
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that came.
    pub(super) received: u64,
    /// Messages handed to a session, one for each.
    pub(super) sent: u64,
    /// Messages that a session had no room or no channel for, and those for nobody.
    pub(super) dropped: u64,
}

/// The messages of one started element.
pub(super) struct Messages {
    element: glib::WeakRef<WebrtcEgress>,
    queue: Queue,
    sessions: Mutex<Vec<(String, Session)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    received: Arc<AtomicU64>,
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// What the thread is told, in order; messages are paid for with room, and channels are few.
#[derive(Clone)]
struct Queue {
    items: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
}

struct Item {
    session: String,
    label: String,
    what: What,
}

enum What {
    Opened,
    Message(DataMessage, OwnedSemaphorePermit),
    Closed,
}

impl Messages {
    /// Nobody's yet.
    pub(super) fn start(element: &WebrtcEgress) -> std::io::Result<Arc<Self>> {
        let (items, queue) = mpsc::unbounded_channel();
        let (weak, received) = (element.downgrade(), Arc::<AtomicU64>::default());
        let (told, counted) = (weak.clone(), received.clone());
        let name = format!("{}:data", element.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || tell(&told, queue, &counted))?;
        let queue = Queue { items, room: Arc::new(Semaphore::new(MOST_WAITING)) };
        let (sessions, sent, dropped) = Default::default();
        Ok(Arc::new(Self { element: weak, queue, sessions, thread: Mutex::new(Some(thread)), received, sent, dropped }))
    }

    /// Where that goes which comes by the channels of a session.
    pub(super) fn ear(&self, session: &str) -> Arc<dyn DataSink> {
        Arc::new(Ear { session: session.to_owned(), queue: self.queue.clone() })
    }

    /// A session that messages can go to, until it is over.
    pub(super) fn add(&self, id: &str, session: Session) {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|(_, session)| !session.state().is_over());
        sessions.push((id.to_owned(), session));
    }

    /// Sends to one session, or to all that have data channels; without waiting. What cannot be sent is counted, and said in
    /// the log.
    pub(super) fn send(&self, to: Option<&str>, label: &str, message: &DataMessage) {
        let targets: Vec<Session> = lock(&self.sessions)
            .iter()
            .filter(|(id, session)| !session.state().is_over() && to.is_none_or(|to| to == id))
            .map(|(_, session)| session.clone())
            .collect();
        let mut sent = 0;
        for session in &targets {
            match channel(session, label).and_then(|channel| channel.try_send(message.clone())) {
                Ok(()) => sent += 1,
                // One that wants no channels is not meant by all.
                Err(DataError::NotNegotiated) if to.is_none() => {}
                Err(error) => self.drop_one(label, &error.to_string()),
            }
        }
        self.sent.fetch_add(sent, Relaxed);
        if targets.is_empty() {
            self.drop_one(label, "there is no such session");
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// Waits for the thread, unless it is the one that calls. Nothing is told after that.
    pub(super) fn stop(&self) {
        self.queue.room.close();
        let closed = Item { session: String::new(), label: String::new(), what: What::Closed };
        let _ = self.queue.items.send(closed); // it wakes
        lock(&self.sessions).clear();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }

    fn drop_one(&self, label: &str, why: &str) {
        self.dropped.fetch_add(1, Relaxed);
        if let Some(element) = self.element.upgrade() {
            gst::warning!(CAT, obj = element, "a message for \"{label}\" is dropped: {why}");
        }
    }
}

impl ViewerData for Messages {
    fn ear(&self, viewer: &SessionId) -> Arc<dyn DataSink> {
        self.ear(viewer.as_str())
    }

    fn came(&self, viewer: &SessionId, session: &Session) {
        if let Some(element) = self.element.upgrade() {
            element.has_session(viewer.as_str(), session);
        }
    }
}

/// The channel of this label, whoever made it.
fn channel(session: &Session, label: &str) -> Result<DataChannel, DataError> {
    match session.channel(label) {
        Some(channel) => Ok(channel),
        None => session.open_channel(label, DataOptions::default()),
    }
}

/// One session's end of the queue.
struct Ear {
    session: String,
    queue: Queue,
}

impl Ear {
    fn tell(&self, channel: &DataChannel, what: What) {
        let (session, label) = (self.session.clone(), channel.label().to_owned());
        let _ = self.queue.items.send(Item { session, label, what }); // or it has been stopped
    }
}

#[async_trait]
impl DataSink for Ear {
    fn opened(&self, channel: &DataChannel) {
        self.tell(channel, What::Opened);
    }

    async fn message(&self, channel: &DataChannel, message: DataMessage) {
        if let Ok(room) = self.queue.room.clone().acquire_owned().await {
            self.tell(channel, What::Message(message, room));
        }
    }

    fn closed(&self, channel: &DataChannel, _: ChannelEnd) {
        self.tell(channel, What::Closed);
    }
}

/// The thread's work, until the element is stopped.
fn tell(element: &glib::WeakRef<WebrtcEgress>, mut items: mpsc::UnboundedReceiver<Item>, received: &AtomicU64) {
    while let Some(Item { session, label, what }) = items.blocking_recv() {
        let Some(element) = element.upgrade().filter(|_| !session.is_empty()) else { return };
        match what {
            What::Opened => {
                gst::info!(CAT, obj = element, "data channel \"{label}\" is open");
                element.emit_by_name::<()>("data-channel-opened", &[&session, &label]);
            }
            What::Closed => element.emit_by_name::<()>("data-channel-closed", &[&session, &label]),
            What::Message(message, _room) => {
                received.fetch_add(1, Relaxed);
                match message {
                    DataMessage::Text(text) => element.emit_by_name::<()>("text-received", &[&session, &label, &text]),
                    DataMessage::Binary(bytes) => {
                        let bytes = glib::Bytes::from_owned(bytes);
                        element.emit_by_name::<()>("data-received", &[&session, &label, &bytes]);
                    }
                }
            }
        }
    }
}

impl WebrtcEgress {
    fn send_message(&self, to: Option<&str>, label: &str, message: &DataMessage) {
        match self.imp().messages() {
            Some(messages) => messages.send(to, label, message),
            None => gst::warning!(CAT, obj = self, "a message for \"{label}\" is dropped: the element is not started"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
