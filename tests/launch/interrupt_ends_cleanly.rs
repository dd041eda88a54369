//! Ctrl-C at any moment: exit code 0 within 3 s, no error, and a goodbye to the RTMP server.

use crate::common::{
    SOON,
    bridge::Bridge,
    free_port,
    launch::Launch,
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
};

#[test]
fn before_anyone_has_published() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    bridge.launch.end_cleanly();
}

#[test]
fn before_anyone_has_published_and_without_an_rtmp_server() {
    let nginx = Nginx::stopped();
    let bridge = Bridge::start(&nginx, "key");
    bridge.launch.end_cleanly();
}

#[test]
fn with_video_alone() {
    with_publisher(Options { audio: false, ..Options::default() }, (1, 0));
}

#[test]
fn with_audio_alone() {
    with_publisher(Options { video: None, ..Options::default() }, (0, 1));
}

#[test]
fn with_audio_and_video() {
    with_publisher(Options::default(), (2, 2));
}

#[test]
fn with_a_link_that_waits_for_a_track_that_never_came() {
    let nginx = Nginx::start();
    let port = free_port();
    let mut launch = Launch::start(&format!(
        "webrtcingest name=in uri=whip://127.0.0.1:{port}/whip/live in.video_0 ! queue ! out.video \
         in.audio_0 ! queue ! opusdec ! audioconvert ! out.audio rtmpbridgesink name=out location={}",
        nginx.url("key")
    ));
    launch.wait_listening(port);
    let options = Options { audio: false, ..Options::default() };
    let publisher = Publisher::start_with(&format!("http://127.0.0.1:{port}/whip/live"), options);
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 0));
    launch.end_cleanly();
    drop(publisher);
}

#[test]
fn after_the_publisher_has_left() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    publisher.delete();
    bridge.launch.end_cleanly();
    nginx.wait_for_log("FCUnpublish", SOON);
}

#[test]
fn while_publishing_to_an_rtmp_server_that_never_was() {
    let nginx = Nginx::stopped();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start(&bridge.url());
    bridge.launch.wait_for_line("WARNING", SOON);
    publisher.assert_unharmed();
    bridge.launch.end_cleanly();
}

#[test]
fn while_the_rtmp_server_is_dead() {
    let mut nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    nginx.stop();
    bridge.launch.wait_for_line("WARNING", SOON);
    publisher.assert_unharmed();
    bridge.launch.end_cleanly();
}

fn with_publisher(options: Options, (video, audio): (u32, u32)) {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start_with(&bridge.url(), options);
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(video, audio));
    assert!(!nginx.saw_goodbye());
    bridge.launch.end_cleanly();
    nginx.wait_for_log("FCUnpublish", SOON);
    Recording::probe(&path).assert_decodes();
    drop(publisher);
}
