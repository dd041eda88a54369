//! Addresses that a peer may have come to: unknown ones, and those that another session still holds.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{
    super::{socket::Channel, stun},
    News, Route, Routes, is_media,
};

impl Routes {
    /// An address that no session has: a peer may be there now.
    pub(super) fn route_unknown(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        datagram: &[u8],
        now: Instant,
    ) -> Route {
        let ssrc = is_media(datagram).then(|| rtp_ssrc(datagram)).flatten();
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
        peer.answered(from, transaction, datagram, now);
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
        self.answered(&channel, from, to, response, transaction, now)
    }

    /// A response from an address that somebody holds: it may answer a check of another session, which is there then.
    pub(super) fn route_claimed(
        &mut self,
        from: SocketAddr,
        to: Option<IpAddr>,
        response: &[u8],
        transaction: stun::Transaction,
        now: Instant,
    ) -> Option<Route> {
        let channel = self.claimed.get(&from)?.clone();
        let asked = channel.peer().checks.is_pending(from, transaction);
        asked.then(|| self.answered(&channel, from, to, response, transaction, now))
    }

    /// The answer to a session's check makes the address that session's, if its integrity holds.
    fn answered(
        &mut self,
        channel: &Arc<Channel>,
        from: SocketAddr,
        to: Option<IpAddr>,
        response: &[u8],
        transaction: stun::Transaction,
        now: Instant,
    ) -> Route {
        let mut peer = channel.peer();
        if !peer.is_genuine(response) {
            return Route::Forged;
        }
        peer.answered(from, transaction, response, now);
        self.learn(&mut peer, channel, from, to);
        self.claimed.remove(&from);
        let shown = peer.path.inward(from, false, now);
        drop(peer);
        Route::Session { channel: channel.clone(), shown, news: News::None }
    }
}

/// The SSRC of a media packet that is RTP (RFC 5761 section 4).
fn rtp_ssrc(datagram: &[u8]) -> Option<u32> {
    let is_rtcp = (192..=223).contains(datagram.get(1)?);
    let ssrc = datagram.get(8..12)?.try_into().ok()?;
    (!is_rtcp).then(|| u32::from_be_bytes(ssrc))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            super::path::HOLDS,
            tests::{address, check, leads_to, response, rtp, session, two_with_media},
        },
        *,
    };

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
        assert!(leads_to(&routes.at(3, &rtp(11)), &a), "one that may be forged is no other's");
        routes.prove_ssrc(&b, 11);
        assert!(matches!(routes.at(3, &rtp(11)), Route::Unknown));
        routes.remove(&b);
        assert!(leads_to(&routes.at(3, &rtp(11)), &a));
    }

    /// A session that asks from port 1, where `a` has its media, as one may do who writes others' addresses.
    fn claiming(routes: &mut Routes) -> Arc<Channel> {
        let c = session(routes, "c");
        c.peer().set_remote_password("c's peer".into());
        assert!(leads_to(&routes.at(1, &check("c", "password of c", true)), &c), "its stack may answer");
        c
    }

    #[test]
    fn an_address_that_media_flows_from_is_not_given_to_whoever_asks_in_its_name() {
        let (mut routes, a, _) = two_with_media();
        let c = claiming(&mut routes);
        assert!(leads_to(&routes.at(1, &rtp(11)), &a));
        assert!(leads_to(&routes.at(1, &[22; 40]), &a), "DTLS");
        assert!(leads_to(&routes.at(1, &check("a", "password of a", true)), &a));
        assert!(c.peer().may_check(address(1), [7; 12], &[], || true, Instant::now()));
        assert!(leads_to(&routes.at(1, &response([8; 12], "c's peer")), &a), "no answer to it");
        assert!(matches!(routes.at(1, &response([7; 12], "wrong")), Route::Forged));
        assert!(leads_to(&routes.at(1, &rtp(11)), &a));
        routes.remove(&c);
        assert!(routes.claimed.is_empty());
    }

    #[test]
    fn who_answers_a_check_there_gets_the_address() {
        let (mut routes, a, _) = two_with_media();
        let c = claiming(&mut routes);
        assert!(c.peer().may_check(address(1), [7; 12], &[], || true, Instant::now()));
        assert!(leads_to(&routes.at(1, &response([7; 12], "c's peer")), &c));
        assert!(leads_to(&routes.at(1, &rtp(33)), &c) && routes.claimed.is_empty());
        routes.remove(&a);
        assert!(leads_to(&routes.at(1, &rtp(33)), &c));
    }

    #[test]
    fn while_it_connects_a_session_keeps_the_address_that_has_answered() {
        let (mut routes, a, _) = two_with_media();
        let new = session(&mut routes, "new");
        new.peer().set_remote_password("new's peer".into());
        routes.at(4, &check("new", "password of new", false));
        assert!(leads_to(&routes.at(4, &check("a", "password of a", true)), &a), "nobody has proven to be there");
        routes.at(4, &check("new", "password of new", false));
        assert!(new.peer().may_check(address(4), [7; 12], &[], || true, Instant::now()));
        assert!(leads_to(&routes.at(4, &response([7; 12], "new's peer")), &new));
        routes.at(4, &check("a", "password of a", true));
        assert!(leads_to(&routes.at(4, &[22; 40]), &new));
    }

    #[test]
    fn an_address_that_has_fallen_silent_is_given_away() {
        let (mut routes, a, _) = two_with_media();
        let c = session(&mut routes, "c");
        let at = |after| Instant::now() + after;
        let ask = check("c", "password of c", false);
        let route = |routes: &mut Routes, datagram: &[u8], now| routes.route(address(1), None, datagram, now);
        assert!(leads_to(&route(&mut routes, &ask, at(HOLDS - Duration::from_secs(1))), &c));
        assert!(leads_to(&route(&mut routes, &rtp(11), at(Duration::ZERO)), &a), "it was not silent for long enough");
        assert!(leads_to(&route(&mut routes, &ask, at(HOLDS)), &c));
        assert!(leads_to(&route(&mut routes, &rtp(33), at(HOLDS)), &c));
    }

    #[test]
    fn claims_are_bounded_by_what_is_held() {
        let (mut routes, a, b) = two_with_media();
        for name in 0..100 {
            let name = format!("claims {name}");
            session(&mut routes, &name);
            for port in 1..=9 {
                routes.at(port, &check(&name, &format!("password of {name}"), true));
            }
        }
        assert_eq!(routes.claimed.len(), 2);
        routes.remove(&a);
        routes.remove(&b);
        assert!(routes.claimed.is_empty());
    }
}
