//! Viewers and who serves them: the publisher's page itself, up to a number of viewers, or the server.
//!
//! The page of a publisher that can is its channel's *host*: it is told of each viewer whom it shall serve (`peer-joined`),
//! makes a peer connection for him, and ends it when he leaves (`peer-left`). Viewers beyond that number, those who could not
//! be reached, and those of a publisher without a page (WHIP alone) are served by the server.

use axum::extract::ws::Utf8Bytes;

use super::{Entry, Hub, Member, MemberId, Place};
use crate::{
    channel::{ChannelId, Credential},
    signaling::socket::protocol::{JoinRole, Mode, ServerMessage},
};

/// How many viewers there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Of all channels together; 0 for no limit.
    pub max_viewers: u32,
    /// Of a channel, served by its publisher's page.
    pub p2p_viewers: u32,
}

/// What the registry tells of a channel's audience.
#[derive(Clone, Copy, Debug)]
pub(in crate::signaling::socket) struct Watched {
    pub(in crate::signaling::socket) viewers: u32,
    pub(in crate::signaling::socket) is_live: bool,
}

/// The reason that viewers are told when the broadcast is over.
const ENDED: &str = "ended";

impl Hub {
    /// How media will go to, or from, who enters.
    pub(super) fn mode(&self, entry: &Entry) -> Mode {
        let is_direct = match entry.role {
            JoinRole::Peer => true,
            JoinRole::Publisher => self.audience.p2p_viewers > 0 && entry.is_direct && self.may_host(entry),
            JoinRole::Viewer => {
                let direct = u32::try_from(self.direct_viewers(&entry.channel).count()).unwrap_or(u32::MAX);
                // Where nobody is live yet, a page may still come.
                let may_be_reached = self.host_of(&entry.channel).is_some() || !entry.is_live;
                entry.is_direct && may_be_reached && direct < self.audience.p2p_viewers
            }
        };
        if is_direct { Mode::P2p } else { Mode::Forward }
    }

    /// Nobody may slip in for somebody else: not for a host that is there, nor for who is live without a page.
    fn may_host(&self, entry: &Entry) -> bool {
        match self.host_of(&entry.channel).and_then(|(_, host)| host.place.as_ref()) {
            Some(host) => entry.credential.is_same_as(host.credential),
            None => !entry.is_live || entry.credential != Credential::Anonymous,
        }
    }

    /// Somebody begins to watch.
    pub(super) fn seat(&self, id: MemberId) {
        if let Ok(Place { channel, peer, mode: Mode::P2p, .. }) = self.place(id) {
            self.tell_host(channel, &ServerMessage::PeerJoined { peer: peer.clone() });
        }
    }

    /// A publisher's page has come: if it serves viewers, it hears of those who wait.
    pub(super) fn host(&mut self, id: MemberId) {
        let Ok(Place { channel, mode: Mode::P2p, .. }) = self.place(id) else { return };
        let channel = channel.clone();
        if let Some(room) = self.rooms.get_mut(&channel) {
            room.host = Some(id);
        }
        for (_, viewer) in self.direct_viewers(&channel) {
            if let Some(place) = &viewer.place {
                self.tell_host(&channel, &ServerMessage::PeerJoined { peer: place.peer.clone() });
            }
        }
    }

    /// A viewer is served by the server from now on.
    pub(in crate::signaling::socket) fn fall_back(&mut self, id: MemberId) {
        let Some(place) = self.members.get_mut(&id).and_then(|member| member.place.as_mut()) else { return };
        if place.role == JoinRole::Viewer && std::mem::replace(&mut place.mode, Mode::Forward) == Mode::P2p {
            let (channel, left) =
                (place.channel.clone(), ServerMessage::PeerLeft { peer: place.peer.clone(), lost: false });
            self.tell_host(&channel, &left);
        }
    }

    /// Whether viewers could be served by a publisher's page.
    pub(in crate::signaling::socket) fn is_hosted(&self, channel: &ChannelId) -> bool {
        self.host_of(channel).is_some()
    }

    /// What is to be known of a channel: how many watch, for all in it to whom that is news; and, for its viewers, that the
    /// broadcast is over.
    pub(in crate::signaling::socket) fn settle(&mut self, channel: &ChannelId, now: Watched) {
        let Some(room) = self.rooms.get_mut(channel) else { return };
        let is_on = room.host.is_some() || now.is_live;
        let is_over = std::mem::replace(&mut room.is_on, is_on) && !is_on;
        let told = |message: ServerMessage| Utf8Bytes::from(message.to_json(None));
        let count = told(ServerMessage::Viewers { count: now.viewers });
        let closed = told(ServerMessage::Closed { reason: ENDED.into() });
        let members = &mut self.members;
        // Who leaves because everybody does is not announced to the rest.
        room.members.retain(|id| {
            let Some(member) = members.get_mut(id) else { return false };
            let Some(place) = &mut member.place else { return false };
            let leaves = is_over && place.role == JoinRole::Viewer;
            if leaves {
                member.place = None;
                member.outbox.push(closed.clone());
            } else if place.told_viewers.replace(now.viewers) != Some(now.viewers) {
                member.outbox.push(count.clone());
            }
            !leaves
        });
        if room.members.is_empty() {
            self.rooms.remove(channel);
        }
    }

    /// Those whom somebody's descriptions and candidates can be for.
    pub(super) fn partners(&self, id: MemberId) -> impl Iterator<Item = (MemberId, &Member)> {
        let place = self.place(id).ok();
        let of = |role| place.filter(|place| place.role == role && place.mode == Mode::P2p).map(|place| &place.channel);
        let peers = of(JoinRole::Peer).into_iter().flat_map(move |channel| self.peers(channel));
        let host = of(JoinRole::Viewer).into_iter().filter_map(move |channel| self.host_of(channel));
        let is_host = move |channel: &&ChannelId| self.host_of(channel).is_some_and(|(host, _)| host == id);
        let viewers =
            of(JoinRole::Publisher).filter(is_host).into_iter().flat_map(move |channel| self.direct_viewers(channel));
        peers.filter(move |(other, _)| *other != id).chain(host).chain(viewers)
    }

    fn direct_viewers(&self, channel: &ChannelId) -> impl Iterator<Item = (MemberId, &Member)> {
        let is_direct = |place: &Place| place.role == JoinRole::Viewer && place.mode == Mode::P2p;
        self.inside(channel).filter(move |(_, member)| member.place.as_ref().is_some_and(is_direct))
    }

    fn host_of(&self, channel: &ChannelId) -> Option<(MemberId, &Member)> {
        let id = self.rooms.get(channel)?.host?;
        Some((id, self.members.get(&id)?))
    }

    pub(super) fn tell_host(&self, channel: &ChannelId, message: &ServerMessage) {
        if let Some((_, host)) = self.host_of(channel) {
            host.outbox.push(message.to_json(None).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        channel::Presence,
        signaling::viewing::{NoSeat, Seats},
    };

    use super::{
        super::{
            HubError,
            tests::{Someone, entry, id, offer},
        },
        *,
    };

    fn hub(p2p_viewers: u32) -> Hub {
        Hub::new(Audience { max_viewers: 0, p2p_viewers }, Seats::new(0), Vec::new())
    }

    fn viewer(hub: &mut Hub) -> (Someone, Value, String) {
        let (someone, joined) = Someone::entered(hub, entry("a", JoinRole::Viewer));
        let peer = joined["peer"].as_str().unwrap().to_owned();
        (someone, joined["mode"].clone(), peer)
    }

    fn on(hub: &mut Hub, is_live: bool) {
        hub.settle(&id("a"), Watched { viewers: 0, is_live });
    }

    fn kinds(heard: &[Value]) -> Vec<&str> {
        heard.iter().map(|message| message["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn so_many_viewers_are_the_hosts_and_the_rest_the_servers() {
        let mut hub = hub(2);
        let (mut host, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
        let (ann, mode, ann_id) = viewer(&mut hub);
        let (_, second, second_id) = viewer(&mut hub);
        let (_, third, _) = viewer(&mut hub);
        assert_eq!([mode, second, third], ["p2p", "p2p", "forward"]);
        let told = |kind: &str, peer: &str| json!({"type": kind, "peer": peer});
        assert_eq!(host.heard(), [told("peer-joined", &ann_id), told("peer-joined", &second_id)]);
        hub.disconnect(ann.id);
        assert_eq!(host.heard(), [told("peer-left", &ann_id)]);
        assert_eq!(viewer(&mut hub).1, "p2p", "there is room again");
    }

    #[test]
    fn descriptions_go_between_the_host_and_each_of_its_viewers() {
        let mut hub = hub(2);
        let (mut host, host_id) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
        let (mut ann, _, ann_id) = viewer(&mut hub);
        let (mut bob, _, bob_id) = viewer(&mut hub);
        let (eve, _, eve_id) = viewer(&mut hub);
        host.heard();
        hub.relay(host.id, Some(ann_id.clone()), offer("x")).unwrap();
        assert_eq!(ann.heard(), [json!({"type": "offer", "from": host_id, "sdp": "x"})]);
        hub.relay(ann.id, None, offer("y")).unwrap();
        hub.relay(bob.id, Some(host_id.clone()), offer("z")).unwrap();
        let from: Vec<_> = host.heard().iter().map(|message| message["from"].clone()).collect();
        assert_eq!(from, [json!(ann_id), json!(bob_id)]);
        assert_eq!(hub.relay(ann.id, Some(bob_id.clone()), offer("x")), Err(HubError::NoPeer(bob_id)), "only the host");
        assert_eq!(hub.relay(eve.id, Some(host_id.clone()), offer("x")), Err(HubError::NoPeer(host_id)), "not served");
        assert_eq!(hub.relay(host.id, Some(eve_id.clone()), offer("x")), Err(HubError::NoPeer(eve_id)));
        assert!(bob.heard().is_empty());
    }

    #[test]
    fn who_waited_for_the_page_is_told_to_it_when_it_comes() {
        let mut hub = hub(5);
        let (mut waiting, mode, peer) = viewer(&mut hub);
        assert_eq!(mode, "p2p");
        on(&mut hub, false);
        assert!(!kinds(&waiting.heard()).contains(&"closed"), "nothing has begun that could be over");
        let mut host = Someone::new(&mut hub);
        hub.join(host.id, entry("a", JoinRole::Publisher), Presence::new(|| ()), None).unwrap();
        let heard = host.heard();
        assert_eq!(kinds(&heard), ["joined", "peer-joined"]);
        assert_eq!((&heard[0]["mode"], &heard[1]["peer"]), (&json!("p2p"), &json!(peer)));
        hub.relay(host.id, Some(peer), offer("x")).unwrap();
        assert_eq!(kinds(&waiting.heard()), ["offer"]);
    }

    #[test]
    fn viewers_of_who_has_no_page_are_the_servers() {
        let mut hub = hub(5);
        let live = |role| Entry { is_live: true, ..entry("a", role) };
        let (_, joined) = Someone::entered(&mut hub, live(JoinRole::Viewer));
        assert_eq!(joined["mode"], "forward");
        let (_, joined) = Someone::entered(&mut hub, live(JoinRole::Publisher));
        assert_eq!(joined["mode"], "forward", "nobody without a credential slips in for who is live");
        let known = Entry { credential: Credential::of("key"), ..live(JoinRole::Publisher) };
        assert_eq!(Someone::entered(&mut hub, known).1["mode"], "p2p");
        let (_, joined) = Someone::entered(&mut hub, Entry { is_direct: false, ..live(JoinRole::Viewer) });
        assert_eq!(joined["mode"], "forward", "he cannot");
    }

    #[test]
    fn only_who_shows_the_same_credential_takes_the_hosts_place() {
        let mut hub = hub(5);
        let with = |key: &str| Entry { credential: Credential::of(key), ..entry("a", JoinRole::Publisher) };
        let (before, _) = Someone::entered(&mut hub, with("key"));
        let (mut ann, _, ann_id) = viewer(&mut hub);
        assert_eq!(Someone::entered(&mut hub, with("other")).1["mode"], "forward");
        assert_eq!(Someone::entered(&mut hub, entry("a", JoinRole::Publisher)).1["mode"], "forward");
        let (after, joined) = Someone::entered(&mut hub, with("key"));
        assert_eq!(joined["mode"], "p2p");
        assert_eq!(hub.relay(before.id, Some(ann_id.clone()), offer("x")), Err(HubError::NoPeer(ann_id.clone())));
        hub.disconnect(before.id);
        on(&mut hub, false);
        hub.relay(after.id, Some(ann_id), offer("x")).unwrap();
        assert!(!kinds(&ann.heard()).contains(&"closed"), "the old connection's end is nothing to him");
    }

    #[test]
    fn a_broadcast_is_over_when_it_is_neither_hosted_nor_live() {
        let mut hub = hub(5);
        let (host, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
        let (mut ann, ..) = viewer(&mut hub);
        let (mut peer, _) = Someone::joined(&mut hub, "a", JoinRole::Peer);
        on(&mut hub, true);
        hub.disconnect(host.id);
        on(&mut hub, true);
        assert_eq!(kinds(&ann.heard()), ["viewers"], "it goes on without the page");
        on(&mut hub, false);
        assert_eq!(ann.heard(), [json!({"type": "closed", "reason": "ended"})]);
        assert!(hub.place(ann.id).is_err() && hub.place(peer.id).is_ok());
        assert!(peer.heard().is_empty());
        on(&mut hub, false);
        assert!(ann.heard().is_empty(), "told once");
    }

    #[test]
    fn who_falls_back_is_the_servers_and_leaves_his_place_to_another() {
        let mut hub = hub(1);
        let (mut host, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
        let (ann, _, ann_id) = viewer(&mut hub);
        hub.fall_back(ann.id);
        hub.fall_back(ann.id);
        assert_eq!(host.heard()[1..], [json!({"type": "peer-left", "peer": ann_id})]);
        assert_eq!(hub.relay(ann.id, None, offer("x")), Err(HubError::Alone));
        assert_eq!(viewer(&mut hub).1, "p2p");
        hub.disconnect(ann.id);
        assert_eq!(kinds(&host.heard()), ["peer-joined"], "he was gone already");
    }

    #[test]
    fn viewers_are_bounded_over_all_channels() {
        let mut hub = Hub::new(Audience { max_viewers: 2, p2p_viewers: 0 }, Seats::new(2), Vec::new());
        let (_, first) = Someone::entered(&mut hub, entry("a", JoinRole::Viewer));
        assert_eq!(first["mode"], "forward");
        let (second, _) = Someone::entered(&mut hub, entry("b", JoinRole::Viewer));
        assert_eq!(hub.may_join(MemberId(99), &id("c"), JoinRole::Viewer), Err(HubError::NoSeat(NoSeat(2))));
        assert_eq!(hub.may_join(MemberId(99), &id("c"), JoinRole::Publisher), Ok(()));
        hub.disconnect(second.id);
        assert_eq!(hub.may_join(MemberId(99), &id("c"), JoinRole::Viewer), Ok(()));
    }

    #[test]
    fn who_comes_late_is_told_how_many_watch() {
        let mut hub = hub(0);
        let (mut ann, ..) = viewer(&mut hub);
        hub.settle(&id("a"), Watched { viewers: 1, is_live: true });
        let (mut host, _) = Someone::joined(&mut hub, "a", JoinRole::Publisher);
        hub.settle(&id("a"), Watched { viewers: 1, is_live: true });
        let count = json!({"type": "viewers", "count": 1});
        assert_eq!((ann.heard(), host.heard()), (vec![count.clone()], vec![count]), "each once");
    }
}
