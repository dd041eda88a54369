//! H.265, which legacy RTMP cannot carry and few browsers send: from webrtcbin to an RTMP server.

use std::time::Duration;

use crate::common::{
    bridge::Bridge,
    clip,
    nginx::Nginx,
    publisher::{Options, Publisher, Video},
    recording::Recording,
};

#[test]
fn h265_from_webrtcbin_arrives_as_h264_and_aac() {
    clip::h265(); // takes some seconds to encode; not while something waits for it
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let options = Options { video: Some(Video::H265), ..Options::default() };
    let publisher = Publisher::start_with(&bridge.url(), options);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(3, 3));
    publisher.assert_unharmed();
    publisher.delete();
    bridge.launch.end_cleanly();
    let recording = Recording::probe(&nginx.recordings("key").pop().expect("a recording"));
    recording.assert_good();
    assert_eq!(recording.size(), (clip::WIDTH.into(), clip::HEIGHT.into()));
}
