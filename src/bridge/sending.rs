//! The outgoing half of a session's connection, as the element that sends sees it.
//!
//! ```text
//!   READY→PAUSED   Peer::send                      the element says that it sends
//!   an offer       sends(incoming) ─▶ Sends        what it could send, in which formats
//!   its answer     answered(&Answered)             what the peer takes, in which format each, and where packets go
//! ```
//!
//! It may be asked and told again: the peer of a `ws://` connection may go, and another one come.

use std::sync::Arc;

use crate::{
    forward::Source,
    session::{Answered, Sends, Track},
};

/// What has something to send to the peer of a session: an element in its pipeline. Called on threads of the runtimes:
/// decide, hand over and return.
pub trait Sending: Send + Sync + 'static {
    /// What there is to send, or may be once media has come, and who hears what the peer wants. `incoming` is what the peer
    /// is going to send, as far as it is known: what only passes through the pipeline comes in these codecs, so they should
    /// be the first of those that can be sent. Whether the session receives is not for this to say.
    fn sends(&self, incoming: &[Track]) -> Sends;

    /// What the peer takes of it: the index of `answered.outgoing` is that of what [`sends`](Self::sends) has told. Comes
    /// before any media does.
    fn answered(&self, answered: &Answered);

    /// Where the same is to be had for others: the channel's viewers get this in place of what the peer publishes.
    fn source(&self) -> Option<Arc<Source>> {
        None
    }
}
