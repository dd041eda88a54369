//! Two peers meet in a channel of a signaling server: `webrtcingest uri=ws://…` is one of them.

use std::sync::Arc;

use crate::common::{
    player::Player,
    publisher::{Options, Publisher},
};
use crate::meeting::{apart, site, url};
use crate::socket_support::{Client, Site};
use crate::whip_support::Fake;
use gstwebrtcbridge::signaling::Access;
use serde_json::{Value, json};

async fn player(site: &Site, properties: &'static str) -> Arc<Player> {
    let url = url(site);
    Arc::new(apart(move || Player::start(&url, properties)).await)
}

async fn frames(player: &Arc<Player>, more: u64) {
    let player = player.clone();
    apart(move || player.wait_frames(more)).await;
}

/// The other peer: there first, it sends media to whoever comes.
async fn offers(client: &mut Client) -> Publisher {
    let peer = client.hear_type("peer-joined").await["peer"].clone();
    let (publisher, offer) = apart(|| Publisher::describe(Options::default())).await;
    // Candidates on their own, as browsers do it.
    let is_candidate = |line: &&str| line.starts_with("a=candidate:");
    let candidates: Vec<&str> = offer.lines().filter(is_candidate).collect();
    let sdp: String = offer.lines().filter(|line| !is_candidate(line)).flat_map(|line| [line, "\r\n"]).collect();
    client.send(json!({"type": "offer", "to": peer, "sdp": sdp})).await;
    assert!(!candidates.is_empty());
    for line in candidates {
        let line = line.trim_start_matches("a=");
        client.send(json!({"type": "candidate", "to": peer, "candidate": line, "sdpMLineIndex": 0})).await;
    }
    client.send(json!({"type": "candidate", "to": peer, "candidate": ""})).await;
    let answer = description(&client.hear_type("answer").await, &peer);
    apart(move || {
        publisher.accept(&answer);
        publisher
    })
    .await
}

/// The other peer: the second to come, it answers with media.
async fn answers(client: &mut Client) -> Publisher {
    let offer = client.hear_type("offer").await;
    let peer = offer["from"].clone();
    let sdp = description(&offer, &peer);
    let (publisher, answer) = apart(move || Publisher::answer(&sdp, Options::default())).await;
    client.send(json!({"type": "answer", "to": peer, "sdp": answer})).await;
    publisher
}

fn description(message: &Value, from: &Value) -> String {
    assert_eq!(&message["from"], from, "{message}");
    message["sdp"].as_str().expect("sdp").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_first_offers_and_the_stream_ends_when_he_goes() {
    let site = site();
    let (mut client, _) = site.joined("blue", "peer").await;
    let player = player(&site, "").await;
    let publisher = offers(&mut client).await;
    frames(&player, 20).await;
    client.send(json!({"type": "leave"})).await;
    let ended = player.clone();
    let reason = apart(move || {
        ended.wait_eos();
        ended.wait_state("stopped")
    })
    .await;
    assert_eq!(reason, "the other peer has gone");
    drop(publisher);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_element_offers_to_who_comes_after_it_and_again_to_the_next_one() {
    let site = site();
    let player = player(&site, "on-disconnect=wait").await;
    let waiting = player.clone();
    apart(move || waiting.wait_state("waiting")).await;
    for _ in 0..2 {
        let (mut client, _) = site.joined("blue", "peer").await;
        let publisher = answers(&mut client).await;
        frames(&player, 20).await;
        client.send(json!({"type": "leave"})).await;
        client.hear_type("closed").await;
        drop(publisher);
    }
    let stats = player.stats();
    assert_eq!(stats.get::<u64>("sessions"), Ok(2), "{stats}");
    let (mut client, _) = site.joined("blue", "peer").await;
    let offer = client.hear_type("offer").await;
    // It says goodbye as well.
    let stopping = player.clone();
    apart(move || stopping.stop()).await;
    assert_eq!(client.hear_type("peer-left").await["peer"], offer["from"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_peer_disturbs_nobody() {
    let site = site();
    let (mut client, _) = site.joined("blue", "peer").await;
    let player = player(&site, "").await;
    let publisher = offers(&mut client).await;
    frames(&player, 10).await;
    let (mut third, _) = site.joined("blue", "peer").await;
    third.send(json!({"type": "leave"})).await;
    third.hear_type("closed").await;
    frames(&player, 20).await;
    drop(publisher);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_the_right_one_is_named_and_the_right_one_is_sent() {
    let access = Access { view_token: Some("s3cret".into()), publish_token: Some("p".into()), ..Access::default() };
    let site = Site::with(Arc::new(Fake::default()), access, std::time::Duration::from_secs(60));
    let refused = player(&site, "auth-token=wrong").await;
    let error = apart(move || refused.wait_error()).await;
    assert!(error.contains("does not let us join") && error.contains("token"), "{error}");
    let welcome = player(&site, "auth-token=s3cret").await;
    apart(move || welcome.wait_state("waiting")).await;
}

#[test]
fn a_server_that_is_not_there_is_tried_again() {
    let port = crate::common::free_port();
    let player = Player::start(&format!("\"ws://127.0.0.1:{port}/ws?channel=blue&key=s3cret\""), "");
    let reason = player.wait_state("retrying");
    assert!(reason.contains("cannot be reached") && !reason.contains("s3cret"), "{reason}");
    assert!(player.wait_warning().contains("trying again"));
    // One that is no signaling server.
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port");
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
    let error = player.wait_error();
    assert!(error.contains("200"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_not_answered_is_not_waited_for_without_end() {
    let site = site();
    let player = player(&site, "connect-timeout=3000").await;
    let waiting = player.clone();
    apart(move || waiting.wait_state("waiting")).await;
    let (mut client, _) = site.joined("blue", "peer").await;
    client.hear_type("offer").await;
    let offer = client.hear_type("offer").await;
    let reason = player.clone();
    assert_eq!(apart(move || reason.wait_state("retrying")).await, "the other peer has not answered our offer");
    // This one is answered.
    let (peer, sdp) = (offer["from"].clone(), description(&offer, &offer["from"]));
    let (publisher, answer) = apart(move || Publisher::answer(&sdp, Options::default())).await;
    client.send(json!({"type": "answer", "to": peer, "sdp": answer})).await;
    frames(&player, 20).await;
    drop(publisher);
}
