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

use crate::session::{Answered, DataSink, Sends, Track};

/// What has something to send to the peer of a session: an element in its pipeline. Other viewers of the
/// channel get the same by [`Peer::feed_viewers`](super::Peer::feed_viewers).
pub trait Sending: Send + Sync + 'static {
    /// Called on a thread that may wait. What there is to send, or may be once media has come, and who hears what the peer wants. `incoming` is what the peer
    /// is going to send, as far as it is known: what only passes through the pipeline comes in these codecs, so they should
    /// be the first of those that can be sent. Whether the session receives is not for this to say.
    fn sends(&self, incoming: &[Track]) -> Sends;

    /// Who hears what the peer says by data channels, beside whoever receives its media. Where neither wants to there are none.
    fn hears(&self) -> Option<Arc<dyn DataSink>>;

    /// Called on a runtime's thread: hand over and return. What the peer takes of it: the index of `answered.outgoing` is that of what [`sends`](Self::sends) has told. Nothing,
    /// if it came by WHIP, which goes one way. Comes before any media does.
    fn answered(&self, answered: &Answered);
}
