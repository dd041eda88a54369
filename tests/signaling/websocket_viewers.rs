//! Viewers on `/ws`: who is served by the publisher's page and who by the server, what is passed between them, and what
//! everybody is told of who watches.

use std::sync::Arc;

use crate::socket_support::{Client, Site};
use crate::whip_support::{Fake, offer};
use gstwebrtcbridge::channel::{Claim, Credential, PublisherLease, Registry as _};
use serde_json::{Value, json};

fn join(channel: &str, role: &str) -> Value {
    json!({"type": "join", "channel": channel, "role": role})
}

fn site(p2p_viewers: u32) -> Site {
    Site::with_viewers(Arc::new(Fake::default()), p2p_viewers)
}

/// Somebody who sends media to the channel, and has no page.
async fn publishing(site: &Site, channel: &str) -> PublisherLease {
    let claim = Claim { credential: Credential::Anonymous, last_media: Arc::new(|| None), is_private: false };
    site.registry.publish(&channel.parse().unwrap(), claim).await.unwrap()
}

async fn viewer(site: &Site, channel: &str) -> (Client, Value) {
    let mut client = site.client().await;
    let joined = client.ask(join(channel, "viewer")).await;
    (client, joined)
}

#[tokio::test]
async fn a_viewer_and_the_publishers_page_find_each_other_and_the_server_only_passes_on() {
    let site = site(2);
    let mut host = site.client().await;
    let joined = host.ask(join("show", "publisher")).await;
    assert_eq!(joined["mode"], "p2p");
    let turn = json!([{"urls": "turn:turn.example:3478", "username": "ann", "credential": "s3cret"}]);
    assert_eq!(joined["iceServers"], turn);
    let (mut ann, joined) = viewer(&site, "show").await;
    assert_eq!((&joined["mode"], &joined["iceServers"]), (&json!("p2p"), &turn));
    let told = host.hear_type("peer-joined").await;
    assert_eq!(told["peer"], joined["peer"]);
    assert_eq!(host.hear_type("viewers").await["count"], 1);
    assert_eq!(ann.hear_type("viewers").await["count"], 1);

    host.send(json!({"type": "offer", "to": joined["peer"], "sdp": offer(0)})).await;
    assert_eq!(ann.hear_type("offer").await["sdp"], offer(0));
    ann.send(json!({"type": "answer", "sdp": offer(1)})).await;
    let answer = host.hear_type("answer").await;
    assert_eq!((&answer["from"], &answer["sdp"]), (&joined["peer"], &json!(offer(1))));
    ann.send(json!({"type": "candidate", "candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0"}))
        .await;
    assert_eq!(host.hear_type("candidate").await["from"], joined["peer"]);
    drop(ann);
    assert_eq!(host.hear_type("peer-left").await["peer"], joined["peer"]);
    assert_eq!(host.hear_type("viewers").await["count"], 0);
}

#[tokio::test]
async fn beyond_the_number_and_without_a_page_viewers_are_the_servers() {
    let site = site(1);
    let (_host, _) = site.joined("show", "publisher").await;
    let (_ann, first) = viewer(&site, "show").await;
    let (mut bob, second) = viewer(&site, "show").await;
    assert_eq!((&first["mode"], &second["mode"]), (&json!("p2p"), &json!("forward")));
    let answer = bob.ask(json!({"type": "offer", "sdp": offer(0)})).await;
    assert_eq!((&answer["type"], &answer["from"]), (&json!("answer"), &Value::Null), "{answer}");

    let _whip = publishing(&site, "plain").await;
    let (_eve, third) = viewer(&site, "plain").await;
    assert_eq!(third["mode"], "forward");
    let (_, full) = viewer(&site, "plain").await;
    assert_eq!((&full["type"], &full["code"]), (&json!("error"), &json!("unavailable")), "three are the most");
}

#[tokio::test]
async fn a_viewer_who_asks_the_server_is_not_the_pages_any_more() {
    let site = site(1);
    let (mut host, _) = site.joined("show", "publisher").await;
    let (mut ann, joined) = viewer(&site, "show").await;
    assert_eq!(ann.ask(json!({"type": "offer", "sdp": offer(0)})).await["type"], "answer");
    assert_eq!(host.hear_type("peer-left").await["peer"], joined["peer"]);
    let (_bob, second) = viewer(&site, "show").await;
    assert_eq!(second["mode"], "p2p", "his place is free");
}

#[tokio::test]
async fn viewers_are_told_when_the_broadcast_is_over_however_it_ends() {
    let site = site(2);
    for is_direct in [true, false] {
        let whip = if is_direct { None } else { Some(publishing(&site, "show").await) };
        let mut host = site.client().await;
        host.ask(json!({"type": "join", "channel": "show", "role": "publisher", "p2p": is_direct})).await;
        let (mut ann, joined) = viewer(&site, "show").await;
        assert_eq!(joined["mode"], if is_direct { "p2p" } else { "forward" });
        let (mut bob, _) = viewer(&site, "show").await;
        host.ask(json!({"type": "leave"})).await;
        drop(whip);
        for viewer in [&mut ann, &mut bob] {
            assert_eq!(viewer.hear_type("closed").await["reason"], "ended");
            assert_eq!(viewer.refused(json!({"type": "leave"})).await.0, "not-joined");
        }
    }
}

#[tokio::test]
async fn the_list_shows_a_hosted_channel_as_live_and_is_pushed_when_it_is_no_more() {
    let site = site(1);
    let mut lobby = site.client().await;
    lobby.ask(json!({"type": "list"})).await;
    let (host, _) = site.joined("show", "publisher").await;
    let live = async |lobby: &mut Client, wanted: Value| {
        while lobby.hear_type("channels").await["channels"][0]["live"] != wanted {}
    };
    live(&mut lobby, json!(true)).await;
    drop(host);
    live(&mut lobby, json!(false)).await;
}

#[tokio::test]
async fn names_of_who_comes_and_goes_are_told_and_the_broadcaster_is_known() {
    let site = site(2);
    let (mut host, host_id) = site.joined("show", "publisher").await;
    host.ask(json!({"type": "alias", "name": "Bob"})).await;
    let mut ann = site.client().await;
    ann.send(json!({"type": "alias", "name": "Ann"})).await;
    let joined = ann.ask(join("show", "viewer")).await;
    let here = host.hear_type("chat-joined").await;
    assert_eq!((&here["peer"], &here["name"], &here["was"]), (&joined["peer"], &json!("Ann"), &Value::Null));
    ann.send(json!({"type": "alias", "name": "Anna"})).await;
    let renamed = host.hear_type("chat-joined").await;
    assert_eq!((&renamed["name"], &renamed["was"]), (&json!("Anna"), &json!("Ann")));
    host.send(json!({"type": "chat", "text": "hi"})).await;
    let said = ann.hear_type("chat").await;
    assert_eq!((&said["from"], &said["name"], &said["broadcaster"]), (&json!(host_id), &json!("Bob"), &json!(true)));
    drop(ann);
    assert_eq!(host.hear_type("chat-left").await["name"], "Anna");
}
