//! The forms in which a launch line may be written.

use std::time::Duration;

use crate::common::{
    SOON, free_port, launch::Launch, nginx::Nginx, publisher::Publisher, recording::Recording, wait_until,
};

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

/// As README.md has it, with shorter parts that all stay.
#[test]
fn each_channel_is_written_as_hls_beside_rtmp_and_ends_with_its_publisher() {
    let (nginx, port) = (Nginx::start(), free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let of_channel = |name: &str| folder.path().join(name).display().to_string();
    let session = format!(
        "session=webrtcingest name=in \
         in.video_0 ! queue ! h264parse ! tee name=v v. ! queue ! out.video v. ! queue ! hls.video \
         in.audio_0 ! queue ! opusdec ! audioconvert ! audioresample ! voaacenc bitrate=128000 ! aacparse \
         ! tee name=a a. ! queue ! out.audio a. ! queue ! hls.audio \
         rtmpbridgesink name=out location={} \
         hlssink2 name=hls target-duration=1 playlist-length=0 max-files=0 playlist-location={} location={}",
        nginx.url("{channel}"),
        of_channel("{channel}.m3u8"),
        of_channel("{channel}-{started}-%05d.ts")
    );
    let listen = format!("listen=127.0.0.1:{port}");
    let mut launch = Launch::start_words(&["webrtcbridgebin", &listen, "video-codecs=<H264>", &session]);
    launch.wait_listening(port);
    let playlist = |channel: &str| folder.path().join(format!("{channel}.m3u8"));
    let parts =
        |channel: &str| std::fs::read_to_string(playlist(channel)).map_or(0, |text| text.matches("#EXTINF").count());
    let one = Publisher::start(&format!("http://127.0.0.1:{port}/whip/one"));
    let two = Publisher::start(&format!("http://127.0.0.1:{port}/whip/two"));
    let pushed = nginx.wait_recorded("one", SOON, |flv| flv.has_seconds(3, 3));
    wait_until("parts of both channels", SOON, || (parts("one") > 1 && parts("two") > 1).then_some(()));
    one.delete();
    let is_over = |channel: &str| {
        std::fs::read_to_string(playlist(channel)).is_ok_and(|text| text.trim_end().ends_with("#EXT-X-ENDLIST"))
    };
    wait_until("the end of the playlist", SOON, || is_over("one").then_some(()));
    assert!(!is_over("two"), "the other channel goes on");
    let shows = |channel: &str| {
        let names = std::fs::read_dir(folder.path()).expect("the folder").flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok()?.strip_suffix("-00000.ts").map(str::to_owned));
        names.filter(|name| name.starts_with(channel)).count()
    };
    assert_eq!((shows("one"), shows("two")), (1, 1));
    let again = Publisher::start(&format!("http://127.0.0.1:{port}/whip/one"));
    wait_until("parts of the next show", SOON, || (!is_over("one") && parts("one") > 1).then_some(()));
    again.delete();
    wait_until("the end of the next show", SOON, || is_over("one").then_some(()));
    assert_eq!(shows("one"), 2, "the names of the first show are not used again");
    two.delete();
    wait_until("the end of the other", SOON, || is_over("two").then_some(()));
    launch.end_cleanly();
    for channel in ["one", "two"] {
        let recording = Recording::probe(&playlist(channel));
        assert_eq!(
            [recording.codec("video"), recording.codec("audio")],
            ["h264", "aac"].map(|codec| Some(codec.to_owned()))
        );
        recording.assert_decodes();
    }
    Recording::probe(&pushed).assert_good();
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
