//! Which session a datagram belongs to.
//!
//! A checked request proves that its sender knows a session's password, not that it is where it comes from: who has a
//! session of his own could write another's address onto it. So an address that a session's media flows from stays that
//! session's until another one has proven to be there, by the answer to a check; see `newcomers`.

mod newcomers;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{IceCredentials, peer::Peer, revoked::Revoked, socket::Channel, stun};
use crate::session::time;

/// User fragments of one session: the peer uses one at a time, and for a moment that of before a restart.
const UFRAGS_PER_SESSION: usize = 4;

/// The tables of one shared port. Bounded: a session by who may open one, its entries by [`UFRAGS_PER_SESSION`] and
/// by what its peer state remembers.
#[derive(Default)]
pub(super) struct Routes {
    by_ufrag: HashMap<String, Named>,
    by_address: HashMap<SocketAddr, Arc<Channel>>,
    /// Several sessions may use one SSRC; then it tells nothing.
    by_ssrc: HashMap<u32, Vec<Arc<Channel>>>,
    /// Unknown addresses that are checked for a session; one each.
    probed: HashMap<SocketAddr, Arc<Channel>>,
    /// Addresses that a session has asked from while another one holds them; the last one to ask.
    claimed: HashMap<SocketAddr, Arc<Channel>>,
    /// What ended lately.
    revoked: Revoked,
    /// Sessions that have called somebody who may never call back: an ICE-lite server only answers (RFC 8445 section 2.5).
    callers: Vec<Arc<Channel>>,
    /// Counts insertions, to know the oldest.
    inserted: u64,
}

/// Whose a user fragment is, and how its requests are checked.
struct Named {
    channel: Arc<Channel>,
    password: String,
    inserted: u64,
}

/// Where a datagram goes.
pub(super) enum Route {
    /// To this one, shown as coming from there.
    Session {
        channel: Arc<Channel>,
        shown: SocketAddr,
        news: News,
    },
    /// To nobody, but its sender is told that the session is over.
    Over(Vec<u8>),
    Unknown,
    Forged,
}

/// What a datagram tells beside what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// The peer has changed its address.
    Moved,
    /// Its media comes from an unknown address, which should be checked.
    Elsewhere,
}

impl Routes {
    /// Adds credentials to a session, unless it is over; its oldest go when it has too many.
    pub(super) fn insert(&mut self, channel: &Arc<Channel>, credentials: IceCredentials) {
        if channel.is_closed() {
            return;
        }
        if self.by_ufrag.values().any(|named| Arc::ptr_eq(&named.channel, channel)) {
            channel.peer().restart();
            channel.ssrcs().restart();
        }
        self.inserted += 1;
        let IceCredentials { ufrag, password } = credentials;
        channel.peer().set_local_password(password.clone());
        self.by_ufrag.insert(ufrag, Named { channel: channel.clone(), password, inserted: self.inserted });
        let of_session = || self.by_ufrag.iter().filter(|(_, named)| Arc::ptr_eq(&named.channel, channel));
        if of_session().count() > UFRAGS_PER_SESSION
            && let Some(oldest) = of_session().min_by_key(|(_, named)| named.inserted).map(|(ufrag, _)| ufrag.clone())
        {
            self.by_ufrag.remove(&oldest);
        }
    }

    /// Lets a session's checks be answered by addresses that no request has come from.
    pub(super) fn calls(&mut self, channel: &Arc<Channel>) {
        if !channel.is_closed() && !self.callers.iter().any(|caller| Arc::ptr_eq(caller, channel)) {
            self.callers.push(channel.clone());
        }
    }

    /// Nobody is routed to.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { by_ufrag, by_address, by_ssrc, probed, claimed, callers, .. } = self;
        let addresses = by_address.is_empty() && probed.is_empty() && claimed.is_empty();
        by_ufrag.is_empty() && by_ssrc.is_empty() && callers.is_empty() && addresses
    }

    /// Forgets a session for good. What another one has taken over meanwhile stays that one's.
    pub(super) fn remove(&mut self, channel: &Arc<Channel>) {
        channel.close();
        let mine = |named: &Named| Arc::ptr_eq(&named.channel, channel);
        let (now, revoked) = (time::now(), &mut self.revoked);
        for (ufrag, named) in self.by_ufrag.extract_if(|_, named| mine(named)) {
            revoked.insert(ufrag, named.password, now);
        }
        self.by_address.retain(|_, owner| !Arc::ptr_eq(owner, channel));
        self.probed.retain(|_, owner| !Arc::ptr_eq(owner, channel));
        // What was claimed of it needs no claim any more: the next request takes it.
        let held = |address: &SocketAddr| self.by_address.contains_key(address);
        self.claimed.retain(|address, owner| !Arc::ptr_eq(owner, channel) && held(address));
        self.callers.retain(|caller| !Arc::ptr_eq(caller, channel));
        self.by_ssrc.retain(|_, owners| {
            owners.retain(|owner| !Arc::ptr_eq(owner, channel));
            !owners.is_empty()
        });
    }

    /// A stream is this session's: its packets were made with the session's keys.
    pub(super) fn prove_ssrc(&mut self, channel: &Arc<Channel>, ssrc: u32) {
        if !channel.is_closed() && channel.peer().learn_ssrc(ssrc) {
            self.by_ssrc.entry(ssrc).or_default().push(channel.clone());
        }
    }

    /// Finds the session. A STUN request from an address that is new to its session, or where its peer is not, is checked.
    pub(super) fn route(&mut self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8], now: Instant) -> Route {
        let known = self.by_address.get(&from);
        // The user fragment decides even for a known address: another session may have got the same port from a NAT.
        if let Some(named) = stun::local_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag)) {
            let channel = named.channel.clone();
            let is_known = known.is_some_and(|known| Arc::ptr_eq(known, &channel));
            let is_held = !is_known && known.is_some_and(|known| known.peer().holds(from, now));
            let mut peer = channel.peer();
            // It nominates another address of ours: the network of the present one is gone, and what leaves from there with it.
            let changes_ours = is_known && to.is_some() && peer.source_for(from) != to && stun::nominates(datagram);
            if !is_known || changes_ours || peer.path.may_move_to(from) {
                if !stun::integrity_holds(datagram, &named.password) {
                    return Route::Forged;
                }
                if is_held {
                    peer.note(from, to);
                    drop(peer);
                    self.claimed.insert(from, channel.clone());
                    return Route::Session { channel, shown: from, news: News::None };
                }
                if !is_known {
                    self.learn(&mut peer, &channel, from, to);
                } else if changes_ours {
                    peer.note(from, to);
                }
            }
            let moved = peer.path.checked(from, stun::nominates(datagram), now);
            let shown = peer.path.inward(from, false, now);
            drop(peer);
            return Route::Session { channel, shown, news: if moved { News::Moved } else { News::None } };
        }
        if let Some(answer) = self.revoked.answer(datagram, now) {
            return Route::Over(answer);
        }
        let media = is_media(datagram);
        let Some(channel) = known.cloned() else { return self.route_unknown(from, to, datagram, now) };
        if let Some((stun::Kind::Response, transaction)) = stun::kind(datagram) {
            if let Some(route) = self.route_claimed(from, to, datagram, transaction, now) {
                return route;
            }
            channel.peer().answered(from, transaction, datagram, now);
        }
        let shown = channel.peer().path.inward(from, media, now);
        Route::Session { channel, shown, news: News::None }
    }

    /// Remembers that an address is this session's.
    fn learn(&mut self, peer: &mut Peer, channel: &Arc<Channel>, from: SocketAddr, to: Option<IpAddr>) {
        if let Some(forgotten) = peer.note(from, to)
            && self.by_address.get(&forgotten).is_some_and(|owner| Arc::ptr_eq(owner, channel))
        {
            self.by_address.remove(&forgotten);
        }
        self.by_address.insert(from, channel.clone());
    }
}

/// RTP or RTCP (RFC 7983 section 7).
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(128..=191))
}

#[cfg(test)]
mod tests {
    use rtc::stun::{
        attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute},
        integrity::MessageIntegrity,
        message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId},
        textattrs::Username,
    };

    use super::*;

    pub(super) fn credentials(ufrag: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.into(), password: format!("password of {ufrag}") }
    }

    pub(super) fn session(routes: &mut Routes, ufrag: &str) -> Arc<Channel> {
        let channel = Arc::default();
        routes.insert(&channel, credentials(ufrag));
        channel
    }

    fn request(ufrag: &str, password: &str) -> Vec<u8> {
        check(ufrag, password, false)
    }

    pub(super) fn check(ufrag: &str, password: &str, nominates: bool) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let password = password.to_owned();
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto());
        let mut setters: Vec<Box<dyn Setter>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::default()),
            Box::new(Username::new(ATTR_USERNAME, format!("{ufrag}:peer"))),
        ];
        if nominates {
            setters.push(Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: Vec::new() }));
        }
        setters.push(Box::new(integrity));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    impl Routes {
        /// Routes what came from this port just now.
        pub(in super::super) fn at(&mut self, port: u16, datagram: &[u8]) -> Route {
            self.route(address(port), None, datagram, Instant::now())
        }
    }

    pub(super) fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub(super) fn rtp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 1];
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet
    }

    pub(super) fn leads_to(route: &Route, session: &Arc<Channel>) -> bool {
        matches!(route, Route::Session { channel, .. } if Arc::ptr_eq(channel, session))
    }

    #[test]
    fn an_address_is_the_sessions_once_a_checked_request_came_from_it() {
        let mut routes = Routes::default();
        let a = session(&mut routes, "a");
        assert!(matches!(routes.at(1, &[0x80; 20]), Route::Unknown));
        assert!(matches!(routes.at(1, &request("a", "wrong")), Route::Forged));
        assert!(matches!(routes.at(1, &[0x80; 20]), Route::Unknown));
        assert!(leads_to(&routes.at(1, &request("a", "password of a")), &a));
        assert!(leads_to(&routes.at(1, &[0x80; 20]), &a));
    }

    #[test]
    fn the_user_fragment_moves_an_address_to_another_session() {
        let mut routes = Routes::default();
        let (a, b) = (session(&mut routes, "a"), session(&mut routes, "b"));
        routes.at(1, &request("a", "password of a"));
        assert!(leads_to(&routes.at(1, &request("b", "password of b")), &b));
        routes.remove(&a);
        assert!(leads_to(&routes.at(1, &[0x80; 20]), &b));
    }

    #[test]
    fn a_session_leaves_nothing_behind_and_its_addresses_are_bounded() {
        let mut routes = Routes::default();
        let a = session(&mut routes, "a");
        for port in 1..200 {
            routes.at(port, &request("a", "password of a"));
            routes.at(port, &rtp(port.into()));
            routes.prove_ssrc(&a, port.into());
        }
        assert!(routes.by_address.len() <= 16);
        routes.remove(&a);
        assert!(routes.by_address.is_empty() && routes.by_ufrag.is_empty() && routes.by_ssrc.is_empty());
    }

    #[test]
    fn credentials_that_are_added_lead_to_the_session_each_with_its_own_password() {
        let mut routes = Routes::default();
        let a = session(&mut routes, "a");
        routes.insert(&a, credentials("restarted"));
        assert!(matches!(routes.at(1, &request("restarted", "password of a")), Route::Forged));
        assert!(leads_to(&routes.at(1, &request("restarted", "password of restarted")), &a));
        assert!(leads_to(&routes.at(2, &request("a", "password of a")), &a), "the old ones as well");
        routes.remove(&a);
        assert!(routes.by_ufrag.is_empty());
        routes.insert(&a, credentials("late"));
        assert!(routes.by_ufrag.is_empty(), "a session that is over gets no routes any more");
    }

    #[test]
    fn the_oldest_credentials_go_when_a_session_has_too_many() {
        let mut routes = Routes::default();
        let (a, b) = (session(&mut routes, "a"), session(&mut routes, "b"));
        for restart in 0..100 {
            routes.insert(&a, credentials(&format!("restart {restart}")));
        }
        let mut left: Vec<&str> = routes.by_ufrag.keys().map(String::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["b", "restart 96", "restart 97", "restart 98", "restart 99"]);
        assert!(leads_to(&routes.at(1, &request("b", "password of b")), &b));
    }

    /// Two sessions with media: `a` from port 1 with SSRC 11, `b` from port 2 with SSRC 22.
    pub(super) fn two_with_media() -> (Routes, Arc<Channel>, Arc<Channel>) {
        let mut routes = Routes::default();
        let (a, b) = (session(&mut routes, "a"), session(&mut routes, "b"));
        for (port, name, channel) in [(1, "a", &a), (2, "b", &b)] {
            routes.at(port, &request(name, &format!("password of {name}")));
            channel.peer().path.selected(address(port), Instant::now());
            routes.at(port, &rtp(u32::from(port) * 11));
            routes.prove_ssrc(channel, u32::from(port) * 11);
        }
        (routes, a, b)
    }

    pub(super) fn response(transaction: [u8; 12], password: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
        let setters: Vec<Box<dyn Setter>> =
            vec![Box::new(BINDING_SUCCESS), Box::new(TransactionId(transaction)), Box::new(integrity)];
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    #[test]
    fn a_peer_that_nominates_another_address_of_ours_is_answered_from_there() {
        let (mut routes, a, _) = two_with_media();
        let ours = |last| Some(IpAddr::from([192, 0, 2, last]));
        let mut checked = |to, password: &str, nominates| {
            routes.route(address(1), to, &check("a", password, nominates), Instant::now());
            a.peer().source_for(address(1))
        };
        assert_eq!(checked(ours(1), "password of a", true), ours(1));
        assert_eq!(checked(ours(2), "password of a", false), ours(1), "only looked at");
        assert_eq!(checked(ours(2), "wrong", true), ours(1), "forged");
        assert_eq!(checked(ours(2), "password of a", true), ours(2));
    }

    #[test]
    fn a_checked_nomination_moves_a_peer_and_a_forged_one_does_not() {
        let (mut routes, a, _) = two_with_media();
        assert!(matches!(routes.at(3, &check("a", "wrong", true)), Route::Forged));
        assert_eq!(a.peer().path.outward(address(1)), address(1));
        let route = routes.at(3, &check("a", "password of a", true));
        assert!(matches!(route, Route::Session { shown, news: News::Moved, .. } if shown == address(1)));
        assert_eq!(a.peer().path.outward(address(1)), address(3));
        assert!(matches!(routes.at(1, &check("a", "wrong", true)), Route::Forged), "nor back");
        routes.insert(&a, credentials("restarted"));
        assert_eq!(a.peer().path.outward(address(1)), address(1), "a restart hides nothing");
    }
}
