//! Destinations: each takes encoded units, keeps a connection to an RTMP server, and never makes its caller wait.
//!
//! The policy is pure and split by question: [`Gate`] (does this unit go out?), [`Tagger`] (as which tags?),
//! [`Retry`] (what after a failure?), [`Watchdog`] (is it stalled?), [`KeyframeRequests`] (may a keyframe be asked
//! for?), `roster` (is anybody left?). The action: `destinations` fans units out to all, `feed` runs one destination's part
//! of that on the streaming threads, `worker` is a destination's task, which opens and watches connections of `rtmp_client`,
//! and `news` passes on what it has to say. Destinations share one thread and the data of units; none waits for another.

mod destination;
mod destinations;
mod failure;
mod feed;
#[cfg(test)]
pub(crate) mod fuzzing;
mod gate;
mod keyframes;
mod location;
mod locations;
mod news;
pub mod platform;
mod retry;
mod roster;
mod tagger;
mod unit;
mod watchdog;
mod worker;

pub use destination::{Config, State, Stats};
pub use destinations::{Destinations, Observer};
pub use failure::Failure;
pub use gate::{Gate, Lag, Verdict};
pub use keyframes::{Cadence, KeyframeRequests};
pub use location::{Location, LocationError, redact};
pub use locations::{LocationsError, parse_locations};
pub use retry::{Decision, Retry};
pub use tagger::Tagger;
pub use unit::{Format, Track, Tracks, Unit};
pub use watchdog::Watchdog;
