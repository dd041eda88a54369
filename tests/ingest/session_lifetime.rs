//! When a session ends, why, and what it leaves behind: seen from a program that holds the element.

use std::time::{Duration, Instant};

use crate::common::{
    SOON, free_udp_port, http,
    ingest::Ingest,
    publisher::{Options, Publisher, Video},
    wait_until,
};
use gst::prelude::*;

/// Posts an offer that nobody stands behind.
fn half_open(url: &str) {
    let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\n\
                 a=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
                 a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
                 m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
                 a=rtpmap:96 VP8/90000\r\n";
    let response = http().post(url).header("Content-Type", "application/sdp").send(offer).expect("an answer");
    assert_eq!(response.status().as_u16(), 201);
}

#[test]
fn a_peer_that_never_connects_has_the_time_that_was_set() {
    for timeout in [500, 9000] {
        let ingest = Ingest::start(&format!("connect-timeout={timeout}"));
        let start = Instant::now();
        half_open(&ingest.url());
        assert_eq!(ingest.wait_ended(), "the peer never connected");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(timeout), "{took:?} of {timeout} ms");
    }
}

#[test]
fn a_peer_that_vanishes_is_noticed_within_ten_seconds() {
    let ingest = Ingest::start("");
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    publisher.vanish();
    let start = Instant::now();
    assert_eq!(ingest.wait_ended(), "the connection was lost");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn only_the_end_of_a_session_that_sent_something_is_the_end_of_the_stream() {
    let ingest = Ingest::start("on-disconnect=eos connect-timeout=300");
    half_open(&ingest.url());
    assert_eq!(ingest.wait_ended(), "the peer never connected");
    assert!(!ingest.saw_eos());
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 10).then_some(()));
    publisher.delete();
    assert_eq!(ingest.wait_ended(), "closed by the peer");
    wait_until("EOS", SOON, || ingest.saw_eos().then_some(()));
    let refused = Publisher::offer(&ingest.url(), Options::default()).err().expect("refused");
    assert_eq!(refused.status, 503, "{}", refused.body);
}

#[test]
fn a_codec_that_the_linked_elements_cannot_take_is_not_answered() {
    let ingest = Ingest::start_with("", "video/x-vp8 ! fakesink sync=false async=false");
    let vp8 = || Options { video: Some(Video::Vp8), ..Options::default() };
    let first = Publisher::start_with(&ingest.url(), vp8());
    wait_until("frames", SOON, || (ingest.frames() > 10).then_some(()));
    first.delete();
    ingest.wait_ended();
    let refused = Publisher::offer(&ingest.url(), Options::default()).err().expect("refused");
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("H264"), "{}", refused.body);
    let second = Publisher::start_with(&ingest.url(), vp8());
    second.assert_unharmed();
}

#[test]
fn the_same_udp_port_can_be_used_again_at_once() {
    let ingest = Ingest::start(&format!("ice-udp-port={}", free_udp_port()));
    for _ in 0..3 {
        let publisher = Publisher::start(&ingest.url());
        let packets = || ingest.stats().get::<u64>("packets").unwrap_or(0);
        wait_until("packets", SOON, || (packets() > 10).then_some(()));
        ingest.pipeline.set_state(gst::State::Ready).expect("ready");
        ingest.pipeline.set_state(gst::State::Playing).expect("playing, on the same port");
        drop(publisher);
    }
}

#[test]
fn what_nothing_is_linked_to_is_an_error_that_says_what_to_do() {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let pipeline = gst::Pipeline::new();
    let element = gst::ElementFactory::make("webrtcingest").property("uri", "whip://127.0.0.1:0/whip/live").build();
    let element = element.expect("the element");
    pipeline.add(&element).expect("room");
    pipeline.set_state(gst::State::Playing).expect("playing");
    let url: String = element.property::<gst::Structure>("stats").get("url").expect("a URL");
    let publisher = Publisher::start(&url);
    let message = wait_until("an error", SOON, || pipeline_error(&pipeline));
    assert!(message.contains("rtmpbridgesink"), "{message}");
    drop(publisher);
    pipeline.set_state(gst::State::Null).expect("null");
}

fn pipeline_error(pipeline: &gst::Pipeline) -> Option<String> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}

#[test]
fn each_change_of_a_sessions_state_is_told_on_the_bus_with_its_reason() {
    let ingest = Ingest::start("");
    let bus = ingest.pipeline.bus().expect("a bus");
    let publisher = Publisher::start(&ingest.url());
    wait_until("frames", SOON, || (ingest.frames() > 10).then_some(()));
    publisher.delete();
    ingest.wait_ended();
    let mut told = Vec::new();
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element]) {
        let Some(structure) = message.structure().filter(|s| s.name() == "webrtcbridge-session") else { continue };
        assert!(structure.get::<String>("id").is_ok_and(|id| !id.is_empty()));
        let field = |name: &str| structure.get::<String>(name).expect("a field");
        told.push((field("state"), field("reason")));
    }
    let told: Vec<_> = told.iter().map(|(state, reason)| (state.as_str(), reason.as_str())).collect();
    assert_eq!(told, [("connecting", ""), ("connected", ""), ("closed", "closed by the peer")]);
}
