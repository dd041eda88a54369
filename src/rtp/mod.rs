//! The one crossing from tokio to GStreamer: RTP packets in, whole frames with timestamps out.
//!
//! ```text
//!  media thread                          │ a thread for each track
//!  SessionFeed (a PacketSink) ─▶ inlet ──┼─▶ numbering ─▶ reorder ─▶ clock ─▶ depayloader ─▶ parser ─▶ ghost pad
//!                             ─▶ queue ──┼─▶ begin, end, state, EOS: the crossing thread
//! ```
//!
//! `reorder` restores order and finds losses, `cut_short` pictures that end too early without one. Timestamps are put on what leaves it, by a policy that keeps all tracks of a
//! session on one clock (`sync`). A `lane` is the thread; tracks have one each, because downstream may let one wait for the
//! other.
//!
//! The way out (`payload`) needs none of that: a chain's end cuts frames into packets and hands them over.
//!
//! Queues are bounded: who cannot keep up drops packets and counts them, the network never waits. The element says what becomes of the pads by implementing [`Receiver`].

mod av1;
mod caps;
mod chain;
mod clock;
mod crossing;
mod cut_short;
pub mod data;
mod elements;
mod inlet;
mod lane;
mod loss_gate;
#[cfg(test)]
mod networks;
mod numbering;
mod packet;
mod payload;
mod queue;
mod reorder;
mod sync;
mod worker;

#[cfg(test)]
pub(crate) use av1::fuzzing;
pub use {
    caps::media as announced_caps,
    chain::{Chain, Counts},
    clock::SessionClock,
    crossing::{Crossing, CrossingStats, Receiver, SessionFeed},
    elements::{ChainError, missing},
    payload::{Payload, Payloader, Payloads, missing_to_send, rtp_time},
    sync::SyncStats,
};
