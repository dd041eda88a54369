//! What comes by data channels, on its way to the pads: which channel has which pad, and how much may wait.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::lane::{self, Lane};
use crate::session::{ChannelEnd, DataChannel, DataMessage, DataSink};

/// The element's side: it owns the pads. Called on the threads of the lanes, which may block.
pub trait DataReceiver: Send + Sync + 'static {
    /// Makes the pad of this number, active and with `caps`, and adds it to the element.
    fn add_data_pad(&self, number: usize, caps: Option<&gst::Caps>) -> Option<gst::Pad>;
    /// The element's running time; `None` while it does not play.
    fn running_time(&self) -> Option<gst::ClockTime>;
    /// A channel has been opened.
    fn channel_opened(&self, label: &str);
    /// A message has come; its pad gets it next.
    fn message(&self, label: &str, message: &DataMessage);
    /// A channel has been closed.
    fn channel_closed(&self, label: &str);
}

/// Counters over all sessions of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataInStats {
    /// Messages pushed downstream.
    pub messages: u64,
    /// Messages that no pad took: it was not linked, or downstream was over.
    pub unlinked: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) messages: AtomicU64,
    pub(super) unlinked: AtomicU64,
}

/// The data pads of one element.
pub struct DataIn {
    name: String,
    receiver: Arc<dyn DataReceiver>,
    counts: Arc<Counts>,
    /// By the pad's number; those that a channel has.
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    all: Vec<(Arc<Lane>, bool)>,
    over: bool,
}

impl DataIn {
    /// For the element behind `receiver`; `name` is for its threads.
    pub fn new(name: &str, receiver: Arc<dyn DataReceiver>) -> Self {
        Self { name: name.to_owned(), receiver, counts: Arc::default(), lanes: Mutex::default() }
    }

    /// Counters so far.
    pub fn stats(&self) -> DataInStats {
        DataInStats { messages: self.counts.messages.load(Relaxed), unlinked: self.counts.unlinked.load(Relaxed) }
    }

    /// Ends every pad, after what is on its way; nothing can follow. A launch line waits for the first pad even if no channel
    /// was ever opened.
    pub fn end_of_stream(&self) {
        let mut lanes = self.lock();
        if !lanes.over && lanes.all.is_empty() {
            lanes.all.extend(self.lane(0).map(|lane| (lane, false)));
        }
        lanes.over = true;
        for (lane, _) in &lanes.all {
            lane.end_of_stream();
        }
    }

    /// Stops the threads; pads stay as they are. Downstream must not be blocking for good.
    pub fn stop(&self) {
        let lanes = {
            let mut lanes = self.lock();
            lanes.over = true;
            std::mem::take(&mut lanes.all)
        };
        for (lane, _) in lanes {
            lane.stop();
        }
    }

    /// The first lane that no channel has.
    fn take(&self) -> Option<(usize, Arc<Lane>)> {
        let mut lanes = self.lock();
        if lanes.over {
            return None;
        }
        if let Some((number, (lane, taken))) = lanes.all.iter_mut().enumerate().find(|(_, (_, taken))| !taken) {
            *taken = true;
            return Some((number, lane.clone()));
        }
        let number = lanes.all.len();
        let lane = self.lane(number)?;
        lanes.all.push((lane.clone(), true));
        Some((number, lane))
    }

    fn give_back(&self, number: usize) {
        if let Some((_, taken)) = self.lock().all.get_mut(number) {
            *taken = false;
        }
    }

    fn lane(&self, number: usize) -> Option<Arc<Lane>> {
        let name = format!("{}:data_{number}", self.name);
        match Lane::start(&name, number, self.receiver.clone(), self.counts.clone()) {
            Ok(lane) => Some(Arc::new(lane)),
            Err(error) => {
                tracing::warn!(%error, "no thread for a data pad");
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's end of the data pads.
pub struct DataFeed {
    data: Arc<DataIn>,
    /// By the channel's number.
    channels: Mutex<Vec<(u64, usize, Arc<Lane>)>>,
    /// For what waits in its lanes.
    room: Arc<Semaphore>,
}

impl DataFeed {
    /// For a session to come.
    pub fn new(data: Arc<DataIn>) -> Self {
        Self { data, channels: Mutex::default(), room: lane::room() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, usize, Arc<Lane>)>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DataSink for DataFeed {
    fn opened(&self, channel: &DataChannel) {
        if let Some((number, lane)) = self.data.take() {
            lane.opened(channel);
            self.lock().push((channel.id(), number, lane));
        }
    }

    async fn message(&self, channel: &DataChannel, message: DataMessage) {
        let lane = self.lock().iter().find(|(id, ..)| *id == channel.id()).map(|(.., lane)| lane.clone());
        match lane {
            Some(lane) => lane.message(message, &self.room).await,
            None => _ = self.data.counts.unlinked.fetch_add(1, Relaxed),
        }
    }

    fn closed(&self, channel: &DataChannel, _: ChannelEnd) {
        let closed = {
            let mut channels = self.lock();
            let place = channels.iter().position(|(id, ..)| *id == channel.id());
            place.map(|place| channels.swap_remove(place))
        };
        if let Some((_, number, lane)) = closed {
            lane.closed();
            self.data.give_back(number);
        }
    }
}
