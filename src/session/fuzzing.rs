//! Entries for the fuzz targets in `fuzz/`: what takes bytes from the network, without a network. No other use.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{mux::fuzzing as mux, remote_candidates::RemoteCandidates};

/// Picks the candidates of a description; what is left has no more of them than are checked.
pub fn remote_candidates(sdp: &str) {
    let kept = RemoteCandidates::new(false).keep_admitted(sdp);
    assert!(kept.len() <= sdp.len(), "something was added");
}

/// Routes a datagram that comes from an unknown address, and from where a session's peer is.
pub fn route(datagram: &[u8]) {
    let now = Instant::now();
    mux::route(datagram, [SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2))], now);
    mux::route(datagram, [SocketAddr::from(([192, 0, 2, 1], 1)); 2], now + Duration::from_secs(1));
}

/// Puts handshake messages together: the datagram, and its halves.
pub fn handshake(datagram: &[u8]) {
    mux::handshake(datagram);
}
