//! Which session a datagram belongs to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{IceCredentials, socket::Channel, stun};

/// Addresses remembered for one session: every candidate of a peer may be one, no more than a few ever are.
const ADDRESSES_PER_SESSION: usize = 16;

/// User fragments of one session: the peer uses one at a time, and for a moment that of before a restart.
const UFRAGS_PER_SESSION: usize = 4;

/// The tables of one shared port. Bounded: a session by who may open one, its entries by the constants above.
#[derive(Default)]
pub(super) struct Routes {
    by_ufrag: HashMap<String, Named>,
    by_address: HashMap<SocketAddr, Arc<Channel>>,
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
    Session(Arc<Channel>),
    Unknown,
    Forged,
}

impl Routes {
    /// Adds credentials to a session, unless it is over; its oldest go when it has too many.
    pub(super) fn insert(&mut self, channel: &Arc<Channel>, credentials: IceCredentials) {
        if channel.is_closed() {
            return;
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

    /// Forgets a session for good. What another one has taken over meanwhile stays that one's.
    pub(super) fn remove(&mut self, channel: &Arc<Channel>) {
        channel.close();
        self.by_ufrag.retain(|_, named| !Arc::ptr_eq(&named.channel, channel));
        self.by_address.retain(|_, owner| !Arc::ptr_eq(owner, channel));
    }

    /// Finds the session; a STUN request from an address that is new to its session is checked first and then remembered.
    pub(super) fn route(&mut self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> Route {
        let known = self.by_address.get(&from);
        // The user fragment decides even for a known address: another session may have got the same port from a NAT.
        let Some(named) = stun::local_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag)) else {
            return known.cloned().map_or(Route::Unknown, Route::Session);
        };
        if known.is_some_and(|known| Arc::ptr_eq(known, &named.channel)) {
            return Route::Session(named.channel.clone());
        }
        if !stun::integrity_holds(datagram, &named.password) {
            return Route::Forged;
        }
        let named = named.channel.clone();
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
        let mut routes = Routes::default();
        let a = session(&mut routes, "a");
        assert!(matches!(routes.route(address(1), None, &[0x80; 20]), Route::Unknown));
        assert!(matches!(routes.route(address(1), None, &request("a", "wrong")), Route::Forged));
        assert!(matches!(routes.route(address(1), None, &[0x80; 20]), Route::Unknown));
        assert!(leads_to(&routes.route(address(1), None, &request("a", "password of a")), &a));
        assert!(leads_to(&routes.route(address(1), None, &[0x80; 20]), &a));
    }

    #[test]
    fn the_user_fragment_moves_an_address_to_another_session() {
        let mut routes = Routes::default();
        let (a, b) = (session(&mut routes, "a"), session(&mut routes, "b"));
        routes.route(address(1), None, &request("a", "password of a"));
        assert!(leads_to(&routes.route(address(1), None, &request("b", "password of b")), &b));
        routes.remove(&a);
        assert!(leads_to(&routes.route(address(1), None, &[0x80; 20]), &b));
    }

    #[test]
    fn a_session_leaves_nothing_behind_and_its_addresses_are_bounded() {
        let mut routes = Routes::default();
        let a = session(&mut routes, "a");
        for port in 1..200 {
            routes.route(address(port), None, &request("a", "password of a"));
        }
        assert!(routes.by_address.len() <= ADDRESSES_PER_SESSION);
        routes.remove(&a);
        assert!(routes.by_address.is_empty() && routes.by_ufrag.is_empty());
    }

    #[test]
    fn credentials_that_are_added_lead_to_the_session_each_with_its_own_password() {
        let mut routes = Routes::default();
        let a = session(&mut routes, "a");
        routes.insert(&a, credentials("restarted"));
        assert!(matches!(routes.route(address(1), None, &request("restarted", "password of a")), Route::Forged));
        assert!(leads_to(&routes.route(address(1), None, &request("restarted", "password of restarted")), &a));
        assert!(leads_to(&routes.route(address(2), None, &request("a", "password of a")), &a), "the old ones as well");
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
        assert!(leads_to(&routes.route(address(1), None, &request("b", "password of b")), &b));
    }
}
