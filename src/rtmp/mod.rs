//! A destination: takes encoded units, keeps a connection to an RTMP server, and never makes its caller wait.
//!
//! The policy is pure and split by question: [`Gate`] (does this unit go out?), [`Tagger`] (as which tags?),
//! [`Retry`] (what after a failure?), [`Watchdog`] (is it stalled?), [`KeyframeRequests`] (may a keyframe be asked
//! for?). The action is in three places: `feed` runs on the streaming threads, `worker` on the destination's one thread,
//! and `connection` is one inner pipeline `appsrc ! rtmp2sink`.

mod connection;
mod destination;
mod failure;
mod feed;
mod gate;
mod keyframes;
mod location;
pub mod platform;
mod retry;
mod tagger;
mod unit;
mod watchdog;
mod worker;

pub use destination::{Config, Destination, Observer, State, Stats, Timing};
pub use failure::Failure;
pub use gate::{Gate, Verdict};
pub use keyframes::{Cadence, KeyframeRequests};
pub use location::{Location, LocationError, redact};
pub use retry::{Decision, Retry};
pub use tagger::Tagger;
pub use unit::{Format, Track, Tracks, Unit};
pub use watchdog::Watchdog;
