//! Which session a datagram belongs to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{IceCredentials, peer::Peer, revoked::Revoked, socket::Channel, stun};

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
        }
        self.inserted += 1;
        let IceCredentials { ufrag, password } = credentials;
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

    /// Forgets a session for good. What another one has taken over meanwhile stays that one's.
    pub(super) fn remove(&mut self, channel: &Arc<Channel>) {
        channel.close();
        let mine = |named: &Named| Arc::ptr_eq(&named.channel, channel);
        let (now, revoked) = (Instant::now(), &mut self.revoked);
        for (ufrag, named) in self.by_ufrag.extract_if(|_, named| mine(named)) {
            revoked.insert(ufrag, named.password, now);
        }
        self.by_address.retain(|_, owner| !Arc::ptr_eq(owner, channel));
        self.probed.retain(|_, owner| !Arc::ptr_eq(owner, channel));
        self.callers.retain(|caller| !Arc::ptr_eq(caller, channel));
        self.by_ssrc.retain(|_, owners| {
            owners.retain(|owner| !Arc::ptr_eq(owner, channel));
            !owners.is_empty()
        });
    }

    /// Finds the session. A STUN request from an address that is new to its session, or where its peer is not, is checked.
    pub(super) fn route(&mut self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8], now: Instant) -> Route {
        let known = self.by_address.get(&from);
        // The user fragment decides even for a known address: another session may have got the same port from a NAT.
        if let Some(named) = stun::local_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag)) {
            let channel = named.channel.clone();
            let is_known = known.is_some_and(|known| Arc::ptr_eq(known, &channel));
            let mut peer = channel.peer();
            if !is_known || peer.path.may_move_to(from) {
                if !stun::integrity_holds(datagram, &named.password) {
                    return Route::Forged;
                }
                if !is_known {
                    self.learn(&mut peer, &channel, from, to);
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
        let ssrc = media.then(|| rtp_ssrc(datagram)).flatten();
        if let Some(channel) = known.cloned() {
            let mut peer = channel.peer();
            if let Some((stun::Kind::Response, transaction)) = stun::kind(datagram) {
                peer.checks.answered(from, transaction);
            }
            if let Some(ssrc) = ssrc.filter(|ssrc| peer.learn_ssrc(*ssrc)) {
                self.by_ssrc.entry(ssrc).or_default().push(channel.clone());
            }
            let shown = peer.path.inward(from, media, now);
            drop(peer);
            return Route::Session { channel, shown, news: News::None };
        }
        self.route_unknown(from, to, datagram, ssrc, now)
    }

    /// An address that no session has: a peer may be there now.
    fn route_unknown(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        datagram: &[u8],
        ssrc: Option<u32>,
        now: Instant,
    ) -> Route {
        if let Some([channel]) = ssrc.and_then(|ssrc| self.by_ssrc.get(&ssrc)).map(Vec::as_slice) {
            let channel = channel.clone();
            let Some((shown, check)) = channel.peer().path.stranger(from, now) else { return Route::Unknown };
            if check && !self.probed.get(&from).is_some_and(|owner| Arc::ptr_eq(owner, &channel)) {
                self.probed.retain(|_, owner| !Arc::ptr_eq(owner, &channel));
                self.probed.insert(from, channel.clone());
            }
            return Route::Session { channel, shown, news: if check { News::Elsewhere } else { News::None } };
        }
        let Some((stun::Kind::Response, transaction)) = stun::kind(datagram) else { return Route::Unknown };
        let Some(channel) = self.probed.get(&from).cloned() else {
            return self.route_called(from, to, datagram, transaction, now);
        };
        let mut peer = channel.peer();
        if !peer.probe_answered(from, transaction, datagram, now) {
            return Route::Forged;
        }
        peer.checks.answered(from, transaction);
        self.learn(&mut peer, &channel, from, to);
        self.probed.remove(&from);
        let shown = peer.path.inward(from, false, now);
        drop(peer);
        Route::Session { channel, shown, news: News::Moved }
    }

    /// An answer from an address that never asked: it may be a called server's. Only who got the check knows its
    /// transaction ID, so nobody else costs more than the search.
    fn route_called(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        response: &[u8],
        transaction: stun::Transaction,
        now: Instant,
    ) -> Route {
        let asked = self.callers.iter().find(|caller| caller.peer().checks.is_pending(from, transaction));
        let Some(channel) = asked.cloned() else { return Route::Unknown };
        let mut peer = channel.peer();
        if !peer.is_genuine(response) {
            return Route::Forged;
        }
        peer.checks.answered(from, transaction);
        self.learn(&mut peer, &channel, from, to);
        let shown = peer.path.inward(from, false, now);
        drop(peer);
        Route::Session { channel, shown, news: News::None }
    }

    /// Remembers that an address is this session's.
    fn learn(&mut self, peer: &mut Peer, channel: &Arc<Channel>, from: SocketAddr, to: Option<IpAddr>) {
        if let Some(forgotten) = peer.learn(from, to)
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

/// The SSRC of a media packet that is RTP (RFC 5761 section 4).
fn rtp_ssrc(datagram: &[u8]) -> Option<u32> {
    let is_rtcp = (192..=223).contains(datagram.get(1)?);
    let ssrc = datagram.get(8..12)?.try_into().ok()?;
    (!is_rtcp).then(|| u32::from_be_bytes(ssrc))
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

    fn credentials(ufrag: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.into(), password: format!("password of {ufrag}") }
    }

    fn session(routes: &mut Routes, ufrag: &str) -> Arc<Channel> {
        let channel = Arc::default();
        routes.insert(&channel, credentials(ufrag));
        channel
    }

    fn request(ufrag: &str, password: &str) -> Vec<u8> {
        check(ufrag, password, false)
    }

    fn check(ufrag: &str, password: &str, nominates: bool) -> Vec<u8> {
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
        fn at(&mut self, port: u16, datagram: &[u8]) -> Route {
            self.route(address(port), None, datagram, Instant::now())
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn rtp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 1];
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet
    }

    fn leads_to(route: &Route, session: &Arc<Channel>) -> bool {
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
    fn two_with_media() -> (Routes, Arc<Channel>, Arc<Channel>) {
        let mut routes = Routes::default();
        let (a, b) = (session(&mut routes, "a"), session(&mut routes, "b"));
        for (port, name, channel) in [(1, "a", &a), (2, "b", &b)] {
            routes.at(port, &request(name, &format!("password of {name}")));
            channel.peer().path.selected(address(port), Instant::now());
            routes.at(port, &rtp(u32::from(port) * 11));
        }
        (routes, a, b)
    }

    fn response(transaction: [u8; 12], password: &str) -> Vec<u8> {
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
    fn a_called_server_that_never_asks_is_known_by_its_answer() {
        let mut routes = Routes::default();
        let (a, b) = (session(&mut routes, "a"), session(&mut routes, "b"));
        for channel in [&a, &b] {
            let mut peer = channel.peer();
            peer.set_remote_password("theirs".into());
            assert!(peer.may_check(address(1), [7; 12], &[], || true, Instant::now()));
        }
        let answer = response([7; 12], "theirs");
        assert!(matches!(routes.at(1, &answer), Route::Unknown), "who is called is not answered by strangers");
        routes.calls(&a);
        assert!(matches!(routes.at(1, &response([8; 12], "theirs")), Route::Unknown), "another transaction");
        assert!(matches!(routes.at(2, &answer), Route::Unknown), "another address");
        assert!(matches!(routes.at(1, &response([7; 12], "wrong")), Route::Forged));
        assert!(matches!(routes.at(1, &[0x80; 20]), Route::Unknown));
        assert!(leads_to(&routes.at(1, &answer), &a));
        assert!(leads_to(&routes.at(1, &[0x80; 20]), &a), "and so is what follows");
        routes.remove(&a);
        assert!(routes.callers.is_empty() && routes.by_address.is_empty());
    }

    #[test]
    fn media_of_an_unknown_address_goes_by_its_ssrc_and_moves_nothing() {
        let (mut routes, a, _) = two_with_media();
        let route = routes.at(3, &rtp(11));
        assert!(leads_to(&route, &a));
        assert!(matches!(route, Route::Session { shown, news: News::Elsewhere, .. } if shown == address(1)));
        assert!(matches!(routes.at(3, &rtp(33)), Route::Unknown), "nobody's");
        assert!(matches!(routes.at(3, &[0x80, 200, 0, 1, 0, 0, 0, 11, 0, 0, 0, 11]), Route::Unknown), "RTCP");
        assert_eq!(a.peer().path.outward(address(1)), address(1));
    }

    #[test]
    fn an_ssrc_that_two_sessions_use_tells_nothing_until_one_is_gone() {
        let (mut routes, a, b) = two_with_media();
        routes.at(2, &rtp(11));
        assert!(matches!(routes.at(3, &rtp(11)), Route::Unknown));
        routes.remove(&b);
        assert!(leads_to(&routes.at(3, &rtp(11)), &a));
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
