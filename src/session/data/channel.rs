//! One data channel: what waits to be sent in it, what comes by it, its end.
//!
//! Whoever sends puts messages into a queue that is bounded in bytes; a task of the media runtime hands them to the stack,
//! no faster than the peer acknowledges. So sending needs no runtime of its own, and nobody outside ever waits for the
//! connection's lock.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use webrtc::data_channel::{DataChannel as StackChannel, DataChannelEvent};

use super::{
    DataError, DataMessage, DataOptions, DataSink, Reliability,
    stats::{ChannelStats, Counts},
};
use crate::session::time;

/// Bytes of one channel that may wait here: two of the largest messages.
const ROOM: usize = 512 * 1024;

/// Bytes of one channel that the stack may have on their way: a good 4 MB/s at 100 ms round trip.
pub(in crate::session) const IN_FLIGHT: usize = 512 * 1024;

/// What a message costs beside its bytes, so that empty ones are bounded as well.
const OVERHEAD: usize = 64;

/// How long a channel that we close may take to send what is waiting.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelEnd {
    /// Whoever had it on our side closed it.
    Closed,
    /// The peer closed it, or never accepted it.
    ByPeer,
    /// Its session is over.
    SessionOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    Over(ChannelEnd),
}

/// A handle on a data channel; all handles on a channel are equal.
#[derive(Clone)]
pub struct DataChannel {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    label: String,
    options: DataOptions,
    largest: usize,
    room: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Queued>, // what is in it is paid for with room
    state: watch::Sender<State>,
    counts: Counts,
    /// Those of all channels of the session.
    session: Arc<Counts>,
}

/// What is to be done, in order.
enum Queued {
    /// To be sent, with its share of the room.
    Message(DataMessage, OwnedSemaphorePermit),
    /// The sender is dropped once the peer has all that was sent before.
    Flush(oneshot::Sender<()>),
    /// The channel closes.
    Close,
}

/// What the tasks of a channel have of it.
pub(super) struct Work {
    channel: DataChannel,
    /// Until it is open.
    queued: Option<mpsc::UnboundedReceiver<Queued>>,
    sink: Arc<dyn DataSink>,
}

impl DataChannel {
    /// A channel that is not open yet.
    pub(super) fn new(
        id: u64,
        label: String,
        options: DataOptions,
        largest: usize,
        session: Arc<Counts>,
        sink: Arc<dyn DataSink>,
    ) -> (Self, Work) {
        let (queue, queued) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ROOM));
        let (state, counts) = (watch::Sender::new(State::Connecting), Counts::default());
        let inner = Inner { id, label, options, largest, room, queue, state, counts, session };
        let channel = Self { inner: Arc::new(inner) };
        (channel.clone(), Work { channel, queued: Some(queued), sink })
    }

    /// A number of its own among the channels of its session, in the order in which they came into being.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Its label; several channels may have the same one.
    pub fn label(&self) -> &str {
        &self.inner.label
    }

    /// Order, reliability and protocol, as agreed upon. Of a channel that the peer has opened the stack does not tell the
    /// reliability; what we send by it is sent reliably and in order, whatever was agreed upon.
    pub fn options(&self) -> &DataOptions {
        &self.inner.options
    }

    /// The largest message that can be sent.
    pub fn largest(&self) -> usize {
        self.inner.largest
    }

    /// Bytes that wait to be sent, with a little for each message; what is on its way does not count.
    pub fn buffered(&self) -> usize {
        ROOM - self.inner.room.available_permits().min(ROOM)
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.inner.state.borrow() == State::Open
    }

    /// Whether it is closed; it will not open again.
    pub fn is_closed(&self) -> bool {
        matches!(*self.inner.state.borrow(), State::Over(_))
    }

    /// Waits until it is open.
    pub async fn opened(&self) -> Result<(), DataError> {
        let mut state = self.inner.state.subscribe();
        match state.wait_for(|state| *state != State::Connecting).await.as_deref() {
            Ok(State::Open) => Ok(()),
            _ => Err(DataError::Closed),
        }
    }

    /// Waits until it is closed.
    pub async fn closed(&self) -> ChannelEnd {
        let mut state = self.inner.state.subscribe();
        match state.wait_for(|state| matches!(state, State::Over(_))).await.as_deref() {
            Ok(State::Over(end)) => *end,
            _ => ChannelEnd::SessionOver,
        }
    }

    /// Sends a message; waits while there is no room for it. Any thread and any executor may do so.
    pub async fn send(&self, message: impl Into<DataMessage>) -> Result<(), DataError> {
        let message = message.into();
        let room = match self.admit(&message) {
            Ok(cost) => self.inner.room.clone().acquire_many_owned(cost).await.map_err(|_| DataError::Closed),
            Err(error) => Err(error),
        };
        self.queue(message, room)
    }

    /// Sends a message if there is room for it at once. One that is not sent is counted as dropped.
    pub fn try_send(&self, message: impl Into<DataMessage>) -> Result<(), DataError> {
        let message = message.into();
        let room = self.admit(&message).and_then(|cost| {
            self.inner.room.clone().try_acquire_many_owned(cost).map_err(|_| match self.is_closed() {
                true => DataError::Closed,
                false => DataError::Full,
            })
        });
        self.queue(message, room)
    }

    /// Closes it, after what is waiting has been sent.
    pub fn close(&self) {
        let _ = self.inner.queue.send(Queued::Close); // or it is closed already
    }

    /// To wait until the peer has what has been sent so far; `None` if there is nothing to wait for.
    pub(super) fn flushed(&self) -> Option<oneshot::Receiver<()>> {
        let is_idle = !self.is_open() && self.buffered() == 0;
        let (done, flushed) = oneshot::channel();
        (!is_idle && self.inner.queue.send(Queued::Flush(done)).is_ok()).then_some(flushed)
    }

    /// What it costs to keep the message, if it may be sent.
    fn admit(&self, message: &DataMessage) -> Result<u32, DataError> {
        let (size, most) = (message.len(), self.inner.largest);
        if size > most {
            return Err(DataError::TooLarge { size, most });
        }
        u32::try_from(size + OVERHEAD).map_err(|_| DataError::TooLarge { size, most })
    }

    fn queue(&self, message: DataMessage, room: Result<OwnedSemaphorePermit, DataError>) -> Result<(), DataError> {
        let queued =
            room.and_then(|room| self.inner.queue.send(Queued::Message(message, room)).map_err(|_| DataError::Closed));
        if queued.is_err() {
            self.count(|counts| _ = counts.dropped.fetch_add(1, Relaxed));
        }
        queued
    }

    fn count(&self, count: impl Fn(&Counts)) {
        count(&self.inner.counts);
        count(&self.inner.session);
    }

    /// It is open now, unless it is closed already.
    fn open(&self) -> bool {
        self.inner.state.send_if_modified(|state| {
            let is_news = *state == State::Connecting;
            if is_news {
                *state = State::Open;
            }
            is_news
        })
    }

    /// Ends it, if it has not ended yet; returns what ended it.
    pub(super) fn end(&self, end: ChannelEnd) -> ChannelEnd {
        let mut ended = end;
        self.inner.state.send_if_modified(|state| {
            if let State::Over(before) = *state {
                ended = before;
                return false;
            }
            *state = State::Over(end);
            true
        });
        self.inner.room.close();
        ended
    }

    /// What has been counted.
    pub(super) fn stats(&self) -> ChannelStats {
        let counts = &self.inner.counts;
        ChannelStats {
            label: self.inner.label.clone(),
            messages_sent: counts.messages_sent.load(Relaxed),
            bytes_sent: counts.bytes_sent.load(Relaxed),
            messages_received: counts.messages_received.load(Relaxed),
            bytes_received: counts.bytes_received.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            buffered: self.buffered() as u64,
        }
    }
}

impl PartialEq for DataChannel {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for DataChannel {}

impl std::fmt::Debug for DataChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = *self.inner.state.borrow();
        f.debug_struct("DataChannel")
            .field("id", &self.id())
            .field("label", &self.label())
            .field("state", &state)
            .finish()
    }
}

impl Work {
    /// Does what there is to do for the channel until it is over. It is given back if the peer closed it before it was open.
    pub(super) async fn run(mut self, stack: Arc<dyn StackChannel>) -> Result<(), Self> {
        let channel = self.channel.clone();
        // What the peer said before it closed is handed over first; our own end is not waited for.
        let end = tokio::select! {
            () = self.receive(&stack) => None,
            end = channel.closed() => Some(end),
        };
        if end.is_none() && *channel.inner.state.borrow() == State::Connecting {
            return Err(self);
        }
        let _ = stack.close().await; // or it is closed already
        self.end(end.unwrap_or(ChannelEnd::ByPeer)).await;
        Ok(())
    }

    /// The channel is over, or never came to be.
    pub(super) async fn end(mut self, end: ChannelEnd) {
        let end = self.channel.end(end);
        if let Some(queued) = self.queued.take() {
            drop_all(&self.channel, queued).await;
        }
        self.sink.closed(&self.channel, end);
    }

    async fn receive(&mut self, stack: &Arc<dyn StackChannel>) {
        let Self { channel, queued, sink } = self;
        while let Some(event) = stack.poll().await {
            match event {
                DataChannelEvent::OnOpen => {
                    if let Some(queued) = queued.take().filter(|_| channel.open()) {
                        sink.opened(channel);
                        tokio::spawn(send_all(channel.clone(), queued, stack.clone(), sink.clone()));
                    }
                }
                DataChannelEvent::OnMessage(message) => {
                    channel.count(|counts| counts.received(message.data.len()));
                    let bytes = message.data.freeze();
                    let message = match message.is_string {
                        false => Some(DataMessage::Binary(bytes)),
                        true => String::from_utf8(bytes.into()).ok().map(DataMessage::Text),
                    };
                    match message {
                        Some(message) => sink.message(channel, message).await,
                        None => channel.count(|counts| _ = counts.malformed.fetch_add(1, Relaxed)),
                    }
                }
                DataChannelEvent::OnClose => return,
                _ => {}
            }
        }
    }
}

async fn send_all(
    channel: DataChannel,
    mut queued: mpsc::UnboundedReceiver<Queued>,
    stack: Arc<dyn StackChannel>,
    sink: Arc<dyn DataSink>,
) {
    let mut was_short = false;
    let over = channel.closed();
    tokio::pin!(over);
    loop {
        let next = tokio::select! {
            biased;
            _ = &mut over => break,
            next = queued.recv() => next,
        };
        let (message, room) = match next {
            Some(Queued::Message(message, room)) => (message, room),
            Some(Queued::Flush(done)) => {
                acknowledged(&*stack).await;
                drop(done);
                continue;
            }
            Some(Queued::Close) | None => {
                acknowledged(&*stack).await;
                channel.end(ChannelEnd::Closed);
                break;
            }
        };
        was_short |= channel.buffered() > ROOM / 2;
        let size = message.len();
        let sent = match message {
            DataMessage::Text(text) => stack.send_text(&text).await,
            DataMessage::Binary(bytes) => stack.send(BytesMut::from(bytes)).await,
        };
        match sent {
            Ok(()) => channel.count(|counts| counts.sent(size)),
            Err(error) => {
                tracing::debug!(%error, channel = channel.id(), "a data message was not sent");
                channel.count(|counts| _ = counts.dropped.fetch_add(1, Relaxed));
            }
        }
        drop(room);
        if was_short && channel.buffered() <= ROOM / 2 {
            was_short = false;
            sink.buffered_low(&channel);
        }
    }
    drop_all(&channel, queued).await;
}

/// Counts what was never sent. What somebody is just putting in is waited for: it would be counted by nobody, and who waits for a
/// flush would wait for ever.
async fn drop_all(channel: &DataChannel, mut queued: mpsc::UnboundedReceiver<Queued>) {
    queued.close();
    while let Some(left) = queued.recv().await {
        if matches!(left, Queued::Message(..)) {
            channel.count(|counts| _ = counts.dropped.fetch_add(1, Relaxed));
        }
    }
}

/// Waits until the peer has all that was sent; not for ever.
async fn acknowledged(stack: &dyn StackChannel) {
    let until = time::now() + GOODBYE;
    while time::now() < until && stack.outstanding_bytes().await.is_ok_and(|outstanding| outstanding > 0) {
        tokio::time::sleep(Duration::from_millis(10)).await; // the stack tells nobody
    }
}

/// The options of a channel that the peer has opened, as far as the stack tells.
pub(super) async fn options(stack: &dyn StackChannel) -> Option<DataOptions> {
    let (ordered, protocol) = (stack.ordered().await.ok()?, stack.protocol().await.ok()?);
    Some(DataOptions { ordered, reliability: Reliability::Reliable, protocol })
}

#[cfg(test)]
mod tests;
