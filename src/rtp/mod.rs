//! The one crossing from tokio to GStreamer: RTP packets in, whole frames with timestamps out.
//!
//! ```text
//!  media thread                 │ crossing thread             │ jitter buffer's threads
//!  SessionFeed (a PacketSink) ──┼─▶ queue ─▶ source pad ─▶ rtpjitterbuffer ─▶ depayloader ─▶ parser ─▶ ghost pad
//! ```
//!
//! The jitter buffer restores order and finds losses. Timestamps are put on what leaves it (`restamp`), by a policy that
//! keeps all tracks of a session on one clock (`sync`).
//!
//! The way out (`payload`) needs none of that: a chain's end cuts frames into packets and hands them over.
//!
//! The queue is bounded: a crossing that cannot keep up drops packets and counts them, the network never waits. The
//! element says what becomes of the pads by implementing [`Receiver`].

mod av1;
mod backlog;
mod caps;
mod chain;
mod crossing;
pub mod data;
mod elements;
mod loss_gate;
mod numbering;
mod packet;
mod payload;
mod queue;
mod restamp;
mod sync;
mod worker;

#[cfg(test)]
pub(crate) use av1::fuzzing;
pub use {
    caps::media as announced_caps,
    chain::{Chain, Counts},
    crossing::{Crossing, CrossingStats, Receiver, SessionFeed},
    elements::{ChainError, missing},
    payload::{Payload, Payloader, Payloads, missing_to_send, rtp_time},
    restamp::SessionClock,
    sync::SyncStats,
};
