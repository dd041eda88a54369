//! The inner half of the fuzz targets' entries: one session, and a datagram for it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    IceCredentials,
    fragments::Fragments,
    routes::{Route, Routes},
    socket::Channel,
    stun,
};

/// Routes a datagram from the second address, where the session `ours` has its peer at the first.
pub(in crate::session) fn route(datagram: &[u8], [peer, from]: [SocketAddr; 2], now: Instant) {
    let mut routes = Routes::default();
    let channel: Arc<Channel> = Arc::default();
    let password = "0123456789012345678901".to_owned();
    routes.insert(&channel, IceCredentials { ufrag: "ours".into(), password: password.clone() });
    channel.peer().path.selected(peer, now);
    channel.peer().set_remote_password(password.clone());
    match routes.route(from, None, datagram, now) {
        Route::Session { .. } => assert!(stun::integrity_holds(datagram, &password), "a stranger's datagram was taken"),
        Route::Unknown | Route::Forged | Route::Over(_) => {
            assert_eq!(channel.peer().path.outward(peer), peer, "it moved the peer")
        }
    }
}

/// Puts handshake messages together: the datagram, and its halves.
pub(in crate::session) fn handshake(datagram: &[u8]) {
    let mut fragments = Fragments::default();
    let (first, second) = datagram.split_at(datagram.len() / 2);
    for part in [datagram, first, second, datagram] {
        fragments.take(part);
    }
    assert!(fragments.len() <= 9, "{} messages are kept", fragments.len());
}
