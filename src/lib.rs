//! WebRTC in, RTMP out, as GStreamer elements.
//!
//! Media goes one way, and so do the modules; each imports only from those above it or beside it as the table in
//! `tests/architecture.rs` allows:
//!
//! ```text
//!   browser ──HTTP──▶ signaling          offers and answers (WHIP; WHEP as a client), restarts, the page
//!                        │ OfferAnswerer (a trait that signaling declares)
//!   browser ══UDP══▶ session             one peer connection: ICE, DTLS, SRTP, NACK, layers, keyframe requests
//!                        │ PacketSink (a trait that session declares)
//!                       rtp              the one crossing from tokio to GStreamer: order, sync, depayload, parse
//!                        │
//!                     [ pads ]           webrtcingest's video_%u and audio_%u
//!                        │  … the user's own elements …
//!                     [ pads ]           rtmpbridgesink's video and audio
//!                        │
//!                     transcode          decode → convert → encode, only where passthrough is not possible
//!                        │
//!                       flv              access units and frames become FLV tags
//!                        │
//!                       rtmp             destinations: gate, connection, reconnect ══TCP══▶ RTMP servers
//! ```
//!
//! And out again, without or with GStreamer:
//!
//! ```text
//!   session ─▶ forward ─▶ sessions        a publisher to its viewers (WHEP, /ws): nothing is encoded again
//!   [ pads ] ─▶ transcode ─▶ rtp ─▶ forward ─▶ sessions      webrtcegress: to viewers, a peer, or back to the publisher
//! ```
//!
//! A bridge server (`webrtcbridgebin`, [`WebRtcServer`]) is this for many publishers: `bridge` runs a pipeline of its own for
//! each, whose `webrtcingest` takes the connection that the server has answered, under a name that `channel` keeps.
//!
//! The upper half (`codec`, `channel`, `signaling`, `session`, `flv`, `rtmp_client`, `backoff`, `reachable`) knows nothing of GStreamer and builds with
//! `--no-default-features`. Start reading at [`webrtcingest`], [`webrtcegress`] or [`rtmpbridgesink`]; `docs/architecture.md` is the one
//! page for people who change things.

// core: no GStreamer
pub mod backoff;
pub mod channel;
pub mod codec;
pub mod flv;
pub mod forward;
mod reachable;
pub mod rtmp_client;
pub mod session;
pub mod signaling;

#[doc(hidden)]
#[cfg(any(test, fuzzing))]
pub mod fuzzing;

// stages: GStreamer, no element
#[cfg(feature = "plugin")]
pub mod bridge;
#[cfg(feature = "plugin")]
pub mod rtmp;
#[cfg(feature = "plugin")]
pub mod rtp;
#[cfg(feature = "plugin")]
pub mod transcode;

// elements: thin
#[cfg(feature = "plugin")]
mod plugin;
#[cfg(feature = "plugin")]
pub mod rtmpbridgesink;
#[cfg(feature = "plugin")]
mod runtime;
#[cfg(feature = "plugin")]
pub mod webrtcbridgebin;
#[cfg(feature = "plugin")]
pub mod webrtcegress;
#[cfg(feature = "plugin")]
pub mod webrtcingest;

#[cfg(feature = "plugin")]
pub use {bridge::WebRtcServer, plugin::plugin_register_static};
