//! The tests of webrtc-echoes (github.com/sipsorcery/webrtc-echoes, `doc/`): a client that is not ours posts its offer as JSON
//! to `/offer`, connects, and gets back what it sends: media in the one, a string on its data channel in the other.

use std::{
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use crate::{
    common::{SOON, bin_peer::BinPeer, http, server::BridgeServer, wait_until},
    socket_support::Client,
};
use gst::prelude::*;
use gst_webrtc::WebRTCDataChannel;
use serde_json::json;

fn echo() -> BridgeServer {
    BridgeServer::start(&[("session", "webrtcingest : webrtcegress")])
}

/// The answer to an offer.
fn exchange(server: &BridgeServer, offer: &str) -> String {
    let body = json!({"type": "offer", "sdp": offer}).to_string();
    let url = format!("{}/offer", server.url());
    let mut response = http().post(&url).header("Content-Type", "application/json").send(body).expect("POST");
    let text = response.body_mut().read_to_string().expect("a body");
    let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((response.status().as_u16(), body["type"].as_str()), (200, Some("answer")), "{text}");
    body["sdp"].as_str().expect("an answer").to_owned()
}

fn aiortc(server: &BridgeServer, test: &str) -> Output {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/echoes/client.py");
    // Debian's, whatever else is called so here.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(client).arg(format!("{}/offer", server.url())).arg(test);
    command.output().expect("python3, with Debian's python3-aiortc")
}

fn assert_passed(server: &BridgeServer, test: &str) {
    let output = aiortc(server, test);
    let [said, errors] =
        [&output.stdout, &output.stderr].map(|text: &Vec<u8>| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success() && said.contains("came back"), "{said}{errors}");
}

#[test]
fn aiortc_passes_the_peer_connection_test_and_gets_picture_and_sound_back() {
    assert_passed(&echo(), "peer");
}

#[test]
fn aiortc_passes_the_data_channel_test() {
    assert_passed(&echo(), "data");
}

#[test]
fn aiortc_fails_the_data_channel_test_where_nothing_is_sent_back() {
    let server = BridgeServer::start(&[("session", "webrtcingest ! fakesink")]);
    let output = aiortc(&server, "data");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("connected") && !said.contains("came back"), "{output:?}");
}

#[test]
fn webrtcbin_passes_the_peer_connection_test_and_decodes_what_comes_back() {
    let (server, peer) = (echo(), BinPeer::both_ways());
    peer.answered(&exchange(&server, &peer.offer()));
    let decoded = peer.wait_decoded(20, 40);
    assert_eq!(decoded.size, (320, 240));
    assert!(decoded.peak > 8_000, "the tone is hardly heard: {decoded:?}");
}

#[test]
fn webrtcbin_passes_the_data_channel_test() {
    let (server, peer) = (echo(), BinPeer::both_ways());
    let channel: WebRTCDataChannel =
        peer.webrtc.emit_by_name("create-data-channel", &[&"echo", &None::<gst::Structure>]);
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let hears = heard.clone();
    channel.connect_on_message_string(move |_, text| {
        hears.lock().expect("heard").push(text.unwrap_or_default().to_owned());
    });
    let sent: String = format!("{:05x}", rand::random_range(0..0x10_0000_u32));
    let text = sent.clone();
    channel.connect_on_open(move |channel| channel.send_string_full(Some(&text)).expect("sent"));
    peer.answered(&exchange(&server, &peer.offer()));
    wait_until("the string", SOON, || (*heard.lock().expect("heard") == [sent.clone()]).then_some(()));
}

#[test]
fn a_publisher_over_a_websocket_gets_picture_and_sound_back() {
    let (server, peer) = (echo(), BinPeer::both_ways());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let offer = peer.offer();
    let (answer, _client) = runtime.block_on(async {
        let url = format!("{}/ws", server.url().replacen("http", "ws", 1));
        let mut client = Client::connect(&url).await.expect("a WebSocket");
        let joined = client.ask(json!({"type": "join", "channel": "red", "role": "publisher"})).await;
        assert_eq!(joined["mode"], "forward", "{joined}");
        (client.ask(json!({"type": "offer", "sdp": offer})).await, client)
    });
    assert_eq!(answer["type"], "answer", "{answer}");
    peer.answered(answer["sdp"].as_str().expect("an answer"));
    let decoded = peer.wait_decoded(20, 40);
    assert_eq!(decoded.size, (320, 240));
    assert!(decoded.peak > 8_000, "the tone is hardly heard: {decoded:?}");
    assert_eq!(server.sessions(), 1);
}
