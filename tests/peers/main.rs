//! What is sent, and both directions at once: `webrtcegress` to viewers and servers, two peers in a channel, echo, data.

#[path = "../common/mod.rs"]
mod common;
#[path = "../socket_support/mod.rs"]
mod socket_support;
#[path = "../whip_support/mod.rs"]
mod whip_support;

mod both_directions;
mod data_pads;
mod echoes;
mod egress_pushes;
mod egress_serves;
mod meeting;
mod others_watch;
mod pushes_by_the_rules;
mod two_elements;
mod two_peers;
mod viewers_talk;
