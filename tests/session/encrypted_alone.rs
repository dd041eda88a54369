//! Media is SRTP of the peer that the description names, or nothing (RFC 8827 section 6.5): another certificate than the
//! announced one gets nowhere, and what is not encrypted is no media, wherever it comes from.

use std::sync::{Arc, Mutex};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    publisher::{Options, Publisher},
    wait_until, whip,
};

/// Another fingerprint than the offer's.
fn forged(offer: &str) -> String {
    let lines = offer.lines().map(|line| match line.strip_prefix("a=fingerprint:") {
        Some(_) => format!("a=fingerprint:sha-256 {}\r\n", ["0A"; 32].join(":")),
        None => format!("{line}\r\n"),
    });
    lines.collect()
}

#[test]
fn who_has_another_certificate_than_the_offer_says_is_never_connected() {
    // It takes either side of the handshake.
    for setup in [None, Some("active")] {
        let ingest = Ingest::start("connect-timeout=5000");
        let (publisher, offer) = Publisher::describe(Options { setup, ..Options::default() });
        assert!(forged(&offer) != offer);
        let (_, answer) = whip::post(&ingest.url(), None, &forged(&offer)).expect("an answer");
        publisher.accept(&answer);
        let reason = wait_until("the end", SOON, || ingest.has_ended());
        assert!(reason.contains("never connected"), "{setup:?}: {reason}");
        assert_eq!(ingest.frames(), 0, "{setup:?}");
    }
}

#[derive(Default)]
struct Wire {
    /// Nothing of the publisher's media arrives.
    cut: bool,
    /// Its latest packet of RTP.
    last: Vec<u8>,
    /// How many arrived.
    passed: u64,
}

#[test]
fn media_and_reports_that_are_not_encrypted_are_ignored_although_they_come_from_the_publishers_address() {
    let ingest = Ingest::start("");
    let wire = Arc::<Mutex<Wire>>::default();
    let looking = wire.clone();
    let path = LossyPath::new(move |direction, datagram| {
        let mut wire = looking.lock().expect("lock");
        // RTP, and not the reports beside it (RFC 5761 section 4).
        if direction == Direction::ToBridge && matches!(datagram, [128..=191, kind, ..] if !(192..=223).contains(kind))
        {
            wire.last = datagram.to_vec();
            wire.passed += u64::from(!wire.cut);
            return wire.cut;
        }
        false
    });
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    wire.lock().expect("lock").cut = true;
    let before = wait_until("an end of media", SOON, || {
        let before = ingest.frames();
        std::thread::sleep(std::time::Duration::from_millis(300));
        (ingest.frames() == before).then_some(before)
    });
    // What comes next, and a goodbye, in the clear: slices that are a packet each.
    let last = wire.lock().expect("lock").last.clone();
    let mut packet = [&[0x80, last[1] | 0x80], &last[2..12], &[0x65, 0x88, 0x84][..], &[0x55; 40]].concat();
    for _ in 0..200 {
        let number = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(1);
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        path.forge(&packet);
    }
    let ssrc = [packet[8], packet[9], packet[10], packet[11]];
    path.forge(&[&[0x80, 201, 0, 1][..], &ssrc, &[0x81, 203, 0, 1], &ssrc].concat());
    wire.lock().expect("lock").cut = false;
    // It comes behind them on the same way.
    wait_until("its own media again", SOON, || (ingest.frames() > before + 60).then_some(()));
    let heard: u64 = ingest.stats().get("packets").expect("a count");
    let passed = wire.lock().expect("lock").passed;
    assert!(heard <= passed, "of {passed} packets {heard} were heard");
    assert_eq!((ingest.state().as_str(), ingest.has_ended()), ("connected", None));
    publisher.assert_unharmed();
    publisher.delete();
    path.stop();
}
