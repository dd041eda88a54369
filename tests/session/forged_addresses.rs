//! What comes with a publisher's address on it is not always the publisher's: neither its address nor its allowances go to
//! whoever writes that address.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::common::{
    SOON, half_open,
    ingest::Ingest,
    lossy::LossyPath,
    publisher::{Options, Publisher},
    wait_until,
};
use rtc::stun::{
    attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute},
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter, TransactionId},
    textattrs::Username,
};

/// A nominating check for the session of this answer, by whoever posted its offer.
fn check(answer: &str) -> Vec<u8> {
    let value =
        |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).expect("a value").trim().to_owned();
    let (ufrag, password) = (value("a=ice-ufrag:"), value("a=ice-pwd:"));
    let provider = rtc::crypto::default_provider().expect("crypto");
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, format!("{ufrag}:abcd"))),
        Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: Vec::new() }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())),
    ];
    let mut message = Message::new();
    message.build(&setters).expect("a message");
    message.raw
}

#[test]
fn who_publishes_on_the_same_port_cannot_take_anothers_address() {
    let (ingest, other) = (Ingest::start(""), Ingest::start(""));
    let path = LossyPath::percent(0);
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));

    let answer = half_open::post(&other.url(), &[]);
    let (stop, forging) = (Arc::new(AtomicBool::new(false)), path.clone());
    let stopped = stop.clone();
    // More often than media comes, so that nothing of it would be left.
    let forger = std::thread::spawn(move || {
        while !stopped.load(SeqCst) {
            forging.forge(&check(&answer));
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let before = ingest.frames();
    wait_until("frames all the same", Duration::from_secs(6), || (ingest.frames() > before + 240).then_some(()));
    stop.store(true, SeqCst);
    forger.join().expect("the forger");
    assert_eq!((ingest.state().as_str(), ingest.has_ended()), ("connected", None));
    publisher.assert_unharmed();
    publisher.delete();
    path.stop();
}

#[test]
fn forged_streams_before_media_keep_the_publishers_own_out_of_nothing() {
    const FORGED: u32 = 1000;
    let ingest = Ingest::start("");
    let this = Arc::<OnceLock<LossyPath>>::default();
    let (forging, once) = (this.clone(), AtomicBool::new(false));
    let path = LossyPath::new(move |_, datagram| {
        // The handshake: the address is known by now, and media has not begun.
        if matches!(datagram.first(), Some(20..=63)) && !once.swap(true, SeqCst) {
            for ssrc in 1..=FORGED {
                let packet = [&[0x80, 96, 0, 1, 0, 0, 0, 2][..], &ssrc.to_be_bytes(), &[0; 30]].concat();
                forging.get().expect("the path").forge(&packet);
            }
        }
        false
    });
    assert!(this.set(path.clone()).is_ok());
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));
    let forged: u64 = ingest.stats().get("udp-dropped-forged").expect("a figure");
    assert!(forged >= u64::from(FORGED) / 2, "{forged}: the flood did not come to its end");
    publisher.delete();
    path.stop();
}
