//! A bridge server's sessions: each publisher gets a pipeline of its own, and nothing of it reaches the others.
//!
//! ```text
//!   signaling ─▶ Sessions (an OfferAnswerer) ─▶ run: one task a session
//!                   admission: how many             │ Registry::publish        its channel
//!                                                   │ SessionBuilder           its pipeline, on the server's clock
//!                                                   │    description: parsed, {channel} and {session} filled in
//!                                                   │    peer: a GstContext by which elements find the connection
//!                                                   │    sending: what they have for the way back
//!                                                   │ Session::answer          its connection
//!                                                   │ channels                 the source that viewers watch
//!                                                   └ Observer                 what is told of it
//! ```
//!
//! Those who watch are `viewers`: no pipeline, a connection each.
//!
//! `webrtcbridgebin` is this with properties; [`WebRtcServer`] is it for Rust programs. Both hold no logic.

mod admission;
mod application;
mod call;
mod calling;
mod channels;
pub(crate) mod connecting;
mod connection_state;
mod description;
mod embed;
mod hearing;
mod marker;
mod monitor;
mod notices;
mod peer;
mod pipeline;
mod placeholders;
pub(crate) mod properties;
mod quotes;
pub(crate) mod reach;
mod report;
mod run;
mod sending;
mod server;
mod sessions;
mod signaled;
mod viewers;
mod words;

pub(crate) use {
    application::Application,
    calling::{AttemptError, Calls, Client, Counts as ClientCounts, Learned, Parts as ClientParts, Stop, goodbye},
    notices::Notices,
    server::Server,
    signaled::{Signaled, ours, told},
};
pub use {
    call::{CallConfig, CallCounts, CallObserver, CallState, RunError, Seat},
    connection_state::ConnectionState,
    description::{Description, DescriptionError},
    embed::{ServerHandle, WebRtcServer},
    peer::{Peer, PeerError},
    reach::{IceTransportPolicy, config as reach_config},
    report::{Observer, SessionChange, SessionState, SessionView, Totals},
    sending::Sending,
    server::{ServerConfig, ServerError},
    sessions::SessionBuilder,
    viewers::{Sources, ViewerData, ViewerView, Viewers, ViewersConfig},
};
