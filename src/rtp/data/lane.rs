//! One data pad: a bounded queue, and the thread that pushes what is in it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use gst::prelude::*;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    buffer, caps,
    incoming::{Counts, DataReceiver},
};
use crate::session::{DataChannel, DataMessage, DataOptions};

/// Messages that may wait for their pad, 16 MB at most; those that follow wait at the peer.
const MOST_WAITING: usize = 64;

/// How often it is looked whether the element plays by now; nothing is pushed before.
const NOT_PLAYING: Duration = Duration::from_millis(20);

/// What a lane is told, in order.
enum Item {
    Opened(String, DataOptions),
    Message(DataMessage, OwnedSemaphorePermit),
    Closed,
    Eos,
}

pub(super) struct Lane {
    /// Messages in it are paid for with room, and channels are few.
    queue: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    stopped: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lane {
    pub(super) fn start(
        name: &str,
        number: usize,
        receiver: Arc<dyn DataReceiver>,
        counts: Arc<Counts>,
    ) -> std::io::Result<Self> {
        let (queue, items) = mpsc::unbounded_channel();
        let stopped = Arc::<AtomicBool>::default();
        let work = Work { number, receiver, counts, stopped: stopped.clone(), pad: None, label: String::new() };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work.run(items))?;
        let room = Arc::new(Semaphore::new(MOST_WAITING));
        Ok(Self { queue, room, stopped, thread: Mutex::new(Some(thread)) })
    }

    /// A channel comes out of it from here on.
    pub(super) fn opened(&self, channel: &DataChannel) {
        self.tell(Item::Opened(channel.label().to_owned(), channel.options().clone()));
    }

    /// Its next message; waits while there is no room.
    pub(super) async fn message(&self, message: DataMessage) {
        if let Ok(room) = self.room.clone().acquire_owned().await {
            self.tell(Item::Message(message, room));
        }
    }

    pub(super) fn closed(&self) {
        self.tell(Item::Closed);
    }

    pub(super) fn end_of_stream(&self) {
        self.tell(Item::Eos);
    }

    /// Waits for the thread, unless it is the one that calls.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.room.close();
        self.tell(Item::Closed); // it wakes
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }

    fn tell(&self, item: Item) {
        let _ = self.queue.send(item); // or it has been stopped
    }
}

/// The thread's side.
struct Work {
    number: usize,
    receiver: Arc<dyn DataReceiver>,
    counts: Arc<Counts>,
    stopped: Arc<AtomicBool>,
    pad: Option<gst::Pad>,
    /// Of the channel that is open; empty before the first.
    label: String,
}

impl Work {
    fn run(mut self, mut items: mpsc::UnboundedReceiver<Item>) {
        while let Some(item) = items.blocking_recv() {
            if self.stopped.load(Relaxed) {
                return;
            }
            match item {
                Item::Opened(label, options) => self.open(label, &options),
                Item::Message(message, _room) => self.push(message),
                Item::Closed => self.receiver.channel_closed(&self.label),
                Item::Eos => {
                    self.pad = self.pad.take().or_else(|| self.receiver.add_data_pad(self.number, None));
                    if let Some(pad) = &self.pad {
                        pad.push_event(gst::event::Eos::new());
                    }
                }
            }
        }
    }

    fn open(&mut self, label: String, options: &DataOptions) {
        let caps = caps(&label, options);
        match &self.pad {
            Some(pad) => _ = pad.push_event(gst::event::Caps::new(&caps)),
            None => self.pad = self.receiver.add_data_pad(self.number, Some(&caps)),
        }
        self.label = label;
        self.receiver.channel_opened(&self.label);
    }

    fn push(&mut self, message: DataMessage) {
        self.receiver.message(&self.label, &message);
        let Some(pad) = self.pad.as_ref().filter(|pad| pad.is_linked()) else {
            self.counts.unlinked.fetch_add(1, Relaxed);
            return;
        };
        let time = loop {
            if let Some(time) = self.receiver.running_time() {
                break time;
            }
            if self.stopped.load(Relaxed) {
                return;
            }
            std::thread::sleep(NOT_PLAYING);
        };
        let mut buffer = buffer(message);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(time);
            buffer.set_dts(time);
        }
        match pad.push(buffer) {
            Ok(_) => &self.counts.messages,
            // A channel is no reason to end a pipeline; whoever refuses has said why.
            Err(_) => &self.counts.unlinked,
        }
        .fetch_add(1, Relaxed);
    }
}
