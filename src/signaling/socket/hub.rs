//! Who is connected, who is in which channel, and what of one goes to which others. Without sockets or waiting: messages are
//! put into outboxes, in the order in which things happen.

use std::collections::{BTreeSet, HashMap};

use axum::extract::ws::Utf8Bytes;

use super::{
    outbox::Outbox,
    protocol::{ChannelEntry, JoinRole, Mode, RelayedCandidate, ServerMessage},
    request::{Signal, Trickled},
};
use crate::channel::{ChannelId, Presence};

/// Peers of one channel: each gets descriptions and candidates of each.
const MOST_PEERS: usize = 16;

/// All connections of one server.
#[derive(Default)]
pub(super) struct Hub {
    members: HashMap<MemberId, Member>,
    rooms: HashMap<ChannelId, Room>,
    last: u64,
}

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct MemberId(u64);

struct Member {
    outbox: Outbox,
    alias: Option<String>,
    place: Option<Place>,
    /// Wants to hear of all channels.
    follows_list: bool,
}

/// Somebody's place in a channel.
pub(super) struct Place {
    pub(super) channel: ChannelId,
    pub(super) role: JoinRole,
    /// What the others know him by.
    peer: String,
    /// Dropped with the place, also with the hub locked: the registry's lock comes after the hub's.
    _presence: Presence,
}

#[derive(Default)]
struct Room {
    /// In the order in which they came.
    members: BTreeSet<MemberId>,
    /// How many watch, as they were told.
    viewers: u32,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HubError {
    #[error("join a channel first")]
    NotJoined,
    #[error("you are in channel {0}; leave it first")]
    AlreadyJoined(ChannelId),
    #[error("the channel has {MOST_PEERS} peers already")]
    Full,
    #[error("nobody else is in the channel yet")]
    Alone,
    #[error("there are several others in the channel: say to whom")]
    ToWhom,
    #[error("there is no peer {0} in the channel")]
    NoPeer(String),
    #[error("say who you are first: alias")]
    Nameless,
}

impl Hub {
    /// Adds a connection, in no channel.
    pub(super) fn connect(&mut self, outbox: Outbox) -> MemberId {
        self.last += 1;
        let id = MemberId(self.last);
        self.members.insert(id, Member { outbox, alias: None, place: None, follows_list: false });
        id
    }

    /// Removes a connection; the others are told.
    pub(super) fn disconnect(&mut self, id: MemberId) {
        self.leave(id);
        self.members.remove(&id);
    }

    /// The channel that somebody is in.
    pub(super) fn place(&self, id: MemberId) -> Result<&Place, HubError> {
        self.members.get(&id).and_then(|member| member.place.as_ref()).ok_or(HubError::NotJoined)
    }

    /// Whether somebody may join at all.
    pub(super) fn may_join(&self, id: MemberId, channel: &ChannelId, role: JoinRole) -> Result<(), HubError> {
        if let Ok(place) = self.place(id) {
            return Err(HubError::AlreadyJoined(place.channel.clone()));
        }
        match role == JoinRole::Peer && self.peers(channel).count() >= MOST_PEERS {
            true => Err(HubError::Full),
            false => Ok(()),
        }
    }

    /// Puts somebody into a channel; he is told first, and then the other peers.
    pub(super) fn join(
        &mut self,
        id: MemberId,
        (channel, role): (ChannelId, JoinRole),
        presence: Presence,
        reply_to: Option<u64>,
    ) -> Result<(), HubError> {
        self.may_join(id, &channel, role)?;
        let Some(member) = self.members.get_mut(&id) else { return Err(HubError::NotJoined) };
        let peer = ChannelId::random().to_string();
        member.place = Some(Place { channel: channel.clone(), role, peer: peer.clone(), _presence: presence });
        let mode = match role {
            JoinRole::Peer => Mode::P2p,
            JoinRole::Viewer | JoinRole::Publisher => Mode::Forward,
        };
        let joined = ServerMessage::Joined { channel: channel.to_string(), peer: peer.clone(), mode };
        member.outbox.push(joined.to_json(reply_to).into());
        if role == JoinRole::Peer {
            self.tell_peers(&channel, &ServerMessage::PeerJoined { peer }, id);
        }
        self.rooms.entry(channel).or_default().members.insert(id);
        Ok(())
    }

    /// Takes somebody out of his channel, if he is in one; the other peers are told.
    pub(super) fn leave(&mut self, id: MemberId) -> Option<Place> {
        let place = self.members.get_mut(&id)?.place.take()?;
        if let Some(room) = self.rooms.get_mut(&place.channel) {
            room.members.remove(&id);
            if room.members.is_empty() {
                self.rooms.remove(&place.channel);
            }
        }
        if place.role == JoinRole::Peer {
            self.tell_peers(&place.channel, &ServerMessage::PeerLeft { peer: place.peer.clone() }, id);
        }
        Some(place)
    }

    /// Passes a description or a candidate on; `to` may be left out where there is only one other peer.
    pub(super) fn relay(&self, id: MemberId, to: Option<String>, signal: Signal) -> Result<(), HubError> {
        let Place { channel, peer: from, .. } = self.place(id)?;
        let mut others = self.peers(channel).filter(|(other, _)| *other != id);
        let outbox = match to {
            Some(to) => {
                let member = others.find(|(_, member)| member.place.as_ref().is_some_and(|place| place.peer == to));
                member.ok_or(HubError::NoPeer(to))?.1.outbox.clone()
            }
            None => {
                let (_, only) = others.next().ok_or(HubError::Alone)?;
                match others.next() {
                    None => only.outbox.clone(),
                    Some(_) => return Err(HubError::ToWhom),
                }
            }
        };
        let from = from.clone();
        let message = match signal {
            Signal::Offer(sdp) => ServerMessage::Offer { from, sdp },
            Signal::Answer(sdp) => ServerMessage::Answer { from: Some(from), sdp },
            Signal::Candidate(Trickled { candidate, mid, m_line_index, ufrag }) => {
                ServerMessage::Candidate(RelayedCandidate {
                    from: Some(from),
                    candidate,
                    sdp_mid: mid,
                    sdp_m_line_index: m_line_index,
                    username_fragment: ufrag,
                })
            }
        };
        outbox.push(message.to_json(None).into());
        Ok(())
    }

    /// What somebody is called from now on.
    pub(super) fn set_alias(&mut self, id: MemberId, name: String) {
        if let Some(member) = self.members.get_mut(&id) {
            member.alias = Some(name);
        }
    }

    /// Tells everybody in the channel something, and who says it too: that is his reply.
    pub(super) fn chat(&self, id: MemberId, text: String, at: u64, reply_to: Option<u64>) -> Result<(), HubError> {
        let Place { channel, peer, .. } = self.place(id)?;
        let name = self.members.get(&id).and_then(|member| member.alias.clone()).ok_or(HubError::Nameless)?;
        let chat = ServerMessage::Chat { from: peer.clone(), name, text, at };
        let shared = Utf8Bytes::from(chat.to_json(None));
        for (other, member) in self.inside(channel) {
            let message = if other == id { chat.to_json(reply_to).into() } else { shared.clone() };
            member.outbox.push(message);
        }
        Ok(())
    }

    /// Somebody wants to hear of all channels.
    pub(super) fn follow_list(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.follows_list = true;
        }
    }

    /// Whether anybody wants to hear of all channels.
    pub(super) fn has_followers(&self) -> bool {
        self.members.values().any(|member| member.follows_list)
    }

    /// What channels there are, for all who follow that.
    pub(super) fn tell_list(&self, channels: Vec<ChannelEntry>) {
        let message = Utf8Bytes::from(ServerMessage::Channels { channels }.to_json(None));
        for member in self.members.values().filter(|member| member.follows_list) {
            member.outbox.push(message.clone());
        }
    }

    /// How many watch a channel, for all in it if it is news to them.
    pub(super) fn tell_viewers(&mut self, channel: &ChannelId, count: u32) {
        let Some(room) = self.rooms.get_mut(channel) else { return };
        if std::mem::replace(&mut room.viewers, count) == count {
            return;
        }
        let message = Utf8Bytes::from(ServerMessage::Viewers { count }.to_json(None));
        for (_, member) in self.inside(channel) {
            member.outbox.push(message.clone());
        }
    }

    /// The channel is over: nobody is in it any more, and all who were are told why.
    pub(super) fn close_room(&mut self, channel: &ChannelId, reason: &str) {
        let Some(room) = self.rooms.remove(channel) else { return };
        let message = Utf8Bytes::from(ServerMessage::Closed { reason: reason.into() }.to_json(None));
        for id in room.members {
            if let Some(member) = self.members.get_mut(&id) {
                member.place = None;
                member.outbox.push(message.clone());
            }
        }
    }

    /// The channels that somebody is in.
    pub(super) fn rooms(&self) -> Vec<ChannelId> {
        self.rooms.keys().cloned().collect()
    }

    fn inside(&self, channel: &ChannelId) -> impl Iterator<Item = (MemberId, &Member)> {
        let ids = self.rooms.get(channel).into_iter().flat_map(|room| &room.members);
        ids.filter_map(|id| Some((*id, self.members.get(id)?)))
    }

    fn peers(&self, channel: &ChannelId) -> impl Iterator<Item = (MemberId, &Member)> {
        let is_peer = |member: &Member| member.place.as_ref().is_some_and(|place| place.role == JoinRole::Peer);
        self.inside(channel).filter(move |(_, member)| is_peer(member))
    }

    fn tell_peers(&self, channel: &ChannelId, message: &ServerMessage, but: MemberId) {
        let message = Utf8Bytes::from(message.to_json(None));
        for (_, member) in self.peers(channel).filter(|(id, _)| *id != but) {
            member.outbox.push(message.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::outbox::{Outgoing, outbox},
        *,
    };

    struct Someone {
        id: MemberId,
        outgoing: Outgoing,
    }

    impl Someone {
        fn new(hub: &mut Hub) -> Self {
            let (outbox, outgoing) = outbox();
            Self { id: hub.connect(outbox), outgoing }
        }

        fn joined(hub: &mut Hub, channel: &str, role: JoinRole) -> (Self, String) {
            let mut someone = Self::new(hub);
            someone.join(hub, channel, role).unwrap();
            let joined = someone.heard().remove(0);
            (someone, joined["peer"].as_str().unwrap().to_owned())
        }

        fn join(&mut self, hub: &mut Hub, channel: &str, role: JoinRole) -> Result<(), HubError> {
            hub.join(self.id, (id(channel), role), Presence::new(|| ()), Some(1))
        }

        fn heard(&mut self) -> Vec<Value> {
            self.outgoing.drain().iter().map(|text| serde_json::from_str(text).unwrap()).collect()
        }
    }

    fn id(channel: &str) -> ChannelId {
        channel.parse().unwrap()
    }

    fn offer(sdp: &str) -> Signal {
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
        hub.set_alias(ann.id, "Ann".into());
        hub.chat(ann.id, "hi".into(), 5, Some(9)).unwrap();
        hub.set_alias(bob.id, "Bob".into());
        hub.chat(bob.id, "ho".into(), 6, None).unwrap();
        let hi = json!({"type": "chat", "from": ann_id, "name": "Ann", "text": "hi", "at": 5});
        let heard = bob.heard();
        assert_eq!((heard.len(), &heard[0]), (2, &hi));
        let own = ann.heard();
        assert_eq!((&own[0]["id"], &own[1]), (&json!(9), &heard[1]), "his own is his reply");
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
            hub.tell_viewers(&id("a"), count);
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
        hub.join(ann.id, (id("a"), JoinRole::Peer), presence, None).unwrap();
        hub.disconnect(ann.id);
        assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
        assert!(hub.rooms().is_empty() && hub.members.is_empty());
    }
}
