//! Who is connected, who is in which channel, and what of one goes to which others. Without sockets or waiting: messages are
//! put into outboxes, in the order in which things happen.

mod audience;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::extract::ws::Utf8Bytes;

pub use self::audience::Audience;
pub(super) use self::audience::Watched;
use super::{
    outbox::Outbox,
    protocol::{ChannelEntry, IceServerEntry, JoinRole, Mode, RelayedCandidate, ServerMessage},
    request::{Signal, Trickled},
};
use crate::{
    channel::{ChannelId, Credential, Presence},
    signaling::viewing::{NoSeat, Seat, Seats},
};

/// Peers of one channel: each gets descriptions and candidates of each.
const MOST_PEERS: usize = 16;

/// All connections of one server.
#[derive(Default)]
pub(super) struct Hub {
    members: HashMap<MemberId, Member>,
    rooms: HashMap<ChannelId, Room>,
    last: u64,
    audience: Audience,
    /// Taken by viewers, here and elsewhere.
    seats: Arc<Seats>,
    /// Told to all who join.
    ice_servers: Vec<IceServerEntry>,
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
    /// How media goes to him, or from him.
    pub(super) mode: Mode,
    /// What the others know him by.
    peer: String,
    credential: Credential,
    /// How many watch, as far as he knows.
    told_viewers: Option<u32>,
    /// Dropped with the place, also with the hub locked: the registry's lock comes after the hub's.
    _presence: Presence,
    /// A viewer's.
    _seat: Option<Seat>,
}

/// Who wants to enter what.
pub(super) struct Entry {
    pub(super) channel: ChannelId,
    pub(super) role: JoinRole,
    /// Can make peer connections with others than the server.
    pub(super) is_direct: bool,
    pub(super) credential: Credential,
    /// Somebody sends media to the channel.
    pub(super) is_live: bool,
}

#[derive(Default)]
struct Room {
    /// In the order in which they came.
    members: BTreeSet<MemberId>,
    /// The publisher's page, which serves viewers itself.
    host: Option<MemberId>,
    /// There was something to watch when somebody looked last.
    is_on: bool,
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
    #[error(transparent)]
    NoSeat(#[from] NoSeat),
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
    /// Without anybody.
    pub(super) fn new(audience: Audience, seats: Arc<Seats>, ice_servers: Vec<IceServerEntry>) -> Self {
        Self { audience, seats, ice_servers, ..Self::default() }
    }

    /// Adds a connection, in no channel.
    pub(super) fn connect(&mut self, outbox: Outbox) -> MemberId {
        self.last += 1;
        let id = MemberId(self.last);
        self.members.insert(id, Member { outbox, alias: None, place: None, follows_list: false });
        id
    }

    /// Removes a connection; the others are told.
    pub(super) fn disconnect(&mut self, id: MemberId) {
        self.go(id, true);
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
        match role {
            JoinRole::Peer if self.peers(channel).count() >= MOST_PEERS => Err(HubError::Full),
            JoinRole::Viewer => Ok(self.seats.check()?),
            _ => Ok(()),
        }
    }

    /// Puts somebody into a channel; he is told first, and then those whom it concerns.
    pub(super) fn join(
        &mut self,
        id: MemberId,
        entry: Entry,
        presence: Presence,
        reply_to: Option<u64>,
    ) -> Result<(), HubError> {
        self.may_join(id, &entry.channel, entry.role)?;
        let seat = (entry.role == JoinRole::Viewer).then(|| self.seats.take()).transpose()?;
        let mode = self.mode(&entry);
        let ice_servers = self.ice_servers.clone();
        let Some(member) = self.members.get_mut(&id) else { return Err(HubError::NotJoined) };
        let Entry { channel, role, credential, .. } = entry;
        let peer = ChannelId::random().to_string();
        // Others than viewers take it that there are none until they are told.
        let told_viewers = (role != JoinRole::Viewer).then_some(0);
        let place = Place {
            channel: channel.clone(),
            role,
            mode,
            peer: peer.clone(),
            credential,
            told_viewers,
            _presence: presence,
            _seat: seat,
        };
        member.place = Some(place);
        let joined = ServerMessage::Joined { channel: channel.to_string(), peer: peer.clone(), mode, ice_servers };
        member.outbox.push(joined.to_json(reply_to).into());
        let name = member.alias.clone();
        self.rooms.entry(channel.clone()).or_default().members.insert(id);
        match role {
            JoinRole::Peer => self.tell_peers(&channel, &ServerMessage::PeerJoined { peer: peer.clone() }, id),
            JoinRole::Viewer => self.seat(id),
            JoinRole::Publisher => self.host(id),
        }
        if let Some(name) = name {
            self.tell_all(&channel, &ServerMessage::ChatJoined { peer, name, was: None }, Some(id));
        }
        Ok(())
    }

    /// Takes somebody out of his channel, if he is in one; the other peers are told.
    pub(super) fn leave(&mut self, id: MemberId) -> Option<Place> {
        self.go(id, false)
    }

    /// The same; `lost`: he has not said so.
    fn go(&mut self, id: MemberId, lost: bool) -> Option<Place> {
        let place = self.members.get_mut(&id)?.place.take()?;
        if let Some(room) = self.rooms.get_mut(&place.channel) {
            room.members.remove(&id);
            if room.host == Some(id) {
                room.host = None;
            }
            if room.members.is_empty() {
                self.rooms.remove(&place.channel);
            }
        }
        let lost = lost && place.role == JoinRole::Peer;
        let left = ServerMessage::PeerLeft { peer: place.peer.clone(), lost };
        match (place.role, place.mode) {
            (JoinRole::Peer, _) => self.tell_peers(&place.channel, &left, id),
            (JoinRole::Viewer, Mode::P2p) => self.tell_host(&place.channel, &left),
            _ => (),
        }
        if let Some(name) = self.members.get(&id).and_then(|member| member.alias.clone()) {
            self.tell_all(&place.channel, &ServerMessage::ChatLeft { peer: place.peer.clone(), name }, None);
        }
        Some(place)
    }

    /// Passes a description or a candidate on; `to` may be left out where there is only one whom it can be for.
    pub(super) fn relay(&self, id: MemberId, to: Option<String>, signal: Signal) -> Result<(), HubError> {
        let Place { peer: from, .. } = self.place(id)?;
        let mut others = self.partners(id);
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

    /// What somebody is called from now on; those in his channel are told, and he himself: that is his reply.
    pub(super) fn set_alias(&mut self, id: MemberId, name: String, reply_to: Option<u64>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let was = member.alias.replace(name.clone());
        let Some(Place { channel, peer, .. }) = &member.place else { return };
        let is_news = was.as_ref() != Some(&name);
        let (channel, message) = (channel.clone(), ServerMessage::ChatJoined { peer: peer.clone(), name, was });
        member.outbox.push(message.to_json(reply_to).into());
        if is_news {
            self.tell_all(&channel, &message, Some(id));
        }
    }

    /// Tells everybody in the channel something, and who says it too: that is his reply.
    pub(super) fn chat(&self, id: MemberId, text: String, at: u64, reply_to: Option<u64>) -> Result<(), HubError> {
        let Place { channel, peer, role, .. } = self.place(id)?;
        let name = self.members.get(&id).and_then(|member| member.alias.clone()).ok_or(HubError::Nameless)?;
        let chat =
            ServerMessage::Chat { from: peer.clone(), name, text, at, broadcaster: *role == JoinRole::Publisher };
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

    /// Whether somebody is in a channel.
    pub(super) fn is_entered(&self, channel: &ChannelId) -> bool {
        self.rooms.contains_key(channel)
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

    fn tell_all(&self, channel: &ChannelId, message: &ServerMessage, but: Option<MemberId>) {
        let message = Utf8Bytes::from(message.to_json(None));
        for (_, member) in self.inside(channel).filter(|(id, _)| Some(*id) != but) {
            member.outbox.push(message.clone());
        }
    }

    fn tell_peers(&self, channel: &ChannelId, message: &ServerMessage, but: MemberId) {
        let message = Utf8Bytes::from(message.to_json(None));
        for (_, member) in self.peers(channel).filter(|(id, _)| *id != but) {
            member.outbox.push(message.clone());
        }
    }
}

#[cfg(test)]
mod tests;
