//! A bridge server's sessions: each publisher has a pipeline of its own, and what happens in it stays there.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    nginx::Nginx,
    publisher::{Options, Publisher, Video},
    recording::Recording,
    server::BridgeServer,
    wait_until, whip,
};
use gst::prelude::*;

/// A session that takes media and does nothing with it.
const QUIET: &str = "webrtcingest name=in ! fakesink sync=false async=false in. ! fakesink sync=false async=false";

fn audio_only() -> Options {
    Options { video: None, ..Options::default() }
}

fn frames(server: &BridgeServer, channel: &str) -> u64 {
    server.element(channel, "in").and_then(|stats| stats.get("frames").ok()).unwrap_or(0)
}

fn wait_frames(server: &BridgeServer, channel: &str) {
    let before = frames(server, channel);
    wait_until(&format!("frames of {channel}"), SOON, || (frames(server, channel) > before + 10).then_some(()));
}

#[test]
fn each_publisher_reaches_the_server_under_its_channels_name() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}-x"));
    let server = BridgeServer::start(&[("session", &session)]);
    let red = Publisher::start(&server.whip("red"));
    let blue = Publisher::start(&server.whip("blue"));
    for channel in ["red", "blue"] {
        let path = nginx.wait_recorded(&format!("{channel}-x"), SOON, |flv| flv.has_seconds(2, 2));
        Recording::probe(&path).assert_starts_with_keyframe();
    }
    red.delete();
    server.wait_state("red", "ended");
    nginx.wait_for_log("FCUnpublish", SOON);
    assert_eq!(server.states("red"), ["starting", "live", "ending", "ended"]);
    assert_eq!(server.states("blue"), ["starting", "live"]);
    let destination = server.element("blue", "rtmpbridgesink").expect("the sink's statistics");
    assert!(!destination.to_string().contains("blue-x"), "a stream key: {destination}");
    blue.assert_unharmed();
    drop(blue);
    assert!(server.others().iter().all(|other| other.starts_with("webrtcbridge-listening")), "{:?}", server.others());
}

#[test]
fn an_application_makes_the_pipeline_which_gets_the_clock_and_the_base_time_of_the_bin() {
    let made = Arc::new(Mutex::new(None));
    let keep = made.clone();
    let server = BridgeServer::start_with(&[], |bin| {
        bin.connect("create-session", false, move |values| {
            let (channel, id) = (values[1].get::<&str>().expect("a channel"), values[2].get::<&str>().expect("an id"));
            assert!(channel == "red" && id.len() >= 22, "{channel} {id}");
            let bin = gst::parse::bin_from_description(QUIET, false).expect("a bin");
            *keep.lock().expect("made") = Some(bin.clone());
            Some(bin.upcast::<gst::Element>().to_value())
        });
    });
    let publisher = Publisher::start_with(&server.whip("red"), audio_only());
    wait_frames(&server, "red");
    let session = made.lock().expect("made").take().expect("a session");
    assert_eq!(session.clock(), server.pipeline.clock());
    assert_eq!(session.base_time(), server.pipeline.base_time());
    drop(publisher);
}

#[test]
fn a_failing_session_ends_alone_and_its_reason_names_no_key() {
    let nginx = Nginx::start();
    let good = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("good"));
    let server = BridgeServer::start_with(&[], move |bin| {
        bin.connect("create-session", false, move |values| {
            let text = match values[1].get::<&str>().expect("a channel") {
                "good" => good.as_str(),
                // What is there at the end of a URL is a key, whichever element says so.
                _ => {
                    "webrtcingest ! fakesink curlhttpsink name=c location=http://127.0.0.1:1/s3cret/{channel} \
                      audiotestsrc is-live=true ! c."
                }
            };
            Some(gst::parse::launch(text).expect("a pipeline").to_value())
        });
    });
    let publisher = Publisher::start(&server.whip("good"));
    nginx.wait_recorded("good", SOON, |flv| flv.has_seconds(1, 1));
    let refused = Publisher::offer(&server.whip("bad"), audio_only());
    let reason = server.wait_state("bad", "failed");
    assert!(!reason.contains("s3cret") && !reason.is_empty(), "{reason}");
    if let Err(refused) = refused {
        assert_eq!(refused.status, 500, "{}", refused.body);
    }
    wait_until("the failed session to be gone", SOON, || (server.sessions() == 1).then_some(()));
    let seconds = Instant::now();
    wait_until("more of the good one", SOON, || (seconds.elapsed() > Duration::from_millis(500)).then_some(()));
    nginx.wait_recorded("good", SOON, |flv| flv.has_seconds(2, 2));
    publisher.assert_unharmed();
    assert!(server.others().iter().all(|other| other.starts_with("webrtcbridge-listening")), "{:?}", server.others());
    assert!(!server.saw_eos());
}

#[test]
fn a_pipeline_that_ends_by_itself_ends_its_session_and_not_the_bin() {
    let server = BridgeServer::start(&[("session", "audiotestsrc num-buffers=20 is-live=true ! fakesink")]);
    let publisher = Publisher::offer(&server.whip("red"), audio_only()).expect("an answer");
    assert_eq!(server.wait_state("red", "ended"), "the pipeline has ended");
    drop(publisher);
    assert!(!server.saw_eos());
    let next = Publisher::start_with(&server.whip("red"), audio_only());
    drop(next);
}

#[test]
fn without_a_session_media_is_taken_and_counted() {
    let server = BridgeServer::start(&[]);
    let publisher = Publisher::start_with(&server.whip("red"), audio_only());
    let count = |field: &str| server.session("red").and_then(|session| session.get::<u64>(field).ok());
    wait_until("packets", SOON, || (count("packets")? > 10).then_some(()));
    assert_eq!(count("discarded-packets"), Some(0), "they are there for viewers");
    publisher.delete();
    assert_eq!(server.wait_state("red", "ended"), "closed by the peer");
}

#[test]
fn a_second_publisher_gets_409_until_the_first_is_silent() {
    let server = BridgeServer::start(&[("session", QUIET)]);
    let first = Publisher::start_with(&server.whip("red"), audio_only());
    wait_frames(&server, "red");
    let refused = Publisher::offer(&server.whip("red"), audio_only()).err().expect("refused");
    assert_eq!(refused.status, 409, "{}", refused.body);
    first.vanish();
    let second = wait_until("the second to get in", SOON, || Publisher::offer(&server.whip("red"), audio_only()).ok());
    second.wait_connected(SOON);
    wait_frames(&server, "red");
    second.assert_unharmed();
    assert!(
        server.told("red").iter().any(|told| told.reason == "replaced by another publisher"),
        "{:?}",
        server.told("red")
    );
    assert_eq!(server.sessions(), 1);
}

#[test]
fn the_same_credential_takes_over_at_once_and_the_rtmp_server_lets_it() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session), ("publish-token", "s3cret")]);
    let options = || Options { token: Some("s3cret".into()), ..Options::default() };
    let refused = Publisher::offer(&server.whip("red"), Options::default()).err().expect("refused");
    assert_eq!(refused.status, 401, "{}", refused.body);
    let first = Publisher::start_with(&server.whip("red"), options());
    nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(1, 1));
    let start = Instant::now();
    let second = Publisher::start_with(&server.whip("red"), options());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    wait_until("the second stream", SOON, || (nginx.publishes("red") == 2).then_some(()));
    wait_until("a recording of it", SOON, || {
        (nginx.recordings("red").len() == 2).then(|| nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(1, 1)))
    });
    second.assert_unharmed();
    drop((first, second));
}

#[test]
fn an_offer_of_data_alone_is_refused_where_nobody_takes_it_and_displaces_nobody() {
    let offer =
        crate::common::data::offer_data(&crate::common::media::Media::start(), crate::common::data::Listener::new());
    for session in ["", "videotestsrc is-live=true ! fakesink"] {
        let server = BridgeServer::start(&[("session", session), ("publish-token", "s3cret")]);
        let options = Options { token: Some("s3cret".into()), ..Options::default() };
        let publisher = Publisher::start_with(&server.whip("red"), options);
        server.wait_state("red", "live");
        let Err(refused) = whip::post(&server.whip("red"), Some("s3cret"), offer.sdp()) else {
            panic!("nobody takes data channels")
        };
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert_eq!(server.states("red"), ["starting", "live"], "who was there still is");
        publisher.assert_unharmed();
    }
    let server = BridgeServer::start(&[("session", QUIET)]);
    let taken = whip::post(&server.whip("red"), None, offer.sdp());
    assert!(taken.is_ok(), "{taken:?}");
}

#[test]
fn another_codec_is_transcoded_in_its_own_session() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session)]);
    let vp8 = Publisher::start_with(&server.whip("vp8"), Options { video: Some(Video::Vp8), ..Options::default() });
    let path = nginx.wait_recorded("vp8", SOON, |flv| flv.has_seconds(1, 1));
    let recording = Recording::probe(&path);
    assert_eq!(recording.codec("video").as_deref(), Some("h264"));
    vp8.assert_unharmed();
}
