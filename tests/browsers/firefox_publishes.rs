//! A camera in Firefox reaches an RTMP server through the plain line of the README. Debian's Firefox has no H.264 encoder:
//! its VP8 is transcoded.

use std::time::Duration;

use crate::common::{SOON, bridge::Bridge, browser::Browser, nginx::Nginx, recording::Recording};

#[test]
fn firefox_with_the_page_as_it_is_arrives_as_h264_and_aac() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start_firefox();
    browser.open(&bridge.page(""));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("live", SOON);
    browser.wait_for("return document.querySelector('#preview').videoWidth > 0", SOON);
    browser.wait_for("return document.querySelector('#status').textContent.includes('VP8')", SOON);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(5, 5));
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    bridge.launch.end_cleanly();
    assert_eq!(nginx.publishes("key"), 1, "one connection for the whole stream");
    let recording = Recording::probe(&nginx.recordings("key").pop().expect("a recording"));
    // Encoding twice, a busy machine may let audio begin alone: all but that.
    assert_eq!(recording.codec("video").as_deref(), Some("h264"));
    assert_eq!(recording.codec("audio").as_deref(), Some("aac"));
    recording.assert_starts_with_keyframe();
    recording.assert_monotonic();
    recording.assert_decodes();
    let (width, height) = recording.size();
    assert!(width >= 320 && height >= 180, "{width}x{height}");
}
