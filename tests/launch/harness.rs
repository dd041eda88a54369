//! The harness itself, tried on stand-ins: a failure here says nothing of the plugin.

use std::time::Duration;

use crate::common::{SOON, browser::Browser, flv::FlvFile, launch::Launch, nginx::Nginx, recording::Recording};

#[test]
fn nginx_records_what_gstreamers_own_elements_push_and_sees_the_goodbye() {
    let nginx = Nginx::start();
    let launch = Launch::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! flvmux streamable=true name=mux \
         ! rtmp2sink location={} audiotestsrc is-live=true ! voaacenc ! mux.",
        nginx.url("key")
    ));
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(2, 2));
    assert_eq!(nginx.publishes("key"), 1);
    assert!(!nginx.saw_goodbye());
    launch.end_cleanly();
    nginx.wait_for_log("FCUnpublish", SOON);
    let path = nginx.recordings("key").pop().expect("a recording");
    let recording = Recording::probe(&path);
    assert_eq!(recording.size(), (320, 240));
    assert_eq!(recording.codec("audio").as_deref(), Some("aac"));
    recording.assert_starts_with_keyframe();
    recording.assert_decodes();
    assert_eq!(FlvFile::read(&path).video_headers().count(), 1);
}

#[test]
fn browser_runs_scripts_and_takes_screenshots() {
    let browser = Browser::start();
    browser.open(
        "data:text/html,<body data-state=idle><button id=start onclick=\"document.body.dataset.state='live'\">Go",
    );
    assert_eq!(browser.state(), "idle");
    browser.click("#start");
    browser.wait_state("live", Duration::from_secs(5));
    let shot = std::fs::read(browser.screenshot("harness")).expect("screenshot");
    assert!(shot.starts_with(b"\x89PNG"));
}

#[test]
fn clips_hold_what_the_publisher_needs() {
    let clip = crate::common::clip::h264();
    assert_eq!(clip.units.len(), 600);
    assert_eq!(clip.units.iter().filter(|u| u.key).count(), 20);
    let different: std::collections::HashSet<u64> = clip.units.iter().map(|u| u.slices).collect();
    assert_eq!(different.len(), 600, "each picture has bits of its own");
    assert!(crate::common::clip::vp8().units[0].key);
    assert!(crate::common::clip::opus().units.len() >= 1000);
}
