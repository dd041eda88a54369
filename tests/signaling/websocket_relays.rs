//! /ws between its clients: channels, joining, relaying, chat, lists, and what everyone hears of the others.

use std::{sync::Arc, time::Duration};

use crate::socket_support::Site;
use crate::whip_support::{Fake, offer};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gstwebrtcbridge::{
    channel::{NewChannel, Registry as _},
    signaling::Access,
};
use serde_json::{Value, json};

fn site() -> Site {
    Site::new(Arc::new(Fake::default()))
}

fn join(channel: &str, role: &str) -> Value {
    json!({"type": "join", "channel": channel, "role": role})
}

#[tokio::test]
async fn two_peers_exchange_offer_answer_and_candidates_as_they_were_sent() {
    let site = site();
    let (mut ann, ann_id) = site.joined("room", "peer").await;
    let (mut bob, bob_id) = site.joined("room", "peer").await;
    assert_eq!(ann.hear().await, json!({"type": "peer-joined", "peer": bob_id}));
    ann.send(json!({"type": "offer", "to": bob_id, "sdp": offer(2)})).await;
    assert_eq!(bob.hear().await, json!({"type": "offer", "from": ann_id, "sdp": offer(2)}));
    bob.send(json!({"type": "answer", "sdp": offer(0)})).await;
    assert_eq!(ann.hear().await, json!({"type": "answer", "from": bob_id, "sdp": offer(0)}));
    let candidate = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
    ann.send(json!({"type": "candidate", "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0,
        "usernameFragment": "abcd"}))
        .await;
    let relayed = json!({"type": "candidate", "from": ann_id, "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0,
        "usernameFragment": "abcd"});
    assert_eq!(bob.hear().await, relayed);
}

#[tokio::test]
async fn a_burst_of_messages_arrives_whole_and_in_order() {
    let site = site();
    let (mut ann, _) = site.joined("room", "peer").await;
    let (mut bob, _) = site.joined("room", "peer").await;
    for number in 0..250_u64 {
        ann.send(json!({"type": "candidate", "candidate": format!("candidate:{number} 1 udp 1 192.0.2.1 9 typ host")}))
            .await;
    }
    for number in 0..250_u64 {
        let heard = bob.hear().await;
        assert!(heard["candidate"].as_str().unwrap().starts_with(&format!("candidate:{number} ")), "{heard}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves_or_vanishes_is_told_to_the_others() {
    let site = site();
    let (mut ann, _) = site.joined("room", "peer").await;
    let (mut bob, bob_id) = site.joined("room", "peer").await;
    let (eve, eve_id) = site.joined("room", "peer").await;
    ann.hear().await;
    ann.hear().await;
    assert_eq!(bob.ask(json!({"type": "leave"})).await["reason"], "left");
    assert_eq!(ann.hear().await, json!({"type": "peer-left", "peer": bob_id}));
    drop(eve); // without a goodbye
    assert_eq!(ann.hear().await, json!({"type": "peer-left", "peer": eve_id, "lost": true}));
    assert_eq!(bob.refused(json!({"type": "leave"})).await.0, "not-joined");
    bob.ask(join("room", "peer")).await;
}

#[tokio::test]
async fn a_created_channel_has_a_key_and_is_listed_with_what_was_said_of_it() {
    let site = site();
    let mut client = site.client().await;
    let about = json!({"type": "create", "title": "Täglich", "category": "news", "metadata": {"lang": "de"}});
    let created = client.ask(about).await;
    let (channel, key) = (created["channel"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert!(key.len() >= 22, "128 bits");
    let list = client.ask(json!({"type": "list"})).await;
    let entry = json!({"id": channel, "title": "Täglich", "category": "news", "live": false, "viewers": 0});
    assert_eq!(list["channels"], json!([entry]));
    let info = site.registry.get(&channel.parse().unwrap()).await.unwrap();
    assert_eq!(info.metadata.as_deref(), Some(r#"{"lang":"de"}"#));
}

#[tokio::test]
async fn who_asked_for_the_list_hears_of_changes_and_others_do_not() {
    let site = site();
    let (mut lobby, mut other) = (site.client().await, site.client().await);
    assert_eq!(lobby.ask(json!({"type": "list"})).await["channels"], json!([]));
    let made = site.registry.create(NewChannel::default()).await.unwrap();
    let channels = lobby.hear_type("channels").await["channels"].clone();
    assert_eq!(channels[0]["id"], made.id.as_str());
    site.registry.stop(&made.id).await;
    while lobby.hear_type("channels").await["channels"] != json!([]) {}
    other.hears_nothing().await;
}

#[tokio::test]
async fn a_channel_that_is_stopped_is_closed_for_all_in_it() {
    let site = site();
    let mut owner = site.client().await;
    let channel = owner.ask(json!({"type": "create"})).await["channel"].as_str().unwrap().to_owned();
    let (mut ann, _) = site.joined(&channel, "peer").await;
    let (mut bob, _) = site.joined(&channel, "peer").await;
    let closed = owner.ask(json!({"type": "stop"})).await;
    assert_eq!((&closed["type"], &closed["reason"]), (&json!("closed"), &json!("stopped")));
    assert_eq!(bob.hear().await, json!({"type": "closed", "reason": "stopped"}));
    assert_eq!(ann.hear_type("closed").await["reason"], "stopped");
    assert!(site.registry.list().await.is_empty());
    assert_eq!(owner.refused(json!({"type": "stop", "channel": channel})).await.0, "not-found");
    assert_eq!(ann.ask(join("other", "peer")).await["type"], "joined");
}

#[tokio::test]
async fn nobody_stops_what_is_not_his_own() {
    let access = Access { admin_token: Some("root".into()), ..Access::default() };
    let site = Site::with(Arc::new(Fake::default()), access, Duration::from_secs(3600));
    let made = site.registry.create(NewChannel::default()).await.unwrap();
    let stop = json!({"type": "stop", "channel": made.id.as_str()});
    let (mut stranger, _) = site.joined(made.id.as_str(), "peer").await;
    assert_eq!(stranger.refused(stop.clone()).await.0, "unauthorized");
    assert_eq!(stranger.refused(json!({"type": "stop"})).await.0, "unauthorized", "being in it is not owning it");
    assert!(site.registry.get(&made.id).await.is_some());
    for token in [made.key.as_str(), "root"] {
        let channel = site.registry.create(NewChannel::default()).await.unwrap();
        let (id, token) = if token == "root" { (&channel.id, token) } else { (&made.id, token) };
        let mut client = site.client_with_bearer(token).await;
        assert_eq!(client.ask(json!({"type": "stop", "channel": id.as_str()})).await["reason"], "stopped");
    }
}

#[tokio::test]
async fn a_channel_that_expires_is_closed_for_who_is_in_it() {
    let ttl = Duration::from_millis(300);
    let site = Site::with(Arc::new(Fake::default()), Access::default(), ttl);
    let (mut ann, _) = site.joined("room", "peer").await;
    assert_eq!(ann.hear().await["type"], "closed");
    assert!(site.registry.list().await.is_empty());
}

#[tokio::test]
async fn the_chat_goes_to_all_in_the_channel_in_one_order() {
    let site = site();
    let (mut ann, ann_id) = site.joined("room", "peer").await;
    let (mut bob, _) = site.joined("room", "publisher").await;
    let (mut other, _) = site.joined("elsewhere", "peer").await;
    assert_eq!(ann.refused(json!({"type": "chat", "text": "hi"})).await.0, "bad-state", "a name comes first");
    ann.send(json!({"type": "alias", "name": "Änn"})).await;
    for number in 0..10 {
        ann.send(json!({"type": "chat", "text": format!("hi {number} 🎉")})).await;
    }
    let named = bob.hear().await;
    assert_eq!(named, json!({"type": "chat-joined", "peer": ann_id, "name": "Änn"}));
    for number in 0..10 {
        let heard = bob.hear().await;
        assert_eq!((&heard["from"], &heard["name"]), (&json!(ann_id), &json!("Änn")));
        assert_eq!(heard["text"], format!("hi {number} 🎉"));
        assert!(heard["at"].as_u64().unwrap() > 1_700_000_000_000);
    }
    let reply = ann.ask(json!({"type": "chat", "text": "x".repeat(500)})).await;
    assert_eq!(reply["type"], "chat", "his own is his reply");
    for text in ["", " ", &"x".repeat(501)] {
        assert_eq!(ann.refused(json!({"type": "chat", "text": text})).await.0, "bad-message");
    }
    other.hears_nothing().await;
}

#[tokio::test]
async fn who_chats_like_a_program_is_slowed_down_and_stays() {
    let site = site();
    let (mut ann, _) = site.joined("room", "peer").await;
    ann.send(json!({"type": "alias", "name": "Ann"})).await;
    for _ in 0..40 {
        ann.send(json!({"type": "chat", "text": "spam"})).await;
    }
    assert_eq!(ann.hear_type("error").await["code"], "too-often");
    ann.ask(json!({"type": "list"})).await;
}

#[tokio::test]
async fn what_does_not_fit_the_moment_is_refused_by_name() {
    let site = site();
    let mut client = site.client().await;
    let signal = json!({"type": "offer", "sdp": offer(0)});
    assert_eq!(client.refused(signal.clone()).await.0, "not-joined");
    assert_eq!(client.refused(json!({"type": "chat", "text": "hi"})).await.0, "not-joined");
    assert_eq!(client.refused(json!({"type": "stop"})).await.0, "bad-message");
    assert_eq!(client.refused(join("room", "viewer")).await.0, "not-found", "there is nothing to watch");
    client.ask(join("room", "peer")).await;
    assert_eq!(client.refused(join("room", "peer")).await.0, "bad-state");
    assert_eq!(client.refused(signal.clone()).await.0, "not-found", "alone");
    let (_second, _) = site.joined("room", "peer").await;
    let (_third, _) = site.joined("room", "peer").await;
    assert_eq!(client.refused(signal).await.0, "bad-message", "to whom?");
    let nobody = json!({"type": "offer", "to": "nobody", "sdp": offer(0)});
    assert_eq!(client.refused(nobody).await.0, "not-found");
}

#[tokio::test]
async fn each_role_needs_its_token_and_each_way_to_show_it_works() {
    let access = Access { publish_token: Some("pub".into()), view_token: Some("view".into()), ..Access::default() };
    let site = Site::with(Arc::new(Fake::default()), access, Duration::from_secs(3600));
    let create = json!({"type": "create"});
    let asked = [create.clone(), join("room", "publisher"), join("room", "peer"), json!({"type": "list"})];
    for mut client in [site.client().await, site.client_at("/ws?token=wrong").await.unwrap()] {
        for message in asked.clone() {
            assert_eq!(client.refused(message).await.0, "unauthorized");
        }
        assert_eq!(client.refused(join("room", "viewer")).await.0, "unauthorized");
    }
    let mut viewer = site.client_at("/ws?token=view").await.unwrap();
    assert_eq!(viewer.refused(create.clone()).await.0, "unauthorized");
    assert_eq!(viewer.refused(join("room", "publisher")).await.0, "unauthorized");
    assert_eq!(viewer.ask(join("room", "peer")).await["type"], "joined");
    for mut publisher in [site.client_at("/ws?token=pub").await.unwrap(), site.client_with_bearer("pub").await] {
        assert_eq!(publisher.ask(create.clone()).await["type"], "created");
        assert_eq!(publisher.ask(join("room", "peer")).await["type"], "joined");
    }
}

#[tokio::test]
async fn where_only_publishing_takes_a_token_everybody_sees_what_is_live() {
    let access = Access { publish_token: Some("pub".into()), ..Access::default() };
    let site = Site::with(Arc::new(Fake::default()), access, Duration::from_secs(3600));
    for path in ["/ws", "/ws?token=wrong", "/ws?token=pub"] {
        let mut anybody = site.client_at(path).await.unwrap();
        assert_eq!(anybody.ask(json!({"type": "list"})).await["type"], "channels", "{path}");
    }
    let mut stranger = site.client().await;
    assert_eq!(stranger.refused(json!({"type": "create"})).await.0, "unauthorized");
    assert_eq!(stranger.refused(join("room", "peer")).await.0, "unauthorized", "who relays sends, too");
}

#[tokio::test]
async fn a_publishers_token_is_no_wrong_guess_where_a_viewers_would_do_as_well() {
    let access = Access { publish_token: Some("pub".into()), view_token: Some("view".into()), ..Access::default() };
    let site = Site::with(Arc::new(Fake::default()), access, Duration::from_secs(3600));
    for _ in 0..30 {
        let mut peer = site.client_at("/ws?token=pub").await.unwrap();
        assert_eq!(peer.ask(json!({"type": "list"})).await["type"], "channels");
        assert_eq!(peer.ask(join("room", "peer")).await["type"], "joined");
    }
    let mut stranger = site.client_at("/ws?token=wrong").await.unwrap();
    assert_eq!(stranger.refused(join("room", "peer")).await.0, "unauthorized", "and is heard: nobody has guessed");
}

#[tokio::test]
async fn a_jwt_to_publish_on_a_channel_lets_its_bearer_in_as_a_peer_there() {
    const SECRET: &str = "a secret of more than thirty-two bytes";
    let access = Access { jwt_secret: Some(SECRET.into()), ..Access::default() };
    let site = Site::with(Arc::new(Fake::default()), access, Duration::from_secs(3600));
    let encode = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({"role": "publish", "channel": "mine", "exp": 4_000_000_000_u64});
    let signed = format!("{}.{}", encode(json!({"alg": "HS256"})), encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes()));
    let mut peer = site.client_at(&format!("/ws?token={signed}.{signature}")).await.unwrap();
    assert_eq!(peer.refused(join("another", "peer")).await.0, "forbidden");
    assert_eq!(peer.ask(join("mine", "peer")).await["type"], "joined");
}

#[tokio::test]
async fn a_keyed_channel_takes_a_publisher_with_its_key_or_of_the_connection_that_made_it() {
    let site = site();
    let mut owner = site.client().await;
    let created = owner.ask(json!({"type": "create"})).await;
    let (channel, key) = (created["channel"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert_eq!(site.client().await.refused(join(channel, "publisher")).await.0, "unauthorized");
    let mut keyed = site.client_at(&format!("/ws?token={key}")).await.unwrap();
    assert_eq!(keyed.ask(join(channel, "publisher")).await["type"], "joined");
    assert_eq!(owner.ask(join(channel, "publisher")).await["mode"], "forward");
}

#[tokio::test]
async fn the_schema_is_served() {
    let site = site();
    let request =
        "GET /api/v1/signaling.schema.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned();
    let address = site.addr();
    let answer = tokio::task::spawn_blocking(move || crate::whip_support::exchange(address, &request)).await.unwrap();
    let answer = crate::whip_support::Response::parse(&answer);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/schema+json")));
    let schema: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(schema["$defs"]["ClientMessage"]["oneOf"].as_array().unwrap().len() == 11);
}

#[tokio::test]
async fn the_server_says_goodbye_when_it_closes() {
    let site = site();
    let (mut ann, _) = site.joined("room", "peer").await;
    drop(site);
    assert_eq!(ann.hear().await, json!({"type": "closed", "reason": "shutdown"}));
    assert_eq!(ann.closed().await, Some(1001));
}
