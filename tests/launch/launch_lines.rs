//! The forms in which a launch line may be written.

use std::time::Duration;

use crate::common::{SOON, free_port, launch::Launch, nginx::Nginx, publisher::Publisher, recording::Recording};

#[test]
fn several_pairs_of_one_process_share_one_port() {
    let nginx = Nginx::start();
    let port = free_port();
    let pair = |name: &str| {
        let location = nginx.url(name);
        format!("webrtcingest uri=whip://127.0.0.1:{port}/whip/{name} : rtmpbridgesink location={location} ")
    };
    let mut launch = Launch::start(&format!("{}{}", pair("one"), pair("two")));
    launch.wait_listening(port);
    let one = Publisher::start(&format!("http://127.0.0.1:{port}/whip/one"));
    let first = nginx.wait_recorded("one", SOON, |flv| flv.has_seconds(1, 1));
    let two = Publisher::start(&format!("http://127.0.0.1:{port}/whip/two"));
    let second = nginx.wait_recorded("two", SOON, |flv| flv.has_seconds(2, 2));
    one.delete();
    nginx.wait_recorded("two", SOON, |flv| flv.has_seconds(3, 3));
    two.assert_unharmed();
    launch.end_cleanly();
    Recording::probe(&first).assert_good();
    Recording::probe(&second).assert_good();
}

#[test]
fn the_users_own_elements_stand_between() {
    let nginx = Nginx::start();
    let port = free_port();
    let mut launch = Launch::start(&format!(
        "webrtcingest name=in uri=whip://127.0.0.1:{port}/whip/live \
         in.video_0 ! queue ! identity ! out.video \
         in.audio_0 ! queue ! opusdec ! volume volume=0.5 ! audioconvert ! out.audio \
         rtmpbridgesink name=out location={}",
        nginx.url("key")
    ));
    launch.wait_listening(port);
    let publisher = Publisher::start(&format!("http://127.0.0.1:{port}/whip/live"));
    let path = nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.has_seconds(3, 3));
    publisher.delete();
    launch.end_cleanly();
    Recording::probe(&path).assert_good();
}

#[test]
fn raw_video_and_audio_are_encoded() {
    let nginx = Nginx::start();
    let launch = Launch::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! out.video \
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! out.audio \
         rtmpbridgesink name=out location={}",
        nginx.url("key")
    ));
    let path = nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.has_seconds(3, 3));
    launch.end_cleanly();
    nginx.wait_for_log("FCUnpublish", SOON);
    let recording = Recording::probe(&path);
    recording.assert_good();
    assert_eq!(recording.size(), (320, 240));
}
