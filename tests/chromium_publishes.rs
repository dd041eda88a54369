//! A camera in Chromium reaches an RTMP server through the plain line of the README.

mod common;

use std::time::Duration;

use common::{
    SOON, bridge::Bridge, browser::Browser, http, ingest::Ingest, lossy::LossyPath, nginx::Nginx, recording::Recording,
    wait_until,
};
use serde_json::json;

/// The publisher of the page in short, with the answer handed in by the test.
const OFFER: &str = "
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    window.pc = new RTCPeerConnection();
    window.pc.addTransceiver(stream.getAudioTracks()[0], { direction: 'sendonly', streams: [stream] });
    await window.pc.setLocalDescription();
    return window.pc.localDescription.sdp;";

#[test]
fn chromium_publishing_h264_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=h264");
}

#[test]
fn chromium_publishing_vp8_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=vp8");
}

#[test]
fn chromium_publishing_vp9_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=vp9");
}

#[test]
fn chromium_publishing_av1_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=av1");
}

#[test]
fn chromium_with_the_page_as_it_is_arrives_as_h264_and_aac() {
    chromium_publishes("");
}

#[test]
fn the_page_has_one_button_to_start_and_says_when_the_server_has_gone() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page(""));
    browser.wait_state("idle", SOON);
    let visible = "[...document.querySelectorAll('button')].filter(b => b.offsetParent !== null && !b.disabled).length";
    assert_eq!(browser.eval(&format!("return {visible}")), 1, "one button to start");
    browser.click("#start");
    browser.wait_state("live", SOON);
    browser.wait_for("return document.querySelector('#preview').videoWidth > 0", SOON);
    drop(bridge);
    browser.wait_for("return ['ended', 'failed'].includes(document.body.dataset.state)", Duration::from_secs(40));
}

#[test]
fn audio_that_got_lost_on_the_way_from_chromium_is_taken_from_the_next_packet() {
    let ingest = Ingest::start("");
    let browser = Browser::start();
    browser.open(&ingest.url().replace("/whip/live", "/"));
    let offer = browser.eval_async(OFFER);
    let mut response =
        http().post(ingest.url()).header("Content-Type", "application/sdp").send(offer.as_str().expect("SDP")).unwrap();
    let answer = response.body_mut().read_to_string().expect("SDP");
    let path = LossyPath::percent(10);
    let answer = json!({ "type": "answer", "sdp": path.reroute(&answer) });
    browser.eval_async(&format!("await window.pc.setRemoteDescription({answer});"));
    let recovered = || ingest.stats().get::<u64>("recovered-by-red").unwrap_or(0);
    wait_until("packets that were recovered", SOON, || (recovered() >= 10).then_some(()));
    let stats = ingest.stats();
    let lost = stats.get::<u64>("lost-packets").expect("a count");
    assert!(lost * 3 < recovered(), "one in ten of those lost has its successor lost, too: {stats}");
    assert_eq!(stats.get::<u64>("malformed-red"), Ok(0));
    path.stop();
}

fn chromium_publishes(query: &str) {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page(query));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("live", SOON);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(5, 5));
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    bridge.launch.end_cleanly();
    assert_eq!(nginx.publishes("key"), 1, "one connection for the whole stream");
    let recording = Recording::probe(&nginx.recordings("key").pop().expect("a recording"));
    recording.assert_good();
    let (width, height) = recording.size();
    assert!(width >= 320 && height >= 180, "{width}x{height}");
}
