//! A camera in Chromium reaches an RTMP server through the plain line of the README.

mod common;

use std::time::Duration;

use common::{SOON, bridge::Bridge, browser::Browser, flv::FlvFile, nginx::Nginx, recording::Recording};

#[test]
fn chromium_publishing_h264_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=h264");
}

#[test]
fn chromium_publishing_vp8_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=vp8");
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
fn a_page_whose_session_is_deleted_by_somebody_else_notices_at_once() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page("?codec=vp8"));
    browser.wait_state("idle", SOON);
    browser.eval(
        "const fetched = window.fetch; window.fetch = async (url, options) => { const response = await fetched(url, options); \
           window.resource ??= response.headers.get('Location'); return response; }; \
         const set = RTCPeerConnection.prototype.setRemoteDescription; \
         RTCPeerConnection.prototype.setRemoteDescription = function (answer) { window.pc = this; return set.call(this, answer); };",
    );
    browser.click("#start");
    browser.wait_state("live", SOON);
    browser.eval("return fetch(window.resource, { method: 'DELETE' })");
    // Left to itself a browser finds out after 5 s (disconnected) to 30 s (consent expired).
    let start = std::time::Instant::now();
    browser.wait_for("return window.pc.connectionState !== 'connected'", Duration::from_secs(4));
    browser.wait_for("return document.body.dataset.state === 'failed'", SOON);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn the_page_restarts_ice_when_the_network_changes_and_the_show_goes_on() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page("?codec=h264"));
    browser.wait_state("idle", SOON);
    // What the page tells the server, and what it makes of the answer.
    browser.eval(
        "window.patches = []; const fetched = window.fetch; \
         window.fetch = async (url, options) => { const response = await fetched(url, options); \
           if (options?.method === 'PATCH') window.patches.push(response.ok ? response.status : await response.text() + options.body); return response; }; \
         const set = RTCPeerConnection.prototype.setRemoteDescription; window.answers = []; \
         RTCPeerConnection.prototype.setRemoteDescription = function (answer) { \
           window.pc = this; window.answers.push(answer.sdp.match(/a=ice-ufrag:(.*)/)[1]); return set.call(this, answer); };",
    );
    browser.click("#start");
    browser.wait_state("live", SOON);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(2, 2));
    browser.eval("window.dispatchEvent(new Event('online'))");
    browser.wait_for("return window.patches.length > 0", SOON);
    assert_eq!(browser.eval("return window.patches"), serde_json::json!([200]));
    browser.wait_for("return window.answers.length === 2 && window.answers[0] !== window.answers[1]", SOON);
    // Only what comes over the restarted connection counts.
    browser.wait_for("return window.pc.connectionState === 'connected'", SOON);
    let newest = |flv: &FlvFile| flv.pictures().last().map_or(0, |tag| tag.timestamp);
    let so_far = FlvFile::read(&nginx.recordings("key").pop().expect("a recording"));
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| newest(flv) > newest(&so_far) + 4000);
    assert_eq!(browser.state(), "live");
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    bridge.launch.end_cleanly();
    assert_eq!(nginx.publishes("key"), 1, "one connection for the whole stream");
    // What is lost while ICE starts anew is asked for again; a busy machine may need a keyframe.
    let recording = Recording::probe(&nginx.recordings("key").pop().expect("a recording"));
    recording.assert_starts_with_keyframe();
    recording.assert_decodes();
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
