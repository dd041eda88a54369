//! A peer that was given up comes back while its connection is kept.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::LossyPath,
    publisher::{Options, Publisher},
    wait_until,
};

/// A network that can be switched off.
fn path() -> (LossyPath, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(false));
    let loses = down.clone();
    (LossyPath::new(move |_, _| loses.load(SeqCst)), down)
}

#[test]
fn a_peer_that_was_given_up_and_comes_back_by_itself_goes_on_in_the_same_pads() {
    let ingest = Ingest::start("");
    let (path, down) = path();
    let _publisher =
        Publisher::start_with(&ingest.url(), Options { path: Some(path), candidates: false, ..Options::default() });
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    down.store(true, SeqCst);
    assert_eq!(ingest.wait_ended(), "the connection was lost");
    assert_eq!(ingest.state(), "failed");
    let before = ingest.frames();
    down.store(false, SeqCst);
    wait_until("frames again", SOON, || (ingest.frames() > before + 30).then_some(()));
    assert_eq!(ingest.state(), "connected");
    assert_eq!(ingest.started(), 2, "session-started once more");
}

#[test]
fn a_given_up_peer_holds_the_place_against_nobody() {
    let ingest = Ingest::start("");
    let (path, down) = path();
    let _first =
        Publisher::start_with(&ingest.url(), Options { path: Some(path), candidates: false, ..Options::default() });
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    down.store(true, SeqCst);
    ingest.wait_ended();
    let before = ingest.frames();
    let _second = Publisher::start(&ingest.url());
    down.store(false, SeqCst); // too late: its place is taken
    wait_until("the second one's frames", SOON, || (ingest.frames() > before + 60).then_some(()));
    assert_eq!(ingest.state(), "connected");
    assert_eq!(ingest.started(), 2);
}

#[test]
fn with_on_disconnect_eos_a_lost_peer_is_the_end() {
    let ingest = Ingest::start("on-disconnect=eos");
    let (path, down) = path();
    let _publisher =
        Publisher::start_with(&ingest.url(), Options { path: Some(path), candidates: false, ..Options::default() });
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    down.store(true, SeqCst);
    ingest.wait_ended();
    wait_until("EOS", SOON, || ingest.saw_eos().then_some(()));
    down.store(false, SeqCst);
    let refused = Publisher::offer(&ingest.url(), Options::default()).err().expect("a refusal");
    assert_eq!(refused.status, 503, "{}", refused.body);
}
