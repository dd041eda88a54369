//! A publisher with only audio, or only video, is a publisher.

use crate::common::{
    SOON,
    bridge::Bridge,
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
};

#[test]
fn audio_alone_arrives_as_aac() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start_with(&bridge.url(), Options { video: None, ..Options::default() });
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(0, 3));
    publisher.delete();
    bridge.launch.end_cleanly();
    let recording = Recording::probe(&path);
    assert_eq!(recording.codec("audio").as_deref(), Some("aac"));
    assert_eq!(recording.codec("video"), None);
    recording.assert_monotonic();
    recording.assert_decodes();
}

#[test]
fn video_alone_arrives_as_h264() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start_with(&bridge.url(), Options { audio: false, ..Options::default() });
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(3, 0));
    publisher.delete();
    bridge.launch.end_cleanly();
    let recording = Recording::probe(&path);
    assert_eq!(recording.codec("video").as_deref(), Some("h264"));
    assert_eq!(recording.codec("audio"), None);
    recording.assert_starts_with_keyframe();
    recording.assert_monotonic();
    recording.assert_decodes();
}
