//! Channels: names that publishers and viewers meet under, and who holds which.
//!
//! A [`Registry`] knows all channels of one server. It keeps nothing on disk, speaks no protocol and knows nothing of
//! media: whoever publishes holds a [`PublisherLease`], and dropping it gives the channel up, for whatever reason.
//!
//! ```text
//!   Registry      what can be asked for; all that others know
//!      └ MemoryRegistry   one process's: lock, timer, waiting
//!           └ book        its rules: who may publish, what expires; no clock of its own
//!                └ takeover
//! ```

mod book;
mod id;
mod lease;
mod memory;
mod registry;
mod takeover;

pub use {
    id::{BadChannelId, ChannelId},
    lease::{Displaced, Presence, PublisherLease},
    memory::{ChannelLimits, MemoryRegistry},
    registry::{
        Change, ChannelInfo, Claim, CreateError, Created, Credential, EnterError, KeyFit, NewChannel, PublishError,
        Registry, Visitor,
    },
    takeover::{Present, SILENCE, may_replace},
};
