//! A channel for programs: what comes is awaited, what goes is awaited, nothing is called back.
//!
//! ```
//! # use gstwebrtcbridge::session::{DataMessage, Terms, data::{Adapter, Event}};
//! let (mut adapter, sink) = Adapter::new();
//! let terms = Terms { sends: None, data: Some(sink) }; // for Session::exchange or Offering::with
//! # let _ = terms;
//! # async move {
//! while let Some(event) = adapter.next().await {
//!     if let Event::Message(channel, DataMessage::Text(text)) = event {
//!         // The pipeline's part; meanwhile the peer is held up by what waits here.
//!         let result = text.to_uppercase();
//!         let _ = channel.send(result).await; // waits for room; an error says that the channel is closed
//!     }
//! }
//! # };
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{ChannelEnd, DataChannel, DataMessage, DataSink};

/// Messages that wait to be taken, 4 MB at most; those that follow wait at the peer.
const MOST_WAITING: usize = 16;

/// Takes what comes by the data channels of one session.
pub struct Adapter {
    news: mpsc::UnboundedReceiver<News>,
    messages: mpsc::Receiver<(DataChannel, DataMessage)>,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A channel is open, whoever made it.
    Opened(DataChannel),
    /// A message has come.
    Message(DataChannel, DataMessage),
    /// A channel is closed.
    Closed(DataChannel, ChannelEnd),
}

/// Channels are few, so their news are not bounded; of a message it is only told that it is there.
enum News {
    Opened(DataChannel),
    Message,
    Closed(DataChannel, ChannelEnd),
}

struct Sink {
    news: mpsc::UnboundedSender<News>,
    messages: mpsc::Sender<(DataChannel, DataMessage)>,
}

impl Adapter {
    /// The adapter, and what is to be given to the session.
    pub fn new() -> (Self, Arc<dyn DataSink>) {
        let (news, told) = mpsc::unbounded_channel();
        let (messages, taken) = mpsc::channel(MOST_WAITING);
        (Self { news: told, messages: taken }, Arc::new(Sink { news, messages }))
    }

    /// The next thing that happens, in order; `None` once the session is over. Any executor may await it.
    pub async fn next(&mut self) -> Option<Event> {
        Some(match self.news.recv().await? {
            News::Opened(channel) => Event::Opened(channel),
            News::Closed(channel, end) => Event::Closed(channel, end),
            News::Message => {
                let (channel, message) = self.messages.recv().await?;
                Event::Message(channel, message)
            }
        })
    }

    /// The next message, whatever else happens; `None` once the session is over.
    pub async fn receive(&mut self) -> Option<(DataChannel, DataMessage)> {
        loop {
            if let Event::Message(channel, message) = self.next().await? {
                return Some((channel, message));
            }
        }
    }
}

#[async_trait]
impl DataSink for Sink {
    fn opened(&self, channel: &DataChannel) {
        let _ = self.news.send(News::Opened(channel.clone())); // or nobody is interested any more
    }

    async fn message(&self, channel: &DataChannel, message: DataMessage) {
        // The place first: it is told of what is there.
        if let Ok(place) = self.messages.reserve().await {
            place.send((channel.clone(), message));
            let _ = self.news.send(News::Message);
        }
    }

    fn closed(&self, channel: &DataChannel, end: ChannelEnd) {
        let _ = self.news.send(News::Closed(channel.clone(), end));
    }
}
