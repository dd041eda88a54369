//! Channels and peers among themselves; viewers are in `audience`.

use serde_json::{Value, json};

use super::{
    super::outbox::{Outgoing, outbox},
    *,
};

pub(super) struct Someone {
    pub(super) id: MemberId,
    outgoing: Outgoing,
}

impl Someone {
    pub(super) fn new(hub: &mut Hub) -> Self {
        let (outbox, outgoing) = outbox();
        Self { id: hub.connect(outbox), outgoing }
    }

    pub(super) fn joined(hub: &mut Hub, channel: &str, role: JoinRole) -> (Self, String) {
        let (someone, joined) = Self::entered(hub, entry(channel, role));
        (someone, joined["peer"].as_str().unwrap().to_owned())
    }

    pub(super) fn entered(hub: &mut Hub, entry: Entry) -> (Self, Value) {
        let mut someone = Self::new(hub);
        hub.join(someone.id, entry, Presence::new(|| ()), Some(1)).unwrap();
        let joined = someone.heard().remove(0);
        (someone, joined)
    }

    fn join(&mut self, hub: &mut Hub, channel: &str, role: JoinRole) -> Result<(), HubError> {
        hub.join(self.id, entry(channel, role), Presence::new(|| ()), Some(1))
    }

    pub(super) fn heard(&mut self) -> Vec<Value> {
        self.outgoing.drain().iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }
}

pub(super) fn id(channel: &str) -> ChannelId {
    channel.parse().unwrap()
}

/// Somebody without a token, to a channel that nobody sends media to.
pub(super) fn entry(channel: &str, role: JoinRole) -> Entry {
    Entry { channel: id(channel), role, is_direct: true, credential: Credential::Anonymous, is_live: false }
}

pub(super) fn offer(sdp: &str) -> Signal {
    Signal::Offer(sdp.into())
}

#[test]
fn who_is_there_hears_of_who_comes_and_goes() {
    let mut hub = Hub::default();
    let (mut ann, _) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    let (mut other, _) = Someone::joined(&mut hub, "b", JoinRole::Peer);
    let (mut bob, bob_id) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    assert_eq!(ann.heard(), [json!({"type": "peer-joined", "peer": bob_id})]);
    hub.leave(bob.id);
    assert_eq!(ann.heard(), [json!({"type": "peer-left", "peer": bob_id})]);
    bob.join(&mut hub, "a", JoinRole::Peer).unwrap();
    ann.heard();
    hub.disconnect(bob.id);
    assert_eq!(ann.heard().len(), 1, "vanishing is leaving");
    assert!(other.heard().is_empty());
}

#[test]
fn the_answer_to_joining_comes_first_and_has_the_requests_id() {
    let mut hub = Hub::default();
    let mut ann = Someone::new(&mut hub);
    ann.join(&mut hub, "a", JoinRole::Peer).unwrap();
    let joined = ann.heard().remove(0);
    assert_eq!(
        (&joined["type"], &joined["channel"], &joined["mode"], &joined["id"]),
        (&json!("joined"), &json!("a"), &json!("p2p"), &json!(1))
    );
    assert_eq!(ann.join(&mut hub, "b", JoinRole::Peer), Err(HubError::AlreadyJoined(id("a"))));
}

#[test]
fn signals_go_to_the_peer_that_is_meant_in_order() {
    let mut hub = Hub::default();
    let (ann, ann_id) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    assert_eq!(hub.relay(ann.id, None, offer("x")), Err(HubError::Alone));
    let (mut bob, bob_id) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    for number in 0..100 {
        hub.relay(ann.id, None, offer(&number.to_string())).unwrap();
    }
    let heard = bob.heard();
    assert_eq!(heard.len(), 100);
    for (number, message) in heard.iter().enumerate() {
        assert_eq!(*message, json!({"type": "offer", "from": ann_id, "sdp": number.to_string()}));
    }
    let (mut eve, eve_id) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    bob.heard();
    assert_eq!(hub.relay(ann.id, None, offer("x")), Err(HubError::ToWhom));
    assert_eq!(hub.relay(ann.id, Some("nobody".into()), offer("x")), Err(HubError::NoPeer("nobody".into())));
    assert_eq!(hub.relay(ann.id, Some(ann_id.clone()), offer("x")), Err(HubError::NoPeer(ann_id.clone())));
    hub.relay(ann.id, Some(eve_id), Signal::Answer("y".into())).unwrap();
    assert_eq!(eve.heard(), [json!({"type": "answer", "from": ann_id, "sdp": "y"})]);
    assert!(bob.heard().is_empty());
    let trickled = Trickled { candidate: "candidate:1".into(), mid: Some("0".into()), ..Trickled::default() };
    hub.relay(ann.id, Some(bob_id), Signal::Candidate(trickled)).unwrap();
    let candidate = json!({"type": "candidate", "from": ann_id, "candidate": "candidate:1", "sdpMid": "0",
        "sdpMLineIndex": null});
    assert_eq!(bob.heard(), [candidate]);
}

#[test]
fn nobody_reaches_into_another_channel_or_from_outside() {
    let mut hub = Hub::default();
    let (ann, _) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    let (mut other, other_id) = Someone::joined(&mut hub, "b", JoinRole::Peer);
    assert_eq!(hub.relay(ann.id, Some(other_id.clone()), offer("x")), Err(HubError::NoPeer(other_id)));
    let outside = Someone::new(&mut hub);
    assert_eq!(hub.relay(outside.id, None, offer("x")), Err(HubError::NotJoined));
    assert_eq!(hub.chat(outside.id, "x".into(), 0, None), Err(HubError::NotJoined));
    assert!(other.heard().is_empty());
}

#[test]
fn peers_of_a_channel_are_bounded_and_publishers_are_none() {
    let mut hub = Hub::default();
    let mut all: Vec<_> = (0..MOST_PEERS).map(|_| Someone::joined(&mut hub, "a", JoinRole::Peer).0).collect();
    let mut late = Someone::new(&mut hub);
    assert_eq!(late.join(&mut hub, "a", JoinRole::Peer), Err(HubError::Full));
    late.join(&mut hub, "a", JoinRole::Publisher).unwrap();
    let first = all.remove(0);
    hub.disconnect(first.id);
    Someone::joined(&mut hub, "a", JoinRole::Peer);
    assert!(late.heard().iter().all(|message| message["type"] == "joined"), "it is no peer");
}

#[test]
fn everybody_in_the_channel_hears_the_chat_in_one_order() {
    let mut hub = Hub::default();
    let (mut ann, ann_id) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    let (mut bob, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
    let (mut other, _) = Someone::joined(&mut hub, "b", JoinRole::Peer);
    assert_eq!(hub.chat(ann.id, "hi".into(), 5, Some(9)), Err(HubError::Nameless));
    hub.set_alias(ann.id, "Ann".into(), Some(8));
    hub.chat(ann.id, "hi".into(), 5, Some(9)).unwrap();
    hub.set_alias(bob.id, "Bob".into(), None);
    hub.chat(bob.id, "ho".into(), 6, None).unwrap();
    let hi = json!({"type": "chat", "from": ann_id, "name": "Ann", "text": "hi", "at": 5});
    let heard = bob.heard();
    let kinds: Vec<_> = heard.iter().map(|message| message["type"].clone()).collect();
    assert_eq!(kinds, ["chat-joined", "chat", "chat-joined", "chat"]);
    assert_eq!(heard[0], json!({"type": "chat-joined", "peer": ann_id, "name": "Ann"}));
    assert_eq!((&heard[1], &heard[3]["broadcaster"]), (&hi, &json!(true)));
    let own = ann.heard();
    assert_eq!((&own[0]["id"], &own[1]["id"], &own[3]), (&json!(8), &json!(9), &heard[3]), "his own is his reply");
    assert!(other.heard().is_empty());
}

#[test]
fn a_closed_room_is_told_to_all_in_it_and_they_are_free_for_another() {
    let mut hub = Hub::default();
    let (mut ann, _) = Someone::joined(&mut hub, "a", JoinRole::Peer);
    let (mut bob, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
    hub.close_room(&id("a"), "stopped");
    assert_eq!(bob.heard(), [json!({"type": "closed", "reason": "stopped"})]);
    ann.heard();
    ann.join(&mut hub, "b", JoinRole::Peer).unwrap();
    assert_eq!(hub.rooms(), [id("b")]);
}

#[test]
fn counts_and_lists_are_told_to_whom_they_concern() {
    let mut hub = Hub::default();
    let (mut ann, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
    let mut lobby = Someone::new(&mut hub);
    hub.follow_list(lobby.id);
    for count in [0, 1, 1, 2] {
        hub.settle(&id("a"), Watched { viewers: count, is_live: true });
    }
    let counts: Vec<_> = ann.heard().iter().map(|message| message["count"].clone()).collect();
    assert_eq!(counts, [json!(1), json!(2)], "what is no news is not told");
    hub.tell_list(Vec::new());
    assert_eq!(lobby.heard(), [json!({"type": "channels", "channels": []})]);
    assert!(ann.heard().is_empty());
}

#[test]
fn nothing_is_left_of_who_has_gone() {
    let mut hub = Hub::default();
    let dropped = std::sync::Arc::new(());
    let held = dropped.clone();
    let ann = Someone::new(&mut hub);
    let presence = Presence::new(move || drop(held));
    hub.join(ann.id, entry("a", JoinRole::Peer), presence, None).unwrap();
    hub.disconnect(ann.id);
    assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
    assert!(hub.rooms().is_empty() && hub.members.is_empty());
}
