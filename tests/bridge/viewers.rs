//! Who watches a bridge server: by WHEP and over /ws, the same media, the same count, through changes of publisher.

use std::{sync::LazyLock, time::Duration};

use crate::common::{
    SOON,
    countered::Countered,
    peer::{Peer, Script},
    publisher::Video,
    server::BridgeServer,
    viewer::{Viewer, Wants, pictures},
    wait_until,
    whip::{self, Refused, Resource},
};
use crate::socket_support::Client;
use gst::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub(crate) const H264: u8 = 102;
const VP8: u8 = 96;
const OPUS: u8 = 111;

/// A session that takes media and does nothing with it.
pub(crate) const QUIET: &str =
    "webrtcingest name=in ! fakesink sync=false async=false in. ! fakesink sync=false async=false";

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("tokio"));

/// Watches by WHEP.
pub(crate) fn watch(server: &BridgeServer, channel: &str, wants: Wants) -> Result<(Viewer, Resource), Refused> {
    let viewer = Viewer::new(wants);
    let (resource, answer) = whip::post(&format!("{}/whep/{channel}", server.url()), None, viewer.offer())?;
    viewer.answered(&answer);
    Ok((viewer, resource))
}

/// Watches over /ws.
pub(crate) struct Socket {
    pub(crate) client: Client,
    pub(crate) viewer: Viewer,
    /// How many watched when it came.
    audience: Value,
}

impl Socket {
    fn join(server: &BridgeServer, channel: &str) -> (Client, Value) {
        let url = format!("{}/ws", server.url().replace("http", "ws"));
        RUNTIME.block_on(async {
            let mut client = Client::connect(&url).await.expect("a WebSocket");
            let joined = client.ask(json!({"type": "join", "channel": channel, "role": "viewer"})).await;
            (client, joined)
        })
    }

    pub(crate) fn watch(server: &BridgeServer, channel: &str) -> Self {
        let (mut client, joined) = Self::join(server, channel);
        assert_eq!((&joined["type"], &joined["mode"]), (&json!("joined"), &json!("forward")), "{joined}");
        let audience = RUNTIME.block_on(client.hear_type("viewers"))["count"].clone();
        let viewer = Self::offer(&mut client);
        Self { client, viewer, audience }
    }

    fn offer(client: &mut Client) -> Viewer {
        let viewer = Viewer::new(Wants::default());
        let answer = RUNTIME.block_on(client.ask(json!({"type": "offer", "sdp": viewer.offer()})));
        assert_eq!((&answer["type"], &answer["from"]), (&json!("answer"), &Value::Null), "{answer}");
        viewer.answered(answer["sdp"].as_str().expect("an answer"));
        viewer
    }

    pub(crate) fn hear(&mut self, kind: &str) -> Value {
        RUNTIME.block_on(self.client.hear_type(kind))
    }
}

pub(crate) fn wait_media(viewer: &Viewer, payload_type: u8, more: usize) {
    let before = viewer.count(payload_type);
    wait_until("media", SOON, || (viewer.count(payload_type) >= before + more).then_some(()));
}

pub(crate) fn viewers(server: &BridgeServer) -> Vec<gst::Structure> {
    let all = server.stats().get::<gst::Array>("viewers").expect("viewers");
    all.iter().map(|viewer| viewer.get().expect("a structure")).collect()
}

fn metric(server: &BridgeServer, name: &str) -> f64 {
    let text = crate::common::http().get(format!("{}/metrics", server.url())).call().expect("metrics");
    let text = text.into_body().read_to_string().expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn all_viewers_get_what_is_published_beside_the_session_and_are_counted_together() {
    for session in ["", QUIET] {
        let server = BridgeServer::start(&[("session", session)]);
        let peer = Peer::start(&server.whip("red"), Script::default());
        let (viewer, resource) = watch(&server, "red", Wants::default()).expect("an answer");
        wait_media(&viewer, H264, 1);
        let mut socket = Socket::watch(&server, "red");
        for viewer in [&viewer, &socket.viewer] {
            wait_media(viewer, H264, 100);
            wait_media(viewer, OPUS, 20);
            let seen = pictures(&viewer.stream(H264));
            let run = &seen[seen.len() - 11..seen.len() - 1];
            assert!(peer.sent("").windows(run.len()).any(|sent| sent == run), "bit for bit");
        }
        assert_eq!(socket.audience, 2);
        let told = viewers(&server);
        assert_eq!(told.len(), 2);
        for viewer in &told {
            assert_eq!((viewer.get("channel"), viewer.get("connection")), (Ok("red"), Ok("connected")), "{viewer}");
            assert!(viewer.get::<u64>("packets").is_ok_and(|packets| packets > 100), "{viewer}");
        }
        assert!(metric(&server, "webrtcbridge_viewer_sent_packets_total") > 200.0);
        resource.delete();
        assert_eq!(socket.hear("viewers")["count"], 1);
        drop(socket);
        wait_until("nobody", SOON, || viewers(&server).is_empty().then_some(()));
        assert!(metric(&server, "webrtcbridge_viewer_sent_packets_total") > 200.0, "what was sent stays counted");
        if !session.is_empty() {
            let frames = server.element("red", "in").and_then(|stats| stats.get::<u64>("frames").ok());
            assert!(frames.is_some_and(|frames| frames > 30), "{frames:?}");
        }
    }
}

#[test]
fn who_watches_by_whep_stays_through_a_change_of_publisher_and_goes_with_the_channel() {
    let server = BridgeServer::start(&[("session", "")]);
    let Err(refused) = watch(&server, "red", Wants::default()) else { panic!("there is no such channel") };
    assert_eq!(refused.status, 404, "{}", refused.body);
    let first = Peer::start(&server.whip("red"), Script::default());
    let (viewer, resource) = watch(&server, "red", Wants::default()).expect("an answer");
    wait_media(&viewer, H264, 50);
    first.delete();
    let Err(refused) = watch(&server, "red", Wants::default()) else { panic!("nobody is live") };
    assert_eq!(refused.status, 409, "{}", refused.body);
    let _second = Peer::start(&server.whip("red"), Script::default());
    wait_media(&viewer, H264, 100);
    let gone = crate::common::http().delete(format!("{}/api/v1/channels/red", server.url())).call().expect("DELETE");
    assert!(gone.status().is_success());
    wait_until("its end", SOON, || viewers(&server).is_empty().then_some(()));
    assert_eq!(resource.patch("a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n").0, 404);
}

#[test]
fn viewers_of_a_socket_are_told_when_the_channel_is_stopped() {
    let server = BridgeServer::start(&[("session", "")]);
    let _peer = Peer::start(&server.whip("red"), Script::default());
    let mut socket = Socket::watch(&server, "red");
    wait_media(&socket.viewer, H264, 10);
    crate::common::http().delete(format!("{}/api/v1/channels/red", server.url())).call().expect("DELETE");
    assert!(["stopped", "ended"].contains(&socket.hear("closed")["reason"].as_str().expect("a reason")));
    wait_until("its end", SOON, || viewers(&server).is_empty().then_some(()));
}

#[test]
fn a_publisher_with_another_codec_makes_viewers_come_anew() {
    let server = BridgeServer::start(&[("session", ""), ("publish-token", "t")]);
    let script = |video| Script { video: Some(video), token: Some("t".into()), ..Script::default() };
    let _first = Peer::start(&server.whip("red"), script(Video::H264));
    let mut socket = Socket::watch(&server, "red");
    let (viewer, resource) = watch(&server, "red", Wants::default()).expect("an answer");
    wait_media(&viewer, H264, 10);
    wait_media(&socket.viewer, H264, 10);
    // It takes over at once, as it shows the same token.
    let _second = Peer::start(&server.whip("red"), script(Video::Vp8));
    assert_eq!(socket.hear("closed")["reason"], "changed");
    let anew = Socket::offer(&mut socket.client);
    wait_media(&anew, VP8, 10);
    wait_until("the end of the other", SOON, || {
        (resource.patch("a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n").0 == 404).then_some(())
    });
    let (viewer, _resource) = watch(&server, "red", Wants::default()).expect("an answer");
    wait_media(&viewer, VP8, 10);
}

#[test]
fn a_viewer_is_told_of_layers_and_gets_the_one_that_it_chooses() {
    let server = BridgeServer::start(&[("session", "")]);
    let peer = Peer::start(&server.whip("red"), Script::default().with_layers());
    let mut socket = Socket::watch(&server, "red");
    let layers = loop {
        let told = socket.hear("layers");
        let layers = told["layers"].as_array().expect("layers").clone();
        if layers.iter().filter(|layer| layer["height"].is_u64()).count() == 3 {
            break layers;
        }
    };
    let heights: Vec<_> = layers.iter().map(|layer| (&layer["id"], &layer["height"])).collect();
    assert_eq!(json!(heights), json!([["0", 90], ["1", 180], ["2", 360]]));
    let shown = |socket: &Socket| {
        let seen = pictures(&socket.viewer.stream(H264));
        let newest = *seen.get(seen.len().checked_sub(4)?)?;
        ["q", "h", "f"].into_iter().find(|rid| peer.sent(rid).contains(&newest))
    };
    for (choice, rid) in [(json!("0"), "q"), (json!("1"), "h"), (json!(null), "f")] {
        let reply = RUNTIME.block_on(socket.client.ask(json!({"type": "layer", "layer": choice})));
        assert_eq!(reply["type"], "layers", "{reply}");
        wait_until(&format!("layer {choice}"), Duration::from_secs(15), || (shown(&socket) == Some(rid)).then_some(()));
    }
}

#[test]
fn seats_are_for_viewers_of_both_kinds_together() {
    let server = BridgeServer::start(&[("session", ""), ("max-viewers", "1")]);
    let _peer = Peer::start(&server.whip("red"), Script::default());
    let socket = Socket::watch(&server, "red");
    let Err(refused) = watch(&server, "red", Wants::default()) else { panic!("there is no seat") };
    assert_eq!(refused.status, 503, "{}", refused.body);
    drop(socket);
    let (_viewer, resource) = wait_until("a free seat", SOON, || watch(&server, "red", Wants::default()).ok());
    let (_, joined) = Socket::join(&server, "red");
    assert_eq!((&joined["type"], &joined["code"]), (&json!("error"), &json!("unavailable")), "{joined}");
    resource.delete();
    wait_until("a free seat", SOON, || (Socket::join(&server, "red").1["type"] == "joined").then_some(()));
}

#[test]
fn our_own_whep_client_watches_our_server() {
    let server = BridgeServer::start(&[("session", "")]);
    let _peer = Peer::start(&server.whip("red"), Script::default());
    let uri = format!("{}/whep/red", server.url().replace("http", "whep"));
    // Elements of one process share their UDP port unless told otherwise, and nobody can talk to himself.
    let port = crate::common::free_port();
    let line = format!(
        "webrtcingest name=in uri={uri} ice-udp-port={port} in. ! fakesink sync=false async=false in. ! fakesink sync=false async=false"
    );
    let pipeline = gst::parse::launch(&line).expect("a pipeline").downcast::<gst::Pipeline>().expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("playing");
    let element = pipeline.by_name("in").expect("the element");
    wait_until("frames", SOON, || {
        element.property::<gst::Structure>("stats").get::<u64>("frames").ok().filter(|frames| *frames > 60)
    });
    pipeline.set_state(gst::State::Null).expect("stopped");
    wait_until("its goodbye", SOON, || viewers(&server).is_empty().then_some(()));
}

/// A player that offers a codec which there is not, and has it nevertheless: our own client, which takes a counter-offer.
#[test]
fn a_player_that_offers_nothing_of_use_gets_an_offer_that_it_can_answer() {
    let server = BridgeServer::start(&[("session", "")]);
    let _peer = Peer::start(&server.whip("red"), Script::default());
    let vp8_only = Wants { formats: vec![("video/VP8", VP8, "")], ..Wants::default() };
    let viewer = Viewer::new(vp8_only);
    let countered = Countered::post(&format!("{}/whep/red", server.url()), viewer.offer());
    let answering = Viewer::answering(Wants::default(), &countered.offer);
    assert_eq!(countered.answer(answering.answer()), 204);
    for (codec, more) in [("H264/90000", 50), ("opus/48000", 20)] {
        wait_media(&answering, countered.payload_type(codec), more);
    }
    assert_eq!(countered.answer(answering.answer()), 422, "there is one answer");
    assert_eq!(countered.delete(), 200);
    wait_until("nobody", SOON, || viewers(&server).is_empty().then_some(()));
}

#[test]
fn who_ends_a_session_while_his_answer_is_being_taken_has_none() {
    let server = BridgeServer::start(&[("session", "")]);
    let _peer = Peer::start(&server.whip("red"), Script::default());
    let useless = Viewer::new(Wants { formats: vec![("video/VP8", VP8, "")], ..Wants::default() });
    let mut statuses = Vec::new();
    for round in 0..10 {
        let countered = Countered::post(&format!("{}/whep/red", server.url()), useless.offer());
        let answering = Viewer::answering(Wants::default(), &countered.offer);
        let deleted = std::thread::scope(|scope| {
            let answered = scope.spawn(|| countered.answer(answering.answer()));
            // So that it comes before, while and after it is taken.
            std::thread::sleep(Duration::from_millis(round / 2));
            let deleted = countered.delete();
            let status = answered.join().expect("a status");
            assert!(matches!(status, 204 | 404 | 409 | 410 | 422), "{status}");
            statuses.push(status);
            deleted
        });
        assert_eq!(deleted, 200);
    }
    let end = std::time::Instant::now() + SOON;
    while !viewers(&server).is_empty() {
        assert!(std::time::Instant::now() < end, "answers had {statuses:?}, and there are {:#?}", viewers(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
}
