//! The inner half of the fuzz targets' entries: one session, and datagrams for it.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use rtc::stun::{
    integrity::MessageIntegrity,
    message::{Message, Setter},
};

use super::{
    IceCredentials,
    fragments::Fragments,
    framing::{Broken, Frames, Framing, framed},
    routes::{Route, Routes},
    socket::Channel,
    stun,
};

pub(in crate::session) use super::relay::fuzzing::relay;

pub(super) const PASSWORD: &str = "0123456789012345678901";

/// A port with the session `ours`, whose peer is at this address.
fn session(peer: SocketAddr, now: Instant) -> (Routes, Arc<Channel>) {
    let (mut routes, channel) = (Routes::default(), Arc::<Channel>::default());
    routes.insert(&channel, IceCredentials { ufrag: "ours".into(), password: PASSWORD.into() });
    channel.peer().path.selected(peer, now);
    channel.peer().set_remote_password(PASSWORD.into());
    (routes, channel)
}

/// Routes a datagram from the second address, where the session has its peer at the first; then once it has ended.
pub(in crate::session) fn route(datagram: &[u8], [peer, from]: [SocketAddr; 2], now: Instant) {
    let (mut routes, channel) = session(peer, now);
    match routes.route(from, None, datagram, now) {
        Route::Session { .. } => assert!(stun::integrity_holds(datagram, PASSWORD), "a stranger's datagram was taken"),
        Route::Over(_) => panic!("the session goes on"),
        Route::Unknown | Route::Forged => assert_eq!(channel.peer().path.outward(peer), peer, "it moved the peer"),
    }
    routes.remove(&channel);
    match routes.route(from, None, datagram, now) {
        Route::Session { .. } => panic!("there is no session"),
        Route::Over(_) => assert!(stun::integrity_holds(datagram, PASSWORD), "a stranger was told"),
        Route::Unknown | Route::Forged => {}
    }
}

/// Routes a check with these attributes and the session's integrity, and the same with others behind it, which nobody has
/// vouched for and which therefore say nothing (RFC 8489 section 14.5). What stands behind the first half is `attributes`
/// of the latter kind.
pub(in crate::session) fn signed(attributes: &[u8], [peer, from]: [SocketAddr; 2], now: Instant) {
    let (own, behind) = attributes.split_at(attributes.len() / 8 * 4);
    let Some(whole) = with_integrity(own) else { return };
    assert!(stun::integrity_holds(&whole, PASSWORD), "our own integrity is not believed");
    let behind = behind.split_at(behind.len() / 4 * 4).0;
    let mut longer = [&whole, behind].concat();
    set_length(&mut longer);
    assert_eq!(stun::local_ufrag(&longer), stun::local_ufrag(&whole), "the user fragment is not vouched for");
    assert_eq!(stun::nominates(&longer), stun::nominates(&whole), "the nomination is not vouched for");
    for datagram in [whole, longer] {
        let (mut routes, channel) = session(peer, now);
        let genuine = stun::integrity_holds(&datagram, PASSWORD);
        match routes.route(from, None, &datagram, now) {
            Route::Session { .. } => assert!(genuine, "a forged check was taken"),
            Route::Over(_) => panic!("the session goes on"),
            Route::Forged => assert!(!genuine, "a check was refused"),
            Route::Unknown => assert_ne!(stun::local_ufrag(&datagram), Some("ours"), "a check went nowhere"),
        }
        // Whatever it was, the peer is where it was or where a check came from.
        let now_at = channel.peer().path.outward(peer);
        assert!(now_at == peer || now_at == from, "the peer moved to {now_at}");
    }
}

/// A binding request of these attributes; `None` if they are none.
pub(super) fn with_integrity(attributes: &[u8]) -> Option<Vec<u8>> {
    let mut raw = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12], attributes].concat();
    set_length(&mut raw);
    let mut message = Message { raw, ..Message::default() };
    message.decode().ok()?;
    // Those that have one of their own are the other half's business.
    (!message.contains(rtc::stun::attributes::ATTR_MESSAGE_INTEGRITY)).then_some(())?;
    let provider = rtc::crypto::default_provider().ok()?;
    MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.to_owned(), provider.crypto())
        .add_to(&mut message)
        .ok()?;
    Some(message.raw)
}

fn set_length(message: &mut [u8]) {
    let length = (message.len() - 20) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Puts handshake messages together: the datagram, and its halves.
pub(in crate::session) fn handshake(datagram: &[u8]) {
    let mut fragments = Fragments::default();
    let (first, second) = datagram.split_at(datagram.len() / 2);
    let mut last = None;
    for part in [datagram, first, second, datagram] {
        for mut rest in fragments.take(part).iter().map(Vec::as_slice) {
            while let Some((header, tail)) = rest.split_first_chunk::<13>() {
                let [.., e0, e1, n0, n1, n2, n3, n4, n5, l0, l1] = *header;
                let number = u64::from_be_bytes([0, 0, n0, n1, n2, n3, n4, n5]);
                if (e0, e1) == (0, 0) {
                    assert!(last.replace(number).is_none_or(|last| last < number), "number {number} is a replay");
                }
                let length = usize::from(u16::from_be_bytes([l0, l1]));
                let Some((_, tail)) = tail.split_at_checked(length) else { panic!("a record without its end") };
                rest = tail;
            }
            assert!(rest.is_empty(), "something stands behind the records");
        }
    }
    assert!(fragments.len() <= 8, "{} messages are kept", fragments.len());
}

/// Takes the datagrams out of a stream of bytes, of which the first says how they are framed and in what portions they come.
pub(in crate::session) fn frames(input: &[u8]) {
    let Some((first, stream)) = input.split_first() else { return };
    let framing = if first & 1 == 0 { Framing::Rfc4571 } else { Framing::Turn };
    let whole = taken(framing, stream, stream.len());
    assert_eq!(taken(framing, stream, usize::from(first >> 1)), whole, "portions make a difference");
    let (datagrams, end) = whole;
    match framing {
        Framing::Rfc4571 => {
            let written: Vec<u8> =
                datagrams.iter().filter_map(|datagram| framed(framing, datagram)).flatten().collect();
            assert!(stream.starts_with(&written), "something else is written than was read");
        }
        Framing::Turn => {
            let read: usize = datagrams.iter().map(Vec::len).sum();
            assert!(read <= stream.len(), "more is read than came");
        }
    }
    assert!(framing == Framing::Turn || end == Ok(()), "any bytes are a length");
}

/// All datagrams of a stream that comes in such portions, and whether it is broken.
fn taken(framing: Framing, stream: &[u8], portion: usize) -> (Vec<Vec<u8>>, Result<(), Broken>) {
    let (mut frames, mut datagrams) = (Frames::new(framing), Vec::new());
    for bytes in stream.chunks(portion.max(1)) {
        frames.push(bytes);
        loop {
            match frames.next() {
                Ok(Some(datagram)) => datagrams.push(datagram),
                Ok(None) => break,
                Err(broken) => return (datagrams, Err(broken)),
            }
        }
    }
    (datagrams, Ok(()))
}
