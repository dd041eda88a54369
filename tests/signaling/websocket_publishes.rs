//! Publishing over /ws: the session behind an offer, candidates both ways, restarts, and how it ends on either side.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::socket_support::{Client, Site, eventually};
use crate::whip_support::{ANSWER, Fake, offer};
use gstwebrtcbridge::{
    channel::{Claim, Credential, Registry as _},
    signaling::{AnswerError, IceRefused},
};
use serde_json::{Value, json};

async fn publishing() -> (Site, Fake, Client) {
    let fake = Fake::default();
    let site = Site::new(Arc::new(fake.clone()));
    let (mut client, _) = site.joined("live", "publisher").await;
    let answer = client.ask(offer_message(&offer(0))).await;
    assert_eq!(answer["sdp"], ANSWER, "{answer}");
    assert!(answer.get("from").is_none(), "it is the server's");
    (site, fake, client)
}

fn offer_message(sdp: &str) -> Value {
    json!({"type": "offer", "sdp": sdp})
}

/// Another ICE session of the same peer connection.
fn restarted() -> String {
    offer(0).replace("abcd\r\n", "wxyz\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_answered_for_its_channel_as_one_by_whip_is() {
    let (_site, fake, _client) = publishing().await;
    let offers = fake.offers.lock().unwrap();
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].0, offer(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_candidates_reach_the_session_and_so_does_their_end() {
    let (_site, fake, mut client) = publishing().await;
    let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
    client.send(json!({"type": "candidate", "candidate": line, "sdpMid": "0", "usernameFragment": "abcd"})).await;
    client.send(json!({"type": "candidate", "candidate": "", "sdpMid": "0"})).await;
    client.hears_nothing().await;
    let fragments = fake.fragments.lock().unwrap();
    assert_eq!(
        (fragments[0].candidates[0].line.as_str(), fragments[0].candidates[0].mid.as_deref()),
        (line, Some("0"))
    );
    assert_eq!(fragments[0].credentials.as_ref().unwrap().ufrag, "abcd");
    assert!(fragments[1].candidates.is_empty() && fragments[1].end_of_candidates);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_with_its_connection_and_with_leaving() {
    let (site, fake, client) = publishing().await;
    drop(client);
    eventually("the session is closed", || fake.closed.load(SeqCst) == 1).await;
    let (mut client, _) = site.joined("live", "publisher").await;
    client.ask(offer_message(&offer(0))).await;
    assert_eq!(client.ask(json!({"type": "leave"})).await["reason"], "left");
    assert_eq!(fake.closed.load(SeqCst), 2, "done when it is answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_end_is_told_and_the_next_offer_begins_another() {
    let (_site, fake, mut client) = publishing().await;
    fake.leases.lock().unwrap().clear();
    let closed = client.hear().await;
    assert_eq!((&closed["type"], &closed["reason"]), (&json!("closed"), &json!("ended")));
    let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
    assert_eq!(client.refused(json!({"type": "candidate", "candidate": line})).await.0, "not-found");
    assert_eq!(client.ask(offer_message(&offer(0))).await["type"], "answer");
    assert_eq!(fake.closed.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_with_new_credentials_restarts_ice_on_the_same_session() {
    let (_site, fake, mut client) = publishing().await;
    let answer = client.ask(offer_message(&restarted())).await;
    assert_eq!(answer["type"], "answer", "{answer}");
    assert_eq!(fake.offers.lock().unwrap().len(), 1);
    assert_eq!(fake.fragments.lock().unwrap()[0].credentials.as_ref().unwrap().ufrag, "wxyz");
    assert_eq!(fake.closed.load(SeqCst), 0);
    assert_eq!(client.refused(offer_message(&restarted())).await.0, "unsupported", "nothing new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_peer_connection_takes_the_place_of_the_clients_old_one() {
    let (_site, fake, mut client) = publishing().await;
    let another = restarted().replace("sha-256 00", "sha-256 11");
    assert_eq!(client.ask(offer_message(&another)).await["type"], "answer");
    assert_eq!((fake.closed.load(SeqCst), fake.offers.lock().unwrap().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_cannot_be_answered_leaves_the_session_that_is_there_alone() {
    let (_site, fake, mut client) = publishing().await;
    let another = restarted().replace("sha-256 00", "sha-256 11");
    *fake.refuse_check.lock().unwrap() = Some(AnswerError::Unacceptable("no codec".into()));
    assert_eq!(client.refused(offer_message(&another)).await.0, "unacceptable");
    assert_eq!(fake.closed.load(SeqCst), 0);
    let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
    client.send(json!({"type": "candidate", "candidate": line, "sdpMLineIndex": 0})).await;
    client.hears_nothing().await;
    assert_eq!(client.ask(offer_message(&another)).await["type"], "answer", "and a good one takes its place");
    assert_eq!(fake.closed.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_channels_and_uses_none_does_not_get_them_all() {
    let site = Site::new(Arc::new(Fake::default()));
    let mut client = site.client().await;
    let create = json!({"type": "create"});
    let mut made = Vec::new();
    for _ in 0..16 {
        made.push(client.ask(create.clone()).await["channel"].as_str().unwrap().to_owned());
    }
    assert_eq!(client.refused(create.clone()).await.0, "unavailable");
    assert_eq!(site.client().await.ask(create.clone()).await["type"], "created", "another may");
    client.ask(json!({"type": "stop", "channel": made[0]})).await;
    let id = made[1].parse().unwrap();
    let claim = Claim { credential: Credential::Anonymous, last_media: Arc::new(|| None), is_private: false };
    let _lease = site.registry.publish(&id, claim).await.unwrap();
    let mut more = 0;
    for _ in 0..1000 {
        more += usize::from(client.ask(create.clone()).await["type"] == "created");
        if more == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(more, 2, "one has gone, and one is used");
    assert_eq!(client.refused(create).await.0, "unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_session_refuses_is_told_with_its_code_and_harms_nothing() {
    let fake = Fake::default();
    let site = Site::new(Arc::new(fake.clone()));
    let (mut client, _) = site.joined("live", "publisher").await;
    for (refusal, code) in [
        (AnswerError::Malformed("x".into()), "bad-message"),
        (AnswerError::Unacceptable("x".into()), "unacceptable"),
        (AnswerError::Conflict, "conflict"),
        (AnswerError::Unavailable("x".into()), "unavailable"),
        (AnswerError::Internal("x".into()), "internal"),
    ] {
        *fake.refuse.lock().unwrap() = Some(refusal);
        assert_eq!(client.refused(offer_message(&offer(0))).await.0, code);
    }
    fake.panic.store(true, SeqCst);
    assert_eq!(client.refused(offer_message(&offer(0))).await.0, "internal");
    let rejected = offer(0).replace("m=video 9", "m=video 0").replace("m=audio 9", "m=audio 0");
    assert_eq!(client.refused(offer_message(&rejected)).await.0, "unacceptable", "offers have rules here too");
    client.ask(offer_message(&offer(0))).await;
    for (refusal, code) in [
        (IceRefused::Stale, "conflict"),
        (IceRefused::Malformed("x".into()), "bad-message"),
        (IceRefused::Unacceptable("x".into()), "unacceptable"),
    ] {
        *fake.refuse_ice.lock().unwrap() = Some(refusal);
        assert_eq!(client.refused(offer_message(&restarted())).await.0, code);
    }
    assert_eq!(client.refused(json!({"type": "answer", "sdp": offer(0)})).await.0, "bad-state");
    let to = json!({"type": "offer", "to": "x", "sdp": offer(0)});
    assert_eq!(client.refused(to).await.0, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_may_stop_the_channel_that_it_publishes_on() {
    let (site, fake, mut client) = publishing().await;
    assert_eq!(client.ask(json!({"type": "stop"})).await["reason"], "stopped");
    assert!(site.registry.list().await.is_empty());
    assert_eq!(fake.closed.load(SeqCst), 1);
    client.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_with_the_server() {
    let (site, fake, mut client) = publishing().await;
    drop(site);
    assert_eq!(client.closed().await, Some(1001));
    eventually("the session is closed", || fake.closed.load(SeqCst) == 1).await;
}
