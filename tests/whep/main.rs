//! `webrtcingest` as a WHEP client, against servers that are not ours.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod ice_lite;
mod new_address;
mod recovers;
mod to_rtmp;
