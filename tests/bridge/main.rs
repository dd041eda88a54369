//! `webrtcbridgebin`: a bridge server with real sessions, from its start to its end.

#[path = "../common/mod.rs"]
mod common;
#[path = "../socket_support/mod.rs"]
mod socket_support;

mod contract;
mod endurance;
mod faults;
mod lifecycle;
mod limits;
mod metrics;
mod sessions;
mod soak;
mod viewers;
mod viewers_at_the_end;
mod viewers_on_networks;
mod webrtcbin_watches;
mod websocket_to_rtmp;
