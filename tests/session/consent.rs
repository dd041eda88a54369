//! A peer that is not heard any more is not sent to any more (RFC 7675): its address may be somebody else's by now.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    media::Media,
    peer::Script,
    publisher::{Options, Publisher},
    viewer::Wants,
    wait_until,
};
use gstwebrtcbridge::forward::Source;

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
