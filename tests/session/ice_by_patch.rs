//! What a publisher tells of its ICE by PATCH reaches the media port: candidates are checked, a restart has credentials of
//! its own.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use crate::common::{SOON, half_open, ingest::Ingest, wait_until, whip};
use rtc::stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USERNAME, RawAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId},
    textattrs::{TextAttribute, Username},
};

/// A session of an offer without candidates, and its answer.
fn session(ingest: &Ingest) -> (whip::Resource, String) {
    whip::post(&ingest.url(), None, &half_open::offer(&[])).expect("201")
}

fn value(sdp: &str, name: &str) -> String {
    sdp.lines().find_map(|line| line.strip_prefix(name)).expect("a value").trim().to_owned()
}

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

fn candidate(address: SocketAddr) -> String {
    format!(
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 {} typ host\r\n",
        address.port()
    )
}

fn received(socket: &UdpSocket) -> Option<Message> {
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    let mut message = Message { raw: buffer[..length].to_vec(), ..Message::default() };
    message.decode().ok().map(|()| message)
}

/// Waits for a check of ours for this user fragment.
fn wait_checked(socket: &UdpSocket, ufrag: &str) {
    wait_until("a check", SOON, || {
        let message = received(socket).filter(|message| message.typ == BINDING_REQUEST)?;
        let name = TextAttribute::get_from_as(&message, ATTR_USERNAME).expect("a USERNAME").text;
        name.starts_with(&format!("{ufrag}:")).then_some(())
    });
}

/// Whether a check with these credentials is answered, asked some times.
fn is_answered(socket: &UdpSocket, bridge: SocketAddr, ufrag: &str, password: &str, tries: usize) -> bool {
    let provider = rtc::crypto::default_provider().expect("crypto");
    (0..tries).any(|_| {
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
        let setters: Vec<Box<dyn Setter>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(Username::new(ATTR_USERNAME, format!("{ufrag}:efgh"))),
            Box::new(RawAttribute { typ: ATTR_PRIORITY, length: 4, value: vec![110, 0, 30, 255] }),
            Box::new(RawAttribute { typ: ATTR_ICE_CONTROLLING, length: 8, value: vec![7; 8] }),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ];
        let mut request = Message::new();
        request.build(&setters).expect("a message");
        socket.send_to(&request.raw, bridge).expect("sent");
        (0..4).any(|_| {
            let answer = received(socket);
            answer.is_some_and(|a| a.typ == BINDING_SUCCESS && a.transaction_id == request.transaction_id)
        })
    })
}

#[test]
fn a_candidate_that_is_trickled_is_checked() {
    let ingest = Ingest::start("");
    let (resource, _) = session(&ingest);
    let (socket, address) = socket();
    let (status, body) = resource.patch(&candidate(address));
    assert_eq!((status, body.as_str()), (204, ""));
    wait_checked(&socket, "abcd");
    resource.delete();
}

#[test]
fn after_a_restart_checks_go_by_the_new_credentials_of_both_sides() {
    let ingest = Ingest::start("");
    let (resource, answer) = session(&ingest);
    let (socket, address) = socket();
    let port: u32 = ingest.stats().get("udp-port").expect("a port");
    let bridge = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")));
    let restart = format!("a=ice-ufrag:efgh\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n{}", candidate(address));
    let (status, fragment) = resource.patch(&restart);
    assert_eq!(status, 200, "{fragment}");
    let (ufrag, password) = (value(&fragment, "a=ice-ufrag:"), value(&fragment, "a=ice-pwd:"));
    assert_ne!((&ufrag, &password), (&value(&answer, "a=ice-ufrag:"), &value(&answer, "a=ice-pwd:")));
    wait_checked(&socket, "efgh");
    assert!(is_answered(&socket, bridge, &ufrag, &password, 40), "the new credentials lead to the session");
    assert!(!is_answered(&socket, bridge, &ufrag, &value(&answer, "a=ice-pwd:"), 2), "the old password does not");
    let (stale, problem) = resource.patch("a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n");
    assert_eq!(stale, 412, "credentials that a restart has replaced begin no other: {problem}");
    resource.delete();
}
