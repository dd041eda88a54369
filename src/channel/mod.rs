//! Channels: names that publishers and viewers meet under, and who holds which.
//!
//! A [`Registry`] knows all channels of one server. It keeps nothing on disk, speaks no protocol and knows nothing of
//! media: whoever publishes holds a [`PublisherLease`], and dropping it gives the channel up, for whatever reason.

mod id;
mod lease;
mod registry;

pub use {
    id::{BadChannelId, ChannelId},
    lease::{Displaced, PublisherLease},
    registry::{
        Change, ChannelInfo, Claim, CreateError, Created, Credential, KeyFit, NewChannel, PublishError, Registry,
        SILENCE,
    },
};
