//! Ways to a peer that are not the shared UDP port: through a TURN server, or over a TCP connection that the peer opened.
//!
//! Everything behind the port knows a peer by its address. So a detour gets addresses of its own, of a block that no host
//! has: 240.0.0.0/4 (RFC 1112 section 4). What comes by a detour is shown as coming from there, and what is sent there goes
//! that way; neither the stack nor the routes know of it. A peer cannot name such an address (`remote_candidates`), and what
//! claims to come from one on the UDP port is dropped.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Weak,
};

use tokio::sync::mpsc;

use super::Shared;

/// The first of the addresses; 24 bits count the detours.
const FIRST: u32 = 0xF000_0000;
const COUNTED: u32 = 0x00FF_FFFF;
/// Of one port. Relayed peers and TCP connections have bounds of their own, which are reached before.
const MOST: usize = 16_384;

/// A datagram for a peer that a detour leads to.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The peer as it is at the other end.
    pub(super) to: SocketAddr,
    pub(super) datagram: Vec<u8>,
}

/// The detours of one port.
#[derive(Debug, Default)]
pub(super) struct Detours {
    ways: HashMap<u32, Way>,
    next: u32,
}

#[derive(Debug)]
struct Way {
    peer: IpAddr,
    /// Of the peer, where the way leads to one port only and what is shown has another.
    port: Option<u16>,
    out: mpsc::Sender<Outgoing>,
}

/// One detour; it ends with this.
#[derive(Debug)]
pub(super) struct Detour {
    shared: Weak<Shared>,
    number: u32,
}

impl Detours {
    fn open(&mut self, peer: IpAddr, port: Option<u16>, out: mpsc::Sender<Outgoing>) -> Option<u32> {
        if self.ways.len() >= MOST {
            return None;
        }
        while self.ways.contains_key(&self.next) {
            self.next = (self.next + 1) & COUNTED;
        }
        let number = self.next;
        // Not at once the same again: a session may still know the last one.
        self.next = (number + 1) & COUNTED;
        self.ways.insert(number, Way { peer, port, out });
        Some(number)
    }

    /// Hands a datagram to the detour that the address is of; false if there is none or it has no room.
    pub(super) fn send(&self, destination: SocketAddr, datagram: &[u8]) -> bool {
        let (Some(way), Some(to)) = (self.way(destination.ip()), self.peer_at(destination)) else { return false };
        way.out.try_send(Outgoing { to, datagram: datagram.to_vec() }).is_ok()
    }

    /// Where the peer that is shown as being there really is.
    pub(super) fn peer_at(&self, shown: SocketAddr) -> Option<SocketAddr> {
        self.way(shown.ip()).map(|way| SocketAddr::new(way.peer, way.port.unwrap_or(shown.port())))
    }

    fn way(&self, shown: IpAddr) -> Option<&Way> {
        let IpAddr::V4(v4) = shown else { return None };
        self.ways.get(&(v4.to_bits() & COUNTED)).filter(|_| is_detour(shown))
    }
}

impl Detour {
    /// Opens one to this peer, at this port or any of its own, whose datagrams go out there; `None` if there are too many.
    pub(super) fn open(
        shared: &std::sync::Arc<Shared>,
        peer: IpAddr,
        port: Option<u16>,
        out: mpsc::Sender<Outgoing>,
    ) -> Option<Self> {
        let number = shared.detours().open(peer, port, out)?;
        Some(Self { shared: std::sync::Arc::downgrade(shared), number })
    }

    /// What the peer is shown as.
    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST | self.number)
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.detours().ways.remove(&self.number);
        }
    }
}

/// Whether an address is a detour's.
pub(super) fn is_detour(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_goes_to_the_peer_behind_the_address() {
        let (mut detours, (out, mut outgoing)) = (Detours::default(), mpsc::channel(1));
        let peer = IpAddr::from([192, 0, 2, 1]);
        let number = detours.open(peer, None, out).unwrap();
        let address = IpAddr::from(Ipv4Addr::from_bits(FIRST | number));
        assert!(is_detour(address) && !is_detour(peer));
        assert!(detours.send(SocketAddr::new(address, 5000), b"one"));
        assert!(!detours.send(SocketAddr::new(address, 5000), b"two"), "there is no room");
        let Outgoing { to, datagram } = outgoing.try_recv().unwrap();
        assert_eq!((to, datagram.as_slice()), (SocketAddr::new(peer, 5000), &b"one"[..]));
    }

    #[test]
    fn what_is_shown_of_a_peer_tells_where_it_really_is() {
        let (mut detours, (out, _outgoing)) = (Detours::default(), mpsc::channel(1));
        let peer = IpAddr::from([192, 0, 2, 1]);
        let (relayed, by_tcp) =
            (detours.open(peer, None, out.clone()).unwrap(), detours.open(peer, Some(7000), out).unwrap());
        let shown = |number: u32| SocketAddr::from((Ipv4Addr::from_bits(FIRST | number), 9));
        assert_eq!(detours.peer_at(shown(relayed)), Some(SocketAddr::new(peer, 9)));
        assert_eq!(detours.peer_at(shown(by_tcp)), Some(SocketAddr::new(peer, 7000)));
        assert_eq!(detours.peer_at(SocketAddr::from(([0, 0, 0, 0], 9))), None, "no address of a detour");
    }

    #[test]
    fn what_has_ended_leads_nowhere_and_is_not_given_again_at_once() {
        let (mut detours, (out, _outgoing)) = (Detours::default(), mpsc::channel(1));
        let first = detours.open(IpAddr::from([192, 0, 2, 1]), None, out.clone()).unwrap();
        detours.ways.remove(&first);
        let second = detours.open(IpAddr::from([192, 0, 2, 2]), None, out.clone()).unwrap();
        assert_ne!(first, second);
        assert!(!detours.send(SocketAddr::from((Ipv4Addr::from_bits(FIRST | first), 1)), b"x"));
        let opened =
            (0..MOST * 2).filter(|_| detours.open(IpAddr::from([192, 0, 2, 3]), None, out.clone()).is_some()).count();
        assert_eq!(opened, MOST - 1);
    }
}
