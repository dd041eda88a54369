//! Viewers of `webrtcegress` that are not ours, and a publisher's whole way: into a bridge, out by RTMP.

use crate::common::{
    SOON, bin_peer::BinPeer, egress::Egress, nginx::Nginx, recording::Recording, server::BridgeServer, wait_until, whip,
};

const SOURCES: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=15/1 \
    ! out.video_0 audiotestsrc is-live=true volume=0.5 ! out.audio_0";

#[test]
fn webrtcbin_watches_in_either_codec_and_decodes_picture_and_sound() {
    for encoding in ["H264", "VP8"] {
        let egress = Egress::start("", SOURCES);
        let viewer = BinPeer::viewer(encoding);
        let (resource, answer) = whip::post(&egress.url(), None, &viewer.offer()).expect("an answer");
        viewer.answered(&answer);
        let decoded = viewer.wait_decoded(30, 50);
        assert_eq!(decoded.size, (320, 180));
        assert!(decoded.peak > 8_000, "the tone is hardly heard: {decoded:?}");
        assert_eq!(egress.track("video_0").get::<&str>("codec"), Ok(encoding));
        resource.delete();
        wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
        assert_eq!(egress.error(), None);
    }
}

#[test]
fn what_is_pushed_to_a_bridge_server_arrives_at_an_rtmp_server_whole() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session)]);
    // Both ends are in one process here, and a UDP port does not talk to itself.
    let port = format!("ice-udp-port={}", crate::common::free_udp_port());
    let push = Egress::start_at(&server.whip("red").replacen("http", "whip", 1), &port, SOURCES);
    let path = nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(4, 4));
    let passed = server.element("red", "rtmpbridgesink").expect("the sink's statistics");
    assert_eq!(push.track("video_0").get::<&str>("codec"), Ok("H264"), "{passed}");
    drop(push);
    nginx.wait_for_log("FCUnpublish", SOON);
    let recording = Recording::probe(&path);
    recording.assert_good();
    assert_eq!(recording.size(), (320, 180));
}
