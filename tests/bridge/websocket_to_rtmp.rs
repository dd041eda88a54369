//! Publishing over /ws to a bridge server with real sessions: media reaches the RTMP server, and each side hears of the end.

use crate::common::{
    SOON,
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
    server::BridgeServer,
};
use crate::socket_support::Client;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A page: a WebSocket, and the peer connection beside it.
struct Page {
    runtime: Runtime,
    client: Client,
}

impl Page {
    fn open(server: &BridgeServer) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        let url = format!("{}/ws", server.url().trim_end_matches('/').replacen("http", "ws", 1));
        let client = runtime.block_on(Client::connect(&url)).expect("a WebSocket");
        Self { runtime, client }
    }

    fn ask(&mut self, message: Value) -> Value {
        self.runtime.block_on(self.client.ask(message))
    }

    fn hear_type(&mut self, kind: &str) -> Value {
        self.runtime.block_on(self.client.hear_type(kind))
    }

    fn publish(&mut self, channel: &str) -> Publisher {
        let joined = self.ask(json!({"type": "join", "channel": channel, "role": "publisher"}));
        assert_eq!(joined["mode"], "forward", "{joined}");
        let (publisher, offer) = Publisher::describe(Options::default());
        // As a browser does it: first an offer without candidates, then one candidate after another.
        let is_candidate = |line: &&str| line.starts_with("a=candidate:");
        let bare: String = offer.lines().filter(|line| !is_candidate(line)).flat_map(|line| [line, "\r\n"]).collect();
        let answer = self.ask(json!({"type": "offer", "sdp": bare}));
        publisher.accept(answer["sdp"].as_str().unwrap_or_else(|| panic!("{answer}")));
        for line in offer.lines().filter(is_candidate) {
            let candidate = line.trim_start_matches("a=");
            self.runtime
                .block_on(self.client.send(json!({"type": "candidate", "candidate": candidate, "sdpMLineIndex": 0})));
        }
        let first = self.hear_type("candidate");
        assert!(first["candidate"].as_str().is_some_and(|text| text.starts_with("candidate:")), "{first}");
        assert!(answer["sdp"].as_str().is_some_and(|sdp| sdp.contains(first["candidate"].as_str().unwrap_or("?"))));
        while self.hear_type("candidate")["candidate"] != "" {}
        publisher.wait_connected(SOON);
        publisher
    }
}

fn start(nginx: &Nginx) -> BridgeServer {
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    BridgeServer::start(&[("session", &session)])
}

#[test]
fn what_is_published_over_a_websocket_is_recorded_and_ends_with_its_connection() {
    let nginx = Nginx::start();
    let server = start(&nginx);
    let mut page = Page::open(&server);
    let publisher = page.publish("red");
    let path = nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(2, 2));
    Recording::probe(&path).assert_starts_with_keyframe();
    publisher.assert_unharmed();
    drop(page);
    server.wait_state("red", "ended");
    nginx.wait_for_log("FCUnpublish", SOON);
}

#[test]
fn the_owner_of_a_channel_takes_over_by_whip_and_the_page_is_told_so() {
    let nginx = Nginx::start();
    let server = start(&nginx);
    let mut page = Page::open(&server);
    let created = page.ask(json!({"type": "create"}));
    let (channel, key) = (created["channel"].as_str().expect("a channel"), created["key"].as_str().expect("a key"));
    let _publisher = page.publish(channel);
    nginx.wait_recorded(channel, SOON, |flv| flv.has_seconds(1, 1));
    let options = Options { token: Some(key.to_owned()), ..Options::default() };
    let whip = Publisher::start_with(&server.whip(channel), options);
    assert_eq!(page.hear_type("closed")["reason"], "replaced");
    whip.assert_unharmed();
    let other = Publisher::offer(&server.whip(channel), Options::default());
    assert_eq!(other.err().map(|refused| refused.status), Some(401), "it has a key");
}

#[test]
fn stopping_a_channel_ends_its_session_before_it_is_answered() {
    let nginx = Nginx::start();
    let server = start(&nginx);
    let mut page = Page::open(&server);
    let _publisher = page.publish("red");
    nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(1, 1));
    assert_eq!(page.ask(json!({"type": "stop"}))["reason"], "stopped");
    server.wait_state("red", "ended");
    assert_eq!(page.ask(json!({"type": "list"}))["channels"], json!([]));
}

#[test]
fn a_bin_without_a_session_relays_between_peers() {
    let server = BridgeServer::start(&[]);
    let (mut ann, mut bob) = (Page::open(&server), Page::open(&server));
    let join = json!({"type": "join", "channel": "room", "role": "peer"});
    let id = ann.ask(join.clone())["peer"].clone();
    bob.ask(join);
    let peer = ann.hear_type("peer-joined")["peer"].clone();
    let (_publisher, offer) = Publisher::describe(Options::default());
    ann.runtime.block_on(ann.client.send(json!({"type": "offer", "to": peer, "sdp": offer})));
    assert_eq!(bob.hear_type("offer"), json!({"type": "offer", "from": id, "sdp": offer}));
    drop(ann);
    assert_eq!(bob.hear_type("peer-left")["peer"], id);
}
