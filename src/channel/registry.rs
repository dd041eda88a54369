//! What a registry of channels does, and the words it speaks in.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;

use super::{ChannelId, Presence, PublisherLease};

/// The channels of one server, or of several as one. Every operation is done when it returns.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Makes a channel with a key of its own, without a publisher.
    async fn create(&self, channel: NewChannel) -> Result<Created, CreateError>;

    /// All channels that are no private ones, in order of their creation.
    async fn list(&self) -> Vec<ChannelInfo>;

    /// One channel.
    async fn get(&self, id: &ChannelId) -> Option<ChannelInfo>;

    /// Whether `key` is the channel's stream key; compared in constant time.
    async fn key_fits(&self, id: &ChannelId, key: Option<&str>) -> KeyFit;

    /// Makes the caller the channel's publisher; a channel that does not exist is made, without a key. If it takes another's
    /// place, that one is told through its lease, and this returns when it has gone (or has been given 2 s for it). Of
    /// several that want the place at once all but one get an error.
    async fn publish(&self, id: &ChannelId, claim: Claim) -> Result<PublisherLease, PublishError>;

    /// Counts somebody who is there without publishing, until the presence is dropped. A sign of life. For viewers there are
    /// no private channels.
    async fn enter(&self, id: &ChannelId, visitor: Visitor) -> Result<Presence, EnterError>;

    /// A sign of life of the channel, such as a signaling message.
    async fn touch(&self, id: &ChannelId);

    /// Ends the channel: the id is free, and this returns when its publisher has gone (or has been given 2 s for it). False
    /// if there is none.
    async fn stop(&self, id: &ChannelId) -> bool;

    /// What changes from here on. A receiver that lags behind reads [`Registry::list`] anew.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// What a channel's maker says of it. Lengths and sizes have been checked by who read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewChannel {
    /// For people.
    pub title: Option<String>,
    /// For lists.
    pub category: Option<String>,
    /// Whatever the application wants to keep with it, as JSON text.
    pub metadata: Option<String>,
}

/// A channel that was made.
pub struct Created {
    /// Its id.
    pub id: ChannelId,
    /// Its stream key: the bearer token of its publisher. Told once, to its maker; only a digest is kept.
    pub key: String,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("id", &self.id).field("key", &"***").finish()
    }
}

/// What anybody may know of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its id.
    pub id: ChannelId,
    /// For people.
    pub title: Option<String>,
    /// For lists.
    pub category: Option<String>,
    /// JSON text of its maker.
    pub metadata: Option<String>,
    /// Somebody publishes.
    pub is_live: bool,
    /// What is published is for its publisher, who gets it back: no broadcast, though whoever knows of it may watch.
    pub is_private: bool,
    /// How many watch.
    pub viewers: u32,
    /// When it was made.
    pub created: SystemTime,
    /// Whether only who has its stream key (or a token for publishing) may publish.
    pub has_key: bool,
}

/// Who somebody is, as far as his credential tells. Two with the same credential count as one person.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Without any: never the same as anybody.
    Anonymous,
    /// A digest of what was shown.
    Shown([u8; 32]),
}

impl Credential {
    /// Of a bearer token, or of a name that a token proves (such as a JWT's `sub`).
    pub fn of(secret: &str) -> Self {
        Self::Shown(Sha256::digest(secret).into())
    }

    /// Whether both are of the same person. Digests: nothing can be learned from how long it takes.
    pub fn is_same_as(self, other: Self) -> bool {
        self != Self::Anonymous && self == other
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Shown(_) => "Shown(***)",
        })
    }
}

/// Who wants to publish.
#[derive(Clone)]
pub struct Claim {
    /// What he showed.
    pub credential: Credential,
    /// When his last media packet came; `None` before the first. Asked when somebody else wants the channel, with the
    /// registry locked: it may not call the registry, nor wait.
    pub last_media: Arc<dyn Fn() -> Option<Instant> + Send + Sync>,
    /// A channel that is made for it stands in no list, and nobody watches it.
    pub is_private: bool,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// Whether a text is a channel's stream key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFit {
    /// There is no such channel, or it has no key.
    NoKey,
    /// It has a key, and this is not it.
    Wrong,
    /// It is.
    Right,
}

/// Why a channel was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There are as many as there may be.
    #[error("there are {0} channels already, which is the most that there may be")]
    Full(usize),
}

/// Why somebody cannot publish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Somebody else is live, or was quicker.
    #[error("another publisher is live on this channel")]
    Live,
    /// The channel was stopped while its publisher-to-be waited for the one before him to go.
    #[error("the channel has been stopped")]
    Stopped,
    /// There are as many channels as there may be.
    #[error(transparent)]
    Full(#[from] CreateError),
}

/// Who enters a channel without publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Somebody who watches: counted as such. There has to be a channel.
    Viewer,
    /// Somebody who takes part: a channel that does not exist is made, without a key.
    Member,
}

/// Why somebody cannot enter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// There is nothing to watch.
    #[error("there is no channel {0}")]
    NoChannel(ChannelId),
    /// There are as many channels as there may be.
    #[error(transparent)]
    Full(#[from] CreateError),
}

/// A change of what [`Registry::list`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A channel is new, or something of it changed.
    Changed(ChannelId),
    /// A channel is gone.
    Gone(ChannelId),
}
