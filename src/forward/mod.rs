//! A publisher's media to any number of viewers: packets go from one session to others, without GStreamer and without being
//! encoded again.
//!
//! ```text
//!   publisher's session ── Publication (a PacketSink) ──▶ Source ── Rewrite ──▶ Outlet of a viewer's session
//!                                                           │  ╰── Rewrite ──▶ …
//!                                                        History: what repairs come from, once for all
//! ```
//!
//! A [`Source`] outlives its publishers: when one goes or another takes its place, its viewers stay and go on at the next
//! keyframe. Which layer a viewer gets is decided in `select`, which of that stream's own layers in `thin`, how its packets are
//! numbered in `rewrite` and `numbering`; all are pure. How packets are paced, repeated and reported is the session's business.

mod clock;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[doc(hidden)]
pub mod measured;
mod numbering;
mod program;
mod recent;
mod retell;
mod rewrite;
mod select;
mod source;
mod state;
mod streams;
mod thin;
mod watching;
mod wish;

pub use {
    program::{Program, VideoLayer},
    select::LayerLimits,
    source::{Joining, Publication, Source, SourceStats, Viewer, ViewerChange},
    watching::{Invitation, WatchError, Watching, invite, watch},
};
