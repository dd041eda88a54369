//! A server that goes down tells its viewers, and a conversation with a pipeline is no broadcast.

use std::{
    io::{BufRead as _, BufReader},
    time::Duration,
};

use crate::{
    common::{
        SOON, http,
        peer::{Peer, Script},
        server::BridgeServer,
        viewer::Wants,
        wait_until,
    },
    viewers::{H264, QUIET, RUNTIME, Socket, viewers, wait_media, watch},
};
use gst::prelude::*;
use serde_json::json;

/// The names of the events of a stream, up to its end.
fn events(url: &str) -> std::sync::mpsc::Receiver<String> {
    let made = http().post(format!("{url}/sse")).content_type("application/json").send("[\"reconnect\",\"active\"]");
    let made = made.expect("an answer");
    assert_eq!(made.status().as_u16(), 201);
    let location = made.headers().get("location").expect("a Location").to_str().expect("text").to_owned();
    let origin = &url[..url.find("/whep").expect("an origin")];
    let stream = http().get(format!("{origin}{location}")).call().expect("a stream");
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream.into_body().into_reader()).lines().map_while(Result::ok) {
            if let Some(event) = line.strip_prefix("event:") {
                let _ = heard.send(event.trim().to_owned());
            }
        }
    });
    hears
}

fn viewers_are_told(session: &str, end: impl FnOnce(&BridgeServer), is_over: impl Fn(&BridgeServer) -> bool) {
    let server = BridgeServer::start(&[("session", session)]);
    let _peer = Peer::start(&server.whip("red"), Script::default());
    let (viewer, resource) = watch(&server, "red", Wants::default()).expect("an answer");
    let mut socket = Socket::watch(&server, "red");
    wait_media(&viewer, H264, 10);
    wait_media(&socket.viewer, H264, 10);
    let events = events(&resource.url);
    assert_eq!(events.recv_timeout(SOON).as_deref(), Ok("active"));
    end(&server);
    let refused = watch(&server, "red", Wants::default()).err().expect("nobody is let in");
    assert!([409, 503].contains(&refused.status), "{}", refused.status);
    let reason = socket.hear("closed")["reason"].clone();
    assert!(["stopped", "ended"].contains(&reason.as_str().expect("a reason")), "{reason}");
    assert_eq!(events.recv_timeout(SOON).as_deref(), Ok("reconnect"), "told by WHEP");
    wait_until("the end", SOON, || is_over(&server).then_some(()));
    wait_until("nobody", Duration::from_secs(1), || viewers(&server).is_empty().then_some(()));
}

#[test]
fn draining_ends_viewers_too_and_tells_them() {
    for session in ["", QUIET] {
        let drain = |server: &BridgeServer| server.bin.emit_by_name::<()>("drain", &[&3000_u32]);
        let is_drained =
            |server: &BridgeServer| server.others().into_iter().any(|other| other.starts_with("webrtcbridge-drained"));
        viewers_are_told(session, drain, is_drained);
    }
}

#[test]
fn the_end_of_the_stream_ends_viewers_too_and_tells_them() {
    let end = |server: &BridgeServer| assert!(server.pipeline.send_event(gst::event::Eos::new()));
    viewers_are_told("", end, BridgeServer::saw_eos);
}

/// A publisher who gets back what he sends is in nobody's list, and has a channel all the same.
#[test]
fn who_speaks_with_a_pipeline_is_not_listed_as_a_broadcast() {
    let server = BridgeServer::start(&[("session", "webrtcingest : webrtcegress")]);
    let url = format!("{}/ws", server.url().replace("http", "ws"));
    let live = |channel: &str| {
        RUNTIME.block_on(async {
            let mut client = crate::socket_support::Client::connect(&url).await.expect("a WebSocket");
            let told = client.ask(json!({"type": "list"})).await;
            let all = told["channels"].as_array().expect("channels").clone();
            all.into_iter().find(|other| other["id"] == channel).map(|channel| channel["live"] == true)
        })
    };
    let _broadcast = Peer::start(&server.whip("red"), Script::default());
    wait_until("a broadcast", SOON, || (live("red") == Some(true)).then_some(()));
    let (_client, _viewer) = RUNTIME.block_on(async {
        let mut client = crate::socket_support::Client::connect(&url).await.expect("a WebSocket");
        let joined = client.ask(json!({"type": "join", "channel": "blue", "role": "publisher"})).await;
        assert_eq!(joined["type"], "joined", "{joined}");
        // Both ways, as a browser's transceivers are unless told otherwise.
        let viewer = tokio::task::spawn_blocking(|| crate::common::viewer::Viewer::new(Wants::default())).await;
        let viewer = viewer.expect("an offer");
        let offer = viewer.offer().replace("a=recvonly", "a=sendrecv");
        let answer = client.ask(json!({"type": "offer", "sdp": offer})).await;
        assert_eq!(answer["type"], "answer", "{answer}");
        assert!(answer["sdp"].as_str().is_some_and(|sdp| sdp.contains("a=sendrecv")), "{answer}");
        (client, viewer)
    });
    wait_until("a channel that is not live", SOON, || (live("blue") == Some(false)).then_some(()));
    assert_eq!(live("red"), Some(true));
}
