//! Entries for the fuzz targets in `fuzz/`: what takes text and bytes from the network, without a network. No other use.

mod media;
mod stack;

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    CodecPreferences, RemoteCandidate, RemoteIce, RtpPacket, Track,
    accepted::{Accepted, Choice, Offered, accepted},
    bundle::one_transport,
    candidates,
    data::{self, LARGEST_MESSAGE},
    exchange::{Exchange, Outgoing, exchange},
    ice,
    mux::{IceCredentials, fuzzing as mux},
    narrow::narrow,
    red::Unwrap,
    remote_candidates::RemoteCandidates,
    restart,
};
use crate::codec::Codec;

pub use {
    media::media,
    stack::{dtls, sctp},
};

/// Answers an offer as far as that goes without the stack: what the stack gets to see means the same tracks.
pub fn offer(sdp: &str) {
    let sdp = &one_transport(sdp).unwrap_or_else(|_| sdp.to_owned());
    let kept = RemoteCandidates::new(false).keep_admitted(sdp);
    assert!(kept.len() <= sdp.len(), "something was added");
    let _ = candidates::rewrite(sdp, &candidates::lines(&[[192, 0, 2, 1].into()], 5000));
    if let Some(credentials) = IceCredentials::of_description(sdp) {
        let _ = ice::restarted(sdp, credentials.ufrag(), credentials.password(), &[]);
    }
    let preferences = CodecPreferences::default();
    let to_send = [Codec::H264, Codec::Vp8, Codec::Opus].map(|codec| Outgoing::of(codec, ""));
    for (incoming, outgoing) in [(Some(&preferences), &[][..]), (Some(&preferences), &to_send), (None, &to_send)] {
        let Ok(found) = exchange(sdp, incoming, outgoing, true) else { continue };
        let Exchange { incoming: taken, outgoing: sent, sections, data } = found;
        assert!(data.is_none_or(|data| data.largest <= LARGEST_MESSAGE), "{data:?}");
        let Ok(narrowed) = narrow(sdp, &sections) else { panic!("what was negotiated is not narrowed") };
        match exchange(&narrowed, incoming, outgoing, true) {
            Ok(seen) => {
                assert!(taken.iter().map(essence).eq(seen.incoming.iter().map(essence)), "{taken:?} became {seen:?}");
                assert!(sent.iter().map(essence).eq(seen.outgoing.iter().map(essence)), "{sent:?} became {seen:?}");
            }
            Err(error) => panic!("the stack would get {narrowed:?}: {error}"),
        }
    }
}

/// What a track is, apart from parameters that the answer may change.
fn essence(track: &Track) -> impl PartialEq + use<> {
    let formats = (track.codec, track.payload_type, track.channels, track.rtx, track.red);
    (track.index, track.mid.clone(), formats, track.ssrcs.clone(), track.feedback.clone())
}

/// Reads an answer, and hears one packet of each payload type.
pub fn answer(sdp: &str) {
    let codecs = CodecPreferences::default();
    let to_send = [Codec::H264, Codec::Vp8, Codec::Opus].map(|codec| Outgoing::of(codec, ""));
    let offered = Offered { incoming: Some(&codecs), outgoing: &to_send, data: true };
    let Ok(Accepted { incoming, outgoing, .. }) = accepted(sdp, &offered) else { return };
    assert!(outgoing.iter().all(|track| track.index < to_send.len()), "{outgoing:?}");
    if data::widen(sdp).is_err() {
        panic!("what has been read cannot be read");
    }
    let count = incoming.len();
    let (mut choice, now) = (Choice::new(incoming), Instant::now());
    assert_eq!(choice.first_formats().len(), count, "a section without a format");
    for payload_type in 0..128 {
        choice.heard(payload_type, now);
    }
    let Some(tracks) = choice.heard(0, now + Duration::from_secs(1)) else { panic!("a track stays open") };
    assert_eq!(tracks.len(), count);
}

/// Takes a trickled candidate: what goes on to the stack is a UDP candidate, and each address counts once.
pub fn candidate(line: &str) {
    let told =
        RemoteIce { candidates: vec![RemoteCandidate { mid: None, line: line.to_owned() }; 2], ..RemoteIce::default() };
    let mut remote = RemoteCandidates::new(false);
    if restart::check(&told).is_ok() {
        let admitted = restart::admitted(&mut remote, &told);
        assert!(admitted.is_empty() || admitted.len() == 2, "the second is as good as the first");
    }
}

/// Routes a datagram that comes from an unknown address, and from where a session's peer is; and the same once more as
/// the attributes of a check that has the session's integrity.
pub fn route(datagram: &[u8]) {
    let now = Instant::now();
    let [peer, elsewhere] = [1, 2].map(|host| SocketAddr::from(([192, 0, 2, host], 1)));
    mux::route(datagram, [peer, elsewhere], now);
    mux::route(datagram, [peer, peer], now);
    mux::signed(datagram, [peer, elsewhere], now);
}

/// Takes datagrams out of what comes by TCP.
pub fn frames(stream: &[u8]) {
    mux::frames(stream);
}

/// Asks a TURN server for an allocation.
pub fn relay(messages: &[u8]) {
    mux::relay(messages);
}

/// Puts handshake messages together: the datagram, and its halves.
pub fn handshake(datagram: &[u8]) {
    mux::handshake(datagram);
}

/// Unwraps redundant audio: packets of the form sequence number, payload length, payload, one behind the other.
pub fn red(mut packets: &[u8]) {
    const RED: u8 = 63;
    const OPUS: u8 = 111;
    let mut unwrap = Unwrap::new(RED, OPUS);
    let (mut sequence_number, mut newest, mut delivered) = (0_u16, None, HashSet::new());
    while let Some((&[step, length], rest)) = packets.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        packets = rest;
        // Small steps either way, as with loss and reordering.
        sequence_number = sequence_number.wrapping_add_signed((step as i8 / 16).into());
        let packet = RtpPacket {
            dependencies: None,
            marker: false,
            payload_type: RED,
            sequence_number,
            timestamp: u32::from(sequence_number).wrapping_mul(960),
            ssrc: 1,
            payload: Bytes::copy_from_slice(payload),
            arrival: Instant::now(),
        };
        let (mut count, mut bytes) = (0, 0);
        let _ = unwrap.accept(packet, |packet| {
            let number = packet.sequence_number;
            assert_eq!(packet.payload_type, OPUS);
            let newest = newest.get_or_insert(number);
            if number.wrapping_sub(*newest) < 0x8000 {
                *newest = number;
            }
            // What is further back is not remembered.
            if newest.wrapping_sub(number) <= 64 {
                assert!(delivered.insert(number), "{number} came twice");
            }
            delivered.retain(|number| newest.wrapping_sub(*number) <= 64);
            (count, bytes) = (count + 1, bytes + packet.payload.len());
        });
        assert!(count <= 9 && bytes <= payload.len(), "{count} packets of {bytes} bytes out of {}", payload.len());
    }
}
