//! Which session a datagram belongs to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{socket::Channel, stun};

/// Addresses remembered for one session: every candidate of a peer may be one, no more than a few ever are.
const ADDRESSES_PER_SESSION: usize = 16;

/// The tables of one shared port. Bounded: a session by who may open one, its addresses by [`ADDRESSES_PER_SESSION`].
#[derive(Default)]
pub(super) struct Routes {
    by_ufrag: HashMap<String, Arc<Channel>>,
    by_address: HashMap<SocketAddr, Arc<Channel>>,
}

/// Where a datagram goes.
pub(super) enum Route {
    Session(Arc<Channel>),
    Unknown,
    Forged,
}

impl Routes {
    pub(super) fn insert(&mut self, channel: Arc<Channel>) {
        self.by_ufrag.insert(channel.credentials.ufrag.clone(), channel);
    }

    /// Forgets a session. What another one has taken over meanwhile stays that one's.
    pub(super) fn remove(&mut self, channel: &Arc<Channel>) {
        self.by_ufrag.retain(|_, owner| !Arc::ptr_eq(owner, channel));
        self.by_address.retain(|_, owner| !Arc::ptr_eq(owner, channel));
    }

    /// Finds the session; a STUN request from an address that is new to its session is checked first and then remembered.
    pub(super) fn route(&mut self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> Route {
        let known = self.by_address.get(&from);
        // The user fragment decides even for a known address: another session may have got the same port from a NAT.
        let Some(named) = stun::local_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag)) else {
            return known.cloned().map_or(Route::Unknown, Route::Session);
        };
        if known.is_some_and(|known| Arc::ptr_eq(known, named)) {
            return Route::Session(named.clone());
        }
        if !stun::integrity_holds(datagram, &named.credentials.password) {
            return Route::Forged;
        }
        let named = named.clone();
        if let Some(oldest) = named.learn(from, to, ADDRESSES_PER_SESSION)
            && self.by_address.get(&oldest).is_some_and(|owner| Arc::ptr_eq(owner, &named))
        {
            self.by_address.remove(&oldest);
        }
        self.by_address.insert(from, named.clone());
        Route::Session(named)
    }
}

#[cfg(test)]
mod tests {
    use rtc::stun::{
        integrity::MessageIntegrity,
        message::{BINDING_REQUEST, Message, TransactionId},
        textattrs::Username,
    };

    use super::{super::IceCredentials, *};

    fn session(ufrag: &str) -> Arc<Channel> {
        Arc::new(Channel::new(IceCredentials { ufrag: ufrag.into(), password: format!("password of {ufrag}") }))
    }

    fn request(ufrag: &str, password: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
        let mut message = Message::new();
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId::default()),
                Box::new(Username::new(rtc::stun::attributes::ATTR_USERNAME, format!("{ufrag}:peer"))),
                Box::new(integrity),
            ])
            .unwrap();
        message.raw
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn leads_to(route: &Route, session: &Arc<Channel>) -> bool {
        matches!(route, Route::Session(found) if Arc::ptr_eq(found, session))
    }

    #[test]
    fn an_address_is_the_sessions_once_a_checked_request_came_from_it() {
        let (mut routes, a) = (Routes::default(), session("a"));
        routes.insert(a.clone());
        assert!(matches!(routes.route(address(1), None, &[0x80; 20]), Route::Unknown));
        assert!(matches!(routes.route(address(1), None, &request("a", "wrong")), Route::Forged));
        assert!(matches!(routes.route(address(1), None, &[0x80; 20]), Route::Unknown));
        assert!(leads_to(&routes.route(address(1), None, &request("a", "password of a")), &a));
        assert!(leads_to(&routes.route(address(1), None, &[0x80; 20]), &a));
    }

    #[test]
    fn the_user_fragment_moves_an_address_to_another_session() {
        let (mut routes, a, b) = (Routes::default(), session("a"), session("b"));
        routes.insert(a.clone());
        routes.insert(b.clone());
        routes.route(address(1), None, &request("a", "password of a"));
        assert!(leads_to(&routes.route(address(1), None, &request("b", "password of b")), &b));
        routes.remove(&a);
        assert!(leads_to(&routes.route(address(1), None, &[0x80; 20]), &b));
    }

    #[test]
    fn a_session_leaves_nothing_behind_and_its_addresses_are_bounded() {
        let (mut routes, a) = (Routes::default(), session("a"));
        routes.insert(a.clone());
        for port in 1..200 {
            routes.route(address(port), None, &request("a", "password of a"));
        }
        assert!(routes.by_address.len() <= ADDRESSES_PER_SESSION);
        routes.remove(&a);
        assert!(routes.by_address.is_empty() && routes.by_ufrag.is_empty());
    }
}
