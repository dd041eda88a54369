//! How publishers are asked for keyframes: on the wire, as a scripted publisher hears it.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::{
    SOON,
    peer::{Keyframes, Peer, Script},
    wait_until,
    watched::Watched,
};

/// Between two requests; a little less than the policy's 300 ms, for the timers of both sides.
const SHORTEST_PAUSE: Duration = Duration::from_millis(290);

fn start(script: Script) -> (Watched, Peer) {
    let watched = Watched::start("", "avdec_h264");
    let peer = Peer::start(&watched.ingest.url(), script);
    wait_until("pictures", SOON, || (watched.seen().pictures.len() > 10 && !waits(&watched)).then_some(()));
    (watched, peer)
}

fn waits(watched: &Watched) -> bool {
    watched.ingest.stats().get("waiting-for-keyframe").expect("a figure")
}

#[test]
fn the_keyframe_that_comes_with_the_end_of_the_handshake_is_not_lost() {
    let (watched, peer) = start(Script { keyframes: Keyframes::Deaf, sparse: true, ..Script::default() });
    assert_eq!(watched.seen().pictures[0].1, peer.sent("")[0], "the first picture is the first that was sent");
    assert!(peer.heard().plis.is_empty(), "nothing had to be asked for");
}

#[test]
fn a_publisher_that_is_deaf_to_pli_is_asked_by_fir() {
    let (watched, peer) = start(Script { keyframes: Keyframes::FirOnly, sparse: true, ..Script::default() });
    for command in 0..2_u8 {
        let before = peer.heard();
        watched.ingest.request_keyframe();
        assert!(waits(&watched));
        wait_until("an FIR, and its keyframe", SOON, || (!waits(&watched)).then_some(()));
        let heard = peer.heard();
        assert_eq!(heard.plis.len() - before.plis.len(), 2, "PLI is tried first");
        assert_eq!(heard.firs.len(), usize::from(command) + 1, "one FIR is enough");
        let (at, ssrc, number) = heard.firs[usize::from(command)];
        assert_eq!((ssrc, number), (peer.ssrc(""), command), "each command has its number (RFC 5104)");
        let pli = heard.plis.last().expect("a PLI").0;
        assert!(at - pli >= SHORTEST_PAUSE * 2, "the pauses grow: {:?}", at - pli);
    }
    assert_eq!((watched.figure("plis"), watched.figure("firs")), (peer.heard().plis.len() as u64, 2));
    watched.assert_clean();
}

#[test]
fn however_often_a_keyframe_is_asked_for_the_publisher_hears_it_once_in_300_ms() {
    let (watched, peer) = start(Script::default());
    let (from, heard) = (Instant::now(), peer.heard().plis.len());
    wait_until("some PLIs", SOON, || {
        watched.ingest.request_keyframe();
        (peer.heard().plis.len() >= heard + 4).then_some(())
    });
    // One may be heard late and the next one in time: what tells is how many come in all of the time.
    let plis: Vec<Instant> = peer.heard().plis[heard..].iter().map(|(at, _)| *at).collect();
    for (before, at) in plis.iter().enumerate() {
        assert!(*at - from >= SHORTEST_PAUSE * before as u32, "{before} came before it in {:?}", *at - from);
    }
    watched.assert_clean();
}

/// Elements that write files ask for the next one's keyframe in advance (splitmuxsink, hlssink2).
#[test]
fn a_keyframe_for_a_later_time_is_asked_for_when_that_has_come() {
    let (watched, peer) = start(Script::default());
    let element = watched.ingest.element();
    let pad = element.static_pad("video_0").expect("the pad");
    let running_time = || element.current_running_time().expect("it plays");
    let heard = peer.heard().plis.len();
    let later = running_time() + gst::ClockTime::from_seconds(1);
    let times = [later, later + gst::ClockTime::from_seconds(2)];
    // Of two who write, the one with the later time says so first.
    for time in times.into_iter().rev() {
        let event = gst_video::UpstreamForceKeyUnitEvent::builder().running_time(time).all_headers(true).build();
        assert!(pad.send_event(event));
    }
    for (number, time) in times.into_iter().enumerate() {
        let asked = wait_until("a PLI", SOON, || (peer.heard().plis.len() > heard + number).then(running_time));
        assert!(asked >= time, "asked at {asked} for {time}");
    }
    watched.assert_clean();
}

#[test]
fn a_publisher_that_offers_no_way_to_ask_is_waited_for() {
    let (watched, peer) = start(Script { keyframes: Keyframes::NotOffered, ..Script::default() });
    watched.ingest.request_keyframe();
    assert!(waits(&watched));
    wait_until("its own keyframe", SOON, || (!waits(&watched)).then_some(()));
    let heard = peer.heard();
    assert_eq!((heard.plis.len(), heard.firs.len()), (0, 0));
}

#[test]
fn a_publisher_that_is_deaf_is_asked_less_and_less_often() {
    let (watched, peer) = start(Script { keyframes: Keyframes::Deaf, sparse: true, ..Script::default() });
    let before = peer.heard().plis.len();
    watched.ingest.request_keyframe();
    wait_until("four requests", SOON, || (peer.heard().plis.len() >= before + 4).then_some(()));
    let plis: Vec<Instant> = peer.heard().plis[before..].iter().map(|(at, _)| *at).collect();
    let pauses: Vec<Duration> = plis.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{pauses:?}");
    assert!(waits(&watched), "and the statistics say what is waited for");
    assert!(peer.heard().firs.is_empty(), "FIR was not offered");
}
