//! A peer that is not heard any more is not sent to any more (RFC 7675): its address may be somebody else's by now.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    media::Media,
    peer::{Peer, Script},
    publisher::{Options, Publisher},
    viewer::Wants,
    wait_until,
};
use gstwebrtcbridge::{forward::Source, session::ConnectionState};

/// RFC 7675 section 5.1.
const CONSENT: Duration = Duration::from_secs(30);
/// A connection that is up is checked every second.
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

#[test]
fn who_is_heard_is_there_although_checks_and_their_answers_get_lost() {
    let ingest = Ingest::start("");
    let lost = Arc::new(AtomicBool::new(false));
    let loses = lost.clone();
    // STUN has the lowest first bytes of what shares a port (RFC 7983 section 7).
    let path = LossyPath::new(move |_, datagram| loses.load(SeqCst) && datagram[0] < 4);
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    let (before, since) = (ingest.frames(), Instant::now());
    lost.store(true, SeqCst);
    // By its checks alone it would have been disconnected after 3 s, and given up after 7.
    wait_until("ten seconds of media", SOON * 2, || {
        assert_eq!((ingest.state().as_str(), ingest.has_ended()), ("connected", None), "after {:?}", since.elapsed());
        (since.elapsed() > Duration::from_secs(10) && ingest.frames() > before + 150).then_some(())
    });
    lost.store(false, SeqCst);
    assert!(path.lost() > 3, "{}", path.lost());
    publisher.assert_unharmed();
    publisher.delete();
    path.stop();
}

#[test]
fn media_stops_for_a_viewer_that_is_not_heard_any_more_although_it_would_still_get_it() {
    let media = Media::start();
    let source = Arc::new(Source::new(&media.runtime));
    let (_peer, _session) = media.publish(&source, Script::default());
    let seen = Arc::<Mutex<Seen>>::default();
    let looking = seen.clone();
    // One way only: what is sent arrives.
    let path = LossyPath::new(move |direction, datagram| {
        let mut seen = looking.lock().expect("lock");
        let is_media = matches!(datagram.first(), Some(128..=191));
        if direction == Direction::ToPublisher && seen.cut.is_some() && is_media {
            seen.sent.push(Instant::now());
        }
        seen.cut.is_some() && direction == Direction::ToBridge
    });
    let watched = media.view(&source, Wants { path: Some(path.clone()), ..Wants::default() });
    wait_until("media", SOON, || (watched.viewer.stream(102).packets.len() > 30).then_some(()));
    let cut = Instant::now();
    seen.lock().expect("lock").cut = Some(cut);
    wait_until("an end of media", CONSENT + SILENCE * 3, || {
        let last = seen.lock().expect("lock").sent.last().copied().unwrap_or(cut);
        (last.elapsed() >= SILENCE).then_some(())
    });
    let seen = seen.lock().expect("lock");
    let last = *seen.sent.last().expect("it is not given up at once");
    assert!(last - cut <= CONSENT + Duration::from_secs(2), "it was sent to {:?} after it was heard last", last - cut);
    path.stop();
}

#[test]
fn media_stops_at_once_for_a_viewer_that_has_gone_by_its_own_word() {
    let media = Media::start();
    let source = Arc::new(Source::new(&media.runtime));
    let (_peer, _session) = media.publish(&source, Script::default());
    let seen = Arc::<Mutex<Seen>>::default();
    let looking = seen.clone();
    let path = LossyPath::new(move |direction, datagram| {
        let mut seen = looking.lock().expect("lock");
        if direction == Direction::ToPublisher && seen.cut.is_some() && matches!(datagram.first(), Some(128..=191)) {
            seen.sent.push(Instant::now());
        }
        false
    });
    let watched = media.view(&source, Wants { path: Some(path.clone()), ..Wants::default() });
    wait_until("media", SOON, || (watched.viewer.stream(102).packets.len() > 30).then_some(()));
    // As DELETE, `leave` and the end of its WebSocket do.
    let session = watched.answered.session.clone();
    let (done, closed) = std::sync::mpsc::channel();
    media.runtime.spawn(async move {
        session.close(gstwebrtcbridge::session::EndReason::ClosedByPeer).await;
        let _ = done.send(());
    });
    closed.recv_timeout(SOON).expect("the end");
    seen.lock().expect("lock").cut = Some(Instant::now());
    let (socket_is_empty, start) = (Duration::from_millis(500), Instant::now());
    wait_until("some time", SOON, || (start.elapsed() >= SILENCE).then_some(()));
    let seen = seen.lock().expect("lock");
    assert!(seen.sent.iter().all(|at| *at - start < socket_is_empty), "{} packets came after the end", seen.sent.len());
    path.stop();
}

/// Success and error responses of STUN.
fn is_answer(datagram: &[u8]) -> bool {
    matches!(datagram, [0x01, 0x01 | 0x11, ..])
}

#[test]
fn a_publisher_whose_media_and_checks_come_but_that_answers_no_check_is_ended_and_one_that_answers_is_not() {
    let (ingest, answering) = (Ingest::start(""), Ingest::start(""));
    let seen = Arc::<Mutex<Seen>>::default();
    let looking = seen.clone();
    let path = LossyPath::new(move |direction, datagram| {
        let mut seen = looking.lock().expect("lock");
        let is_stun = datagram.first().is_some_and(|first| *first < 4);
        if direction == Direction::ToPublisher && seen.cut.is_some() && !is_stun {
            seen.sent.push(Instant::now());
        }
        seen.cut.is_some() && direction == Direction::ToBridge && is_answer(datagram)
    });
    // It checks on its own every 2 s, which is enough for the stack to count it as there.
    let publisher = Peer::start(&ingest.url(), Script { path: Some(path.clone()), ..Script::default() });
    let other = Publisher::start(&answering.url());
    for ingest in [&ingest, &answering] {
        wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    }
    let (cut, frames) = (Instant::now(), ingest.frames());
    seen.lock().expect("lock").cut = Some(cut);
    let reason = wait_until("the end", CONSENT + SILENCE * 3, || ingest.has_ended());
    let ended = Instant::now();
    assert!(reason.contains("the connection was lost"), "{reason}");
    assert!(ended - cut >= CONSENT - SILENCE, "an answer is good for 30 s, and not for {:?}", ended - cut);
    assert!(ingest.frames() > frames + 500, "its media came all the time");
    wait_until("some time", SOON, || (ended.elapsed() >= SILENCE).then_some(()));
    let seen = seen.lock().expect("lock");
    let late = seen.sent.iter().filter(|at| **at > ended + Duration::from_millis(500)).count();
    assert_eq!(late, 0, "so many were sent after the end");
    drop(seen);
    assert_eq!((answering.state().as_str(), answering.has_ended()), ("connected", None));
    other.delete();
    publisher.vanish();
    path.stop();
}

#[test]
fn media_stops_at_once_for_a_viewer_that_ends_dtls_and_not_where_somebody_else_says_so() {
    const ALERT: u8 = 21;
    let media = Media::start();
    let source = Arc::new(Source::new(&media.runtime));
    let (_peer, _session) = media.publish(&source, Script::default());
    let seen = Arc::<Mutex<Seen>>::default();
    let looking = seen.clone();
    let path = LossyPath::new(move |direction, datagram| {
        let mut seen = looking.lock().expect("lock");
        match direction {
            Direction::ToBridge if datagram.first() == Some(&ALERT) => _ = seen.cut.get_or_insert(Instant::now()),
            Direction::ToPublisher if seen.cut.is_some() && matches!(datagram.first(), Some(128..=191)) => {
                seen.sent.push(Instant::now());
            }
            _ => {}
        }
        false
    });
    let watched = media.view(&source, Wants { path: Some(path.clone()), ..Wants::default() });
    let packets = || watched.viewer.stream(102).packets.len();
    wait_until("media", SOON, || (packets() > 30).then_some(()));
    // close_notify, in the clear and as if it were under keys.
    for epoch in [0, 1] {
        for number in 0..20 {
            path.forge(&[ALERT, 254, 253, 0, epoch, 0, 0, 0, 0, 9, number, 0, 2, 1, 0]);
        }
    }
    let before = packets();
    wait_until("media after a forged end", SOON, || (packets() > before + 60).then_some(()));

    watched.viewer.hang_up();
    let mut states = watched.answered.session.states();
    wait_until("the end", SOON, || (*states.borrow_and_update() == ConnectionState::Closed).then_some(()));
    let start = Instant::now();
    wait_until("some time", SOON, || (start.elapsed() >= SILENCE).then_some(()));
    let seen = seen.lock().expect("lock");
    let cut = seen.cut.expect("a goodbye");
    let late = seen.sent.iter().filter(|at| **at > cut + Duration::from_millis(500)).count();
    assert_eq!(late, 0, "so many packets came half a second after the goodbye and later");
    path.stop();
}
