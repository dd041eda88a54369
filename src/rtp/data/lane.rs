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

/// Messages that may wait for their pad; those that follow wait at the peer.
const MOST_WAITING: usize = 64;

/// Bytes that may wait for the pads of one session, beside the first message of each. A pad that is held up may take all of
/// it; what it has is never more than that.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The room that the lanes of one session share.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_BYTES))
}

/// A message's place in a lane.
struct Place {
    _number: OwnedSemaphorePermit,
    /// Bytes of the room that the lanes share, or that of the first message.
    _room: OwnedSemaphorePermit,
}

/// How often it is looked whether the element plays by now; nothing is pushed before.
const NOT_PLAYING: Duration = Duration::from_millis(20);

/// What a lane is told, in order.
enum Item {
    Opened(String, DataOptions),
    Message(DataMessage, Place),
    Closed,
    Eos,
}

pub(super) struct Lane {
    /// Messages in it are paid for with places, and channels are few.
    queue: mpsc::UnboundedSender<Item>,
    places: Arc<Semaphore>,
    /// For one message, whatever waits in other lanes.
    first: Arc<Semaphore>,
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
        let (places, first) = (Arc::new(Semaphore::new(MOST_WAITING)), Arc::new(Semaphore::new(1)));
        Ok(Self { queue, places, first, stopped, thread: Mutex::new(Some(thread)) })
    }

    /// A channel comes out of it from here on.
    pub(super) fn opened(&self, channel: &DataChannel) {
        self.tell(Item::Opened(channel.label().to_owned(), channel.options().clone()));
    }

    /// Its next message; waits while there is no place for it, or no `room` with its session's others.
    pub(super) async fn message(&self, message: DataMessage, room: &Arc<Semaphore>) {
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let place = async {
            let number = self.places.clone().acquire_owned().await.ok()?;
            let room = tokio::select! {
                biased;
                first = self.first.clone().acquire_owned() => first,
                bytes = room.clone().acquire_many_owned(bytes) => bytes,
            };
            Some(Place { _number: number, _room: room.ok()? })
        };
        if let Some(place) = place.await {
            self.tell(Item::Message(message, place));
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
        self.places.close();
        self.first.close();
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
                Item::Message(message, _place) => self.push(message),
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// A receiver whose threads go on with each message when they are let.
    struct Gate(std::sync::mpsc::Sender<usize>, Mutex<std::sync::mpsc::Receiver<()>>);

    impl DataReceiver for Gate {
        fn add_data_pad(&self, _: usize, _: Option<&gst::Caps>) -> Option<gst::Pad> {
            None
        }
        fn running_time(&self) -> Option<gst::ClockTime> {
            None
        }
        fn channel_opened(&self, _: &str) {}
        fn message(&self, _: &str, message: &DataMessage) {
            let _ = self.1.lock().unwrap().recv();
            let _ = self.0.send(message.len());
        }
        fn channel_closed(&self, _: &str) {}
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_for_all_lanes_of_a_session_and_none_keeps_another_from_its_first_message() {
        let (done, pushed) = std::sync::mpsc::channel();
        let (go, gate) = std::sync::mpsc::channel();
        let gate = Arc::new(Gate(done, Mutex::new(gate)));
        let start = |number| Lane::start("lane", number, gate.clone(), Arc::default()).unwrap();
        let (held, other) = (start(0), start(1));
        let room = Arc::new(Semaphore::new(1000));
        let tell = |lane: &Lane, size: usize| lane.message(vec![0; size].into(), &room).now_or_never().is_some();
        assert!(tell(&held, 5000), "the first, however large");
        assert!(tell(&held, 600) && tell(&held, 400));
        assert!(!tell(&held, 1), "there is no room left");
        assert!(tell(&other, 300), "its first one");
        assert!(!tell(&other, 1), "nor is there for others");
        for _ in 0..4 {
            go.send(()).unwrap();
        }
        let mut sizes: Vec<usize> = (0..4).map(|_| pushed.recv().unwrap()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [300, 400, 600, 5000]);
        drop(go);
        held.stop();
        other.stop();
        assert_eq!(room.available_permits(), 1000);
    }
}
