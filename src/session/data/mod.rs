//! Data channels (RFC 8831): messages between a session and its peer, beside its media or alone.
//!
//! A session that is given a [`DataSink`] takes channels that its peer opens, and opens its own
//! ([`Session::open_channel`](super::Session::open_channel)); either way there is a [`DataChannel`] to send by. What is
//! waiting to be sent is bounded: [`DataChannel::send`] waits for room, [`DataChannel::try_send`] counts what finds none.
//! What comes is handed over one message at a time, and a sink that takes its time slows its peer down, nobody else. How many
//! channels a peer may open is bounded too; one that goes on regardless is hung up on.
//!
//! Programs use an [`Adapter`], which is a sink to be awaited. `channel` is one channel, `channels` all of a session, `section` what the descriptions say of them.

mod adapter;
mod burden;
mod channel;
mod channels;
mod section;
mod stats;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
pub use {
    adapter::{Adapter, Event},
    channel::{ChannelEnd, DataChannel},
    stats::{ChannelStats, DataStats},
};

pub(super) use {
    channel::IN_FLIGHT,
    channels::Channels,
    section::{PeerData, peer_data, widen, widen_section},
};

/// The largest message, sent or received: what browsers announce and what the stack can take.
pub const LARGEST_MESSAGE: usize = 256 * 1024;

/// The longest label, and the longest protocol name, in bytes.
pub const LONGEST_LABEL: usize = 1024;

/// Takes what comes by data channels. Called on the media runtime.
#[async_trait]
pub trait DataSink: Send + Sync + 'static {
    /// A channel is open, whoever made it. Must not block.
    fn opened(&self, channel: &DataChannel);

    /// A message has come. The channel's next one is handed over after this has returned: to wait is to slow the peer down
    /// (with it the connection's other channels, in the end). To block the thread is not allowed.
    async fn message(&self, channel: &DataChannel, message: DataMessage);

    /// Nothing more will come by this channel. Not called for one that was never [opened](Self::opened), unless we made it.
    fn closed(&self, channel: &DataChannel, end: ChannelEnd);

    /// At least half of the room of a channel is free again, after it was less. Must not block.
    fn buffered_low(&self, _channel: &DataChannel) {}
}

/// Two who hear the same, the first one first. The slower one sets the pace.
pub struct Both(pub Arc<dyn DataSink>, pub Arc<dyn DataSink>);

#[async_trait]
impl DataSink for Both {
    fn opened(&self, channel: &DataChannel) {
        self.0.opened(channel);
        self.1.opened(channel);
    }

    async fn message(&self, channel: &DataChannel, message: DataMessage) {
        self.0.message(channel, message.clone()).await;
        self.1.message(channel, message).await;
    }

    fn closed(&self, channel: &DataChannel, end: ChannelEnd) {
        self.0.closed(channel, end);
        self.1.closed(channel, end);
    }

    fn buffered_low(&self, channel: &DataChannel) {
        self.0.buffered_low(channel);
        self.1.buffered_low(channel);
    }
}

/// A message: text and bytes are told apart on the wire (RFC 8831 section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataMessage {
    /// UTF-8 text; may be empty.
    Text(String),
    /// Bytes; may be none.
    Binary(Bytes),
}

impl DataMessage {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it is empty, as a message may be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for DataMessage {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for DataMessage {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for DataMessage {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for DataMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// What a channel promises for each message (RFC 8832 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliability {
    /// It arrives.
    #[default]
    Reliable,
    /// It is sent again so often at most.
    Retransmits(u16),
    /// It is sent again for so long at most; whole milliseconds, a little over a minute at most.
    Lifetime(Duration),
}

/// How a channel that we open shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOptions {
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
    /// Whether they arrive at all.
    pub reliability: Reliability,
    /// The name of what is spoken in it; may be empty.
    pub protocol: String,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self { ordered: true, reliability: Reliability::Reliable, protocol: String::new() }
    }
}

/// Why something was not sent, or a channel not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The descriptions have no section for data channels, or there is nobody to take what would come by one.
    #[error("no data channels were agreed upon with this peer")]
    NotNegotiated,
    /// It is more than the peer takes, or than we send.
    #[error("a message of {size} bytes is too large: this peer takes {most}")]
    TooLarge {
        /// Its length.
        size: usize,
        /// What is possible.
        most: usize,
    },
    /// As much is waiting to be sent as may be.
    #[error("the data channel's send buffer is full")]
    Full,
    /// The channel is closed.
    #[error("the data channel is closed")]
    Closed,
    /// So many are open already.
    #[error("{0} data channels are open, which is the most")]
    TooMany(usize),
    /// The label or the protocol's name.
    #[error("a data channel's {what} may have {LONGEST_LABEL} bytes, not {size}")]
    LongName {
        /// "label" or "protocol".
        what: &'static str,
        /// Its length.
        size: usize,
    },
}
