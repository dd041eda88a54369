//! The programs of examples/, run as processes of their own with real peers: webrtcbin, each other, an RTMP server.

#[path = "../common/mod.rs"]
mod common;

mod effects;
mod embedded;
mod help;
mod offerer_and_answerer;
mod transcriber;
