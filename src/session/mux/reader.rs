//! Reads the shared port and hands each datagram to its session.

use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use webrtc::runtime::{BATCH_SIZE, RecvMeta};

use super::{
    Shared,
    detour::is_detour,
    routes::{News, Route},
    socket::Channel,
};
use crate::session::time;

/// Reads the socket in batches until it is aborted.
pub(super) async fn read(shared: &Shared) {
    let segment = shared.wire.gro_segments().max(1) * 1500;
    let mut memory = vec![0_u8; segment * BATCH_SIZE];
    let mut meta = vec![RecvMeta::default(); BATCH_SIZE];
    let mut woken: Vec<Arc<Channel>> = Vec::new();
    loop {
        if let Err(error) = shared.wire.readable().await {
            tracing::warn!(%error, "the shared UDP socket cannot be read any more");
            return;
        }
        let mut buffers: Vec<IoSliceMut<'_>> = memory.chunks_mut(segment).map(IoSliceMut::new).collect();
        let Ok(count) = shared.wire.try_recv(&mut buffers, &mut meta) else { continue }; // WouldBlock, or an ICMP error of some peer
        let now = time::now();
        for (meta, buffer) in meta.iter().zip(memory.chunks(segment)).take(count) {
            let Some(received) = buffer.get(..meta.len) else { continue };
            // A dual-stack socket shows IPv4 as IPv6; all that follows wants it as what it is, without a scope.
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let to = meta.dst_ip.map(|to| to.to_canonical());
            if is_detour(from.ip()) {
                shared.counters.forged.fetch_add(1, Relaxed);
                continue;
            }
            for datagram in received.chunks(meta.stride.max(1)) {
                shared.counters.received.fetch_add(1, Relaxed);
                if let Some(channel) = dispatch(shared, from, to, datagram, now)
                    && !woken.iter().any(|w| Arc::ptr_eq(w, &channel))
                {
                    woken.push(channel);
                }
            }
        }
        for channel in woken.drain(..) {
            channel.wake();
        }
    }
}

/// Hands over one datagram that came by a detour; true if it was a session's.
pub(super) fn deliver(shared: &Shared, from: SocketAddr, datagram: &[u8], now: Instant) -> bool {
    shared.counters.received.fetch_add(1, Relaxed);
    let channel = dispatch(shared, from, None, datagram, now);
    if let Some(channel) = &channel {
        channel.wake();
    }
    channel.is_some()
}

/// Hands one datagram to its session; returns the session to be woken.
fn dispatch(
    shared: &Shared,
    from: SocketAddr,
    to: Option<IpAddr>,
    datagram: &[u8],
    now: Instant,
) -> Option<Arc<Channel>> {
    let route = shared.routes().route(from, to, datagram, now);
    let (channel, shown) = match route {
        Route::Session { channel, shown, news } => {
            match news {
                News::None => {}
                News::Moved => _ = shared.counters.rebinds.fetch_add(1, Relaxed),
                News::Elsewhere => {
                    let check = channel.peer().probe(from, || shared.checks().take(now), now);
                    if let Some(check) = check {
                        shared.send(from, to, &check);
                    }
                }
            }
            (channel, shown)
        }
        Route::Over(answer) => {
            shared.counters.unknown.fetch_add(1, Relaxed);
            shared.send(from, to, &answer);
            return None;
        }
        // An answer of the STUN server is expected from there and from nowhere else.
        Route::Unknown if shared.reflexive().answered(from, datagram) => return None,
        Route::Unknown => {
            shared.counters.unknown.fetch_add(1, Relaxed);
            return None;
        }
        Route::Forged => {
            shared.counters.forged.fetch_add(1, Relaxed);
            return None;
        }
    };
    if !channel.admits(datagram, now) {
        shared.counters.forged.fetch_add(1, Relaxed);
        return None;
    }
    let instead = channel.flight.received(datagram, now);
    let pushed = match instead {
        None => channel.push(shown, datagram),
        Some(datagrams) => datagrams.iter().all(|datagram| channel.push(shown, datagram)),
    };
    if !pushed {
        shared.counters.overflowed.fetch_add(1, Relaxed);
    }
    Some(channel)
}
