//! Programs with a bridge server, or with one element, in them.

use crate::common::{
    SOON,
    caller::Caller,
    example::Example,
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
};

#[test]
fn embed_bin_hears_its_publishers_and_ends_them() {
    let mut example = Example::start("embed_bin", &["--listen", "127.0.0.1:0"]);
    let page = example.wait_for("page: ");
    let publisher = Publisher::start(&format!("{page}whip/red"));
    example.wait_for("red: live");
    // A decoder begins with silence.
    while example.wait_for("red: the loudest sample is ").starts_with("0 ") {}
    publisher.assert_unharmed();
    example.end();
}

#[test]
fn embed_server_pushes_its_publishers_and_ends_them() {
    let nginx = Nginx::start();
    let rtmp = nginx.url("");
    let mut example =
        Example::start("embed_server", &["--listen", "127.0.0.1:0", "--rtmp", rtmp.trim_end_matches('/')]);
    let page = example.wait_for("page: ");
    let red = Publisher::start(&format!("{page}whip/red"));
    let test = Publisher::start(&format!("{page}whip/test-1"));
    let path = nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(2, 2));
    example.end();
    nginx.wait_for_log("FCUnpublish", SOON);
    Recording::probe(&path).assert_starts_with_keyframe();
    assert!(nginx.recordings("test").is_empty());
    drop((red, test));
}

#[test]
fn embed_ingest_counts_pictures_of_whom_it_lets_in() {
    let mut example = Example::start("embed_ingest", &["--listen", "127.0.0.1:0", "--token", "one", "--token", "two"]);
    let page = example.wait_for("page: ");
    let offer = |token: &str| Options { token: Some(token.into()), ..Options::default() };
    let refused = Publisher::offer(&format!("{page}whip/live"), offer("three")).err().expect("a refusal");
    assert_eq!(refused.status, 401, "{}", refused.body);
    let publisher = Publisher::start_with(&format!("{page}whip/live"), offer("two"));
    example.wait_for("session: connected");
    loop {
        let stats = example.wait_for("stats: ");
        let pictures = stats.rsplit(", ").next().expect("a number").split(' ').next().expect("a number").to_owned();
        if pictures.parse::<u32>().expect("a number") > 30 {
            break;
        }
    }
    publisher.assert_unharmed();
    example.end();
}

#[test]
fn embed_ingest_pushes_to_an_rtmp_server() {
    let nginx = Nginx::start();
    let mut example = Example::start("embed_ingest", &["--listen", "127.0.0.1:0", "--rtmp", &nginx.url("key")]);
    let page = example.wait_for("page: ");
    let publisher = Publisher::start(&format!("{page}whip/live"));
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(2, 2));
    publisher.assert_unharmed();
    example.end();
    Recording::probe(&path).assert_starts_with_keyframe();
}

#[test]
fn embed_echo_sends_back_pictures_sound_and_messages() {
    let mut example = Example::start("embed_echo", &["--listen", "127.0.0.1:0"]);
    let page = example.wait_for("page: ");
    let video = "videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=240,framerate=30/1";
    let caller = Caller::start(&page, Some("audiotestsrc is-live=true freq=440"), Some(video));
    caller.channel.send_string_full(Some("grüß dich")).expect("sent");
    assert_eq!(caller.wait_text(|_| true), ["grüß dich"]);
    caller.channel.send_data_full(Some(&gst::glib::Bytes::from_static(&[0, 1, 2]))).expect("sent");
    assert_eq!(caller.wait_bytes(), [0, 1, 2]);
    caller.wait_pitch(|pitch| (435.0..445.0).contains(&pitch));
    caller.wait_picture(|picture| picture.is_near(160, 120, [255, 0, 0]));
    caller.wait_pictures(30);
    example.wait_for("text on \"chat\": 9 characters");
    example.wait_for("data on \"chat\": 3 bytes");
    drop(caller);
    example.wait_for("session: ended");
    example.end();
}
