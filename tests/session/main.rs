//! Peer connections as peers and strangers meet them: answers, media ports, loss, and forwarding. Real peers are at the
//! other end.

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod consent;
mod data_channels;
mod encrypted_alone;
mod forged_addresses;
mod forwarding;
mod fresh_connects;
mod hostile_input_harms_nobody;
mod ice_by_patch;
mod mapped_addresses;
mod media_ports;
mod nat;
mod nat_rebinding;
mod no_amplification;
mod offering;
mod over_tcp;
mod recovery;
mod relaying;
mod sending;
mod stack_failures;
mod unwanted_checks;
