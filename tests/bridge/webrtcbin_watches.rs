//! GStreamer's webrtcbin watches a bridge server: by its own offer, and by the server's where its own fits nothing.

use crate::common::{
    SOON,
    bin_peer::BinPeer,
    http,
    publisher::{Options, Publisher, Video},
    server::BridgeServer,
    viewer::{Viewer, Wants},
    wait_until, whip,
};

fn wait_empty(server: &BridgeServer) {
    let viewers = || {
        let mut list = http().get(format!("{}/api/v1/channels/red", server.url())).call().expect("the channel");
        let list = list.body_mut().read_to_string().expect("text");
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        list["viewers"].as_u64()
    };
    wait_until("nobody", SOON, || (viewers() == Some(0)).then_some(()));
}

fn assert_decodes(viewer: &BinPeer) {
    let decoded = viewer.wait_decoded(30, 50);
    assert_eq!(decoded.size, (640, 360));
    assert!(decoded.peak > 1_000, "the tone is hardly heard: {decoded:?}");
}

#[test]
fn it_decodes_picture_and_sound_of_either_codec() {
    for (video, encoding) in [(Video::H264, "H264"), (Video::Vp8, "VP8")] {
        let server = BridgeServer::start(&[("session", "")]);
        let _publisher =
            Publisher::start_with(&server.whip("red"), Options { video: Some(video), ..Options::default() });
        let viewer = BinPeer::viewer(encoding);
        let (resource, answer) =
            whip::post(&format!("{}/whep/red", server.url()), None, &viewer.offer()).expect("an answer");
        viewer.answered(&answer);
        assert_decodes(&viewer);
        resource.delete();
        wait_empty(&server);
    }
}

#[test]
fn it_answers_the_offer_that_it_is_countered_with() {
    let server = BridgeServer::start(&[("session", "")]);
    let _publisher = Publisher::start(&server.whip("red"));
    let unfit = Viewer::new(Wants { formats: vec![("video/VP8", 96, "")], ..Wants::default() });
    let url = format!("{}/whep/red", server.url());
    let mut countered = http().post(&url).header("Content-Type", "application/sdp").send(unfit.offer()).expect("POST");
    assert_eq!(countered.status().as_u16(), 406);
    let location = countered.headers().get("location").expect("a Location").to_str().expect("text").to_owned();
    let offer = countered.body_mut().read_to_string().expect("an offer");
    let (viewer, answer) = BinPeer::answering(&offer);
    let session = format!("{}{location}", server.url());
    let taken = http().patch(&session).header("Content-Type", "application/sdp").send(&answer).expect("PATCH");
    assert_eq!(taken.status().as_u16(), 204, "{answer}");
    assert_decodes(&viewer);
    assert!(http().delete(&session).call().expect("DELETE").status().is_success());
    wait_empty(&server);
}
