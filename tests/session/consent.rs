//! A peer that is not heard any more is not sent to any more (RFC 7675): its address may be somebody else's by now.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    publisher::{Options, Publisher},
    wait_until,
};

/// RFC 7675 section 5.1.
const CONSENT: Duration = Duration::from_secs(30);
/// A connection that is up is checked every 2 s.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Seen {
    /// Since when nothing of the publisher's gets through.
    cut: Option<Instant>,
    /// When the bridge has sent to it since.
    sent: Vec<Instant>,
}

#[test]
fn thirty_seconds_after_a_peer_was_heard_last_nothing_is_sent_to_it() {
    let ingest = Ingest::start("");
    let seen = Arc::<Mutex<Seen>>::default();
    let looking = seen.clone();
    let path = LossyPath::new(move |direction, _| {
        let mut seen = looking.lock().expect("lock");
        if direction == Direction::ToPublisher && seen.cut.is_some() {
            seen.sent.push(Instant::now());
        }
        seen.cut.is_some()
    });
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let _publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    let cut = Instant::now();
    seen.lock().expect("lock").cut = Some(cut);
    wait_until("silence", CONSENT + SILENCE * 3, || {
        let last = seen.lock().expect("lock").sent.last().copied().unwrap_or(cut);
        (last.elapsed() >= SILENCE).then_some(())
    });
    let last = *seen.lock().expect("lock").sent.last().expect("it is asked for a while whether it is there");
    let after = last - cut;
    assert!(after <= CONSENT + Duration::from_secs(2), "it was sent to {after:?} after it was heard last");
    assert!(after >= CONSENT / 2, "it was given up after {after:?}: it may come back by itself");
    path.stop();
}
