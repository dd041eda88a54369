//! The RTMP server goes away and comes back: the publisher never notices, and the new stream is whole from its start.

use std::time::Duration;

use crate::common::{SOON, bridge::Bridge, flv::FlvFile, nginx::Nginx, publisher::Publisher, recording::Recording};

#[test]
fn the_stream_is_back_with_headers_and_a_keyframe() {
    let mut nginx = Nginx::start();
    let mut bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(2, 2));

    nginx.stop();
    bridge.launch.wait_for_line("WARNING", SOON);
    nginx.restart();
    let path = nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.has_seconds(3, 3));

    publisher.assert_unharmed();
    assert_eq!(publisher.state(), gst_webrtc::WebRTCPeerConnectionState::Connected, "the publisher never notices");
    assert!(bridge.launch.is_running());
    assert!(bridge.launch.errors().is_empty(), "{}", bridge.launch.output());
    publisher.delete();
    bridge.launch.end_cleanly();

    let flv = FlvFile::read(&path);
    assert!(flv.video_headers().next().is_some() && flv.audio_headers().next().is_some(), "{}", flv.summary());
    assert!(flv.pictures().next().is_some_and(|tag| tag.is_key()));
    assert!(flv.tags[0].timestamp < 1000, "each connection starts at 0");
    Recording::probe(&path).assert_good();
}

#[test]
fn a_server_that_comes_late_gets_the_stream() {
    let mut nginx = Nginx::stopped();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start(&bridge.url());
    bridge.launch.wait_for_line("WARNING", SOON);
    nginx.restart();
    let path = nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.has_seconds(2, 2));
    publisher.assert_unharmed();
    publisher.delete();
    bridge.launch.end_cleanly();
    Recording::probe(&path).assert_good();
}
