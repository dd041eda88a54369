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
        if let Some(oldest) = named.learn(from, to, ADDRESSES_PER_SESSION) {
            self.by_address.remove(&oldest);
        }
        self.by_address.insert(from, named.clone());
        Route::Session(named)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.by_ufrag.len(), self.by_address.len())
    }
}
