//! Nobody makes the media port send more than he has sent to it: who writes another's address onto his datagrams would aim
//! it at that one.

use std::{net::UdpSocket, time::Duration};

use rtc::stun::{
    attributes::ATTR_USERNAME,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter, TransactionId},
    textattrs::Username,
};

use crate::common::{
    SOON, half_open,
    ingest::Ingest,
    publisher::{Options, Publisher},
    wait_until, whip,
};

/// A check with this user name and password.
fn check(username: &str, password: &str) -> Vec<u8> {
    let provider = rtc::crypto::default_provider().expect("a provider");
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::default()),
        Box::new(Username::new(ATTR_USERNAME, username.to_owned())),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).expect("a message");
    message.raw
}

#[test]
fn who_cannot_show_a_session_s_password_gets_no_byte_back() {
    let ingest = Ingest::start("auth-token=right");
    let (publisher, offer) = Publisher::describe(Options::default());
    let (_, answer) = whip::post(&ingest.url(), Some("right"), &offer).expect("an answer");
    publisher.accept(&answer);
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    // The name of a session is in each of its checks; its password never is.
    let ufrag = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("a name").trim().to_owned();
    let port = ingest.stats().get::<u32>("udp-port").expect("a port");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.connect(("127.0.0.1", u16::try_from(port).expect("a port"))).expect("the port");
    let mut client_hello = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 48];
    client_hello.resize(73, 7);
    let datagrams = [
        check(&format!("{ufrag}:peer"), "not the password at all"),
        check("nobody:peer", "not the password at all"),
        [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat(), // as to a STUN server
        [&[0, 3, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat(), // as to a TURN server
        [&[1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat(), // an answer to nothing
        client_hello,
        [&[0x80, 96][..], &[7; 1200]].concat(),
        [&[0x80, 200, 0, 6][..], &[7; 24]].concat(),
        vec![0; 1400],
        vec![0xFF],
        Vec::new(),
    ];
    let unknown = || {
        let stats = ingest.stats();
        let count = |name: &str| stats.get::<u64>(name).expect("a count");
        count("udp-dropped-unknown") + count("udp-dropped-forged")
    };
    let before = unknown();
    let (mut sent, mut bytes) = (0_u64, 0);
    for _ in 0..20 {
        for datagram in &datagrams {
            sent += 1;
            bytes += stranger.send(datagram).expect("sent");
        }
    }
    // All but the empty ones, which say nothing to anybody, are counted when they have been looked at.
    wait_until("all of them looked at", SOON, || (unknown() >= before + sent / 11 * 10).then_some(()));
    stranger.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let back = stranger.recv(&mut [0; 2048]);
    assert!(back.is_err(), "{back:?} bytes came back for {bytes}");
    publisher.end();
}

#[test]
fn a_check_that_was_seen_on_the_way_makes_few_more_bytes_when_it_is_sent_again_from_elsewhere() {
    let ingest = Ingest::start("connect-timeout=20000");
    let answer = half_open::post(&ingest.url(), &[]);
    let value =
        |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).expect("a value").trim().to_owned();
    let (ufrag, password) = (value("a=ice-ufrag:"), value("a=ice-pwd:"));
    let offered = half_open::offer(&[]);
    let theirs = offered.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("a name").trim().to_owned();
    let port = ingest.stats().get::<u32>("udp-port").expect("a port");
    let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    elsewhere.connect(("127.0.0.1", u16::try_from(port).expect("a port"))).expect("the port");
    elsewhere.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    let check = check(&format!("{ufrag}:{theirs}"), &password);
    elsewhere.send(&check).expect("sent");
    let (mut datagrams, mut buffer) = (0, [0; 2048]);
    // Who is there has not asked for media and says nothing: an answer, and checks after growing pauses.
    while datagrams < 40 && elsewhere.recv(&mut buffer).is_ok() {
        datagrams += 1;
        assert!(buffer[0] < 2, "nothing but STUN before it has answered: {:?}", &buffer[..4]);
    }
    assert!(datagrams < 40, "it goes on without end");
}
