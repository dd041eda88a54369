//! Which peers may write to us through a TURN server: permissions (RFC 8656 section 9), one an address, asked for before a
//! peer can come that way and kept while it does. Pure; `now` is an argument.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// A permission lasts 300 s (RFC 8656 section 9.1); this leaves a minute to renew it in.
const RENEW: Duration = Duration::from_secs(240);
/// A request without an answer is made again.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Peers that neither came nor were written to for so long are forgotten: consent has expired many times over.
const UNUSED: Duration = Duration::from_secs(300);
/// Peers at a time: 20 candidates of 50 sessions that connect at once, and all that then stay.
pub(super) const MOST: usize = 1024;
/// In one request: it has to fit in one datagram with the credentials.
const AT_ONCE: usize = 16;

/// The peers of one allocation; `D` is the detour that leads to one.
#[derive(Debug)]
pub(super) struct Peers<D> {
    peers: HashMap<Ipv4Addr, Peer<D>>,
}

#[derive(Debug)]
struct Peer<D> {
    detour: D,
    used: Instant,
    granted: Option<Instant>,
    asked: Option<Instant>,
}

impl<D> Default for Peers<D> {
    fn default() -> Self {
        Self { peers: HashMap::new() }
    }
}

impl<D> Peers<D> {
    /// The way to a peer, opened if there is none; `None` if there are too many.
    pub(super) fn want(&mut self, ip: Ipv4Addr, open: impl FnOnce() -> Option<D>, now: Instant) -> Option<&D> {
        if !self.peers.contains_key(&ip) {
            if self.peers.len() >= MOST {
                return None;
            }
            self.peers.insert(ip, Peer { detour: open()?, used: now, granted: None, asked: None });
        }
        let peer = self.peers.get_mut(&ip)?;
        peer.used = now;
        Some(&peer.detour)
    }

    /// Something goes to or comes from a peer; the way to it, if it was wanted.
    pub(super) fn used(&mut self, ip: Ipv4Addr, now: Instant) -> Option<&D> {
        let peer = self.peers.get_mut(&ip)?;
        peer.used = now;
        Some(&peer.detour)
    }

    /// Those that the server is to be asked for now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Ipv4Addr> {
        self.peers.retain(|_, peer| now.saturating_duration_since(peer.used) < UNUSED);
        let since = |at: Instant| now.saturating_duration_since(at);
        let mut due = Vec::new();
        for (ip, peer) in &mut self.peers {
            let wants = peer.granted.is_none_or(|at| since(at) >= RENEW);
            if due.len() < AT_ONCE && wants && peer.asked.is_none_or(|at| since(at) >= ASK_AGAIN) {
                peer.asked = Some(now);
                due.push(*ip);
            }
        }
        due
    }

    /// The server has permitted these.
    pub(super) fn granted(&mut self, ips: &[Ipv4Addr], now: Instant) {
        for ip in ips {
            if let Some(peer) = self.peers.get_mut(ip) {
                (peer.granted, peer.asked) = (Some(now), None);
            }
        }
    }

    /// The server does not permit these, now or ever.
    pub(super) fn refused(&mut self, ips: &[Ipv4Addr]) {
        self.peers.retain(|ip, _| !ips.contains(ip));
    }

    /// A new allocation knows none of them.
    pub(super) fn forget_grants(&mut self) {
        for peer in self.peers.values_mut() {
            (peer.granted, peer.asked) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn wanting(peers: &mut Peers<u32>, last: u8, now: Instant) -> Option<u32> {
        peers.want(ip(last), || Some(u32::from(last)), now).copied()
    }

    #[test]
    fn a_peer_is_asked_for_once_and_again_before_its_permission_ends() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        assert_eq!(wanting(&mut peers, 1, start), Some(1));
        assert_eq!(peers.due(start), [ip(1)]);
        assert!(peers.due(start + Duration::from_secs(2)).is_empty());
        assert_eq!(peers.due(start + ASK_AGAIN), [ip(1)], "nothing was heard of it");
        peers.granted(&[ip(1)], start + ASK_AGAIN);
        let later = start + ASK_AGAIN + RENEW;
        peers.used(ip(1), later);
        assert!(peers.due(later - Duration::from_secs(1)).is_empty());
        assert_eq!(peers.due(later), [ip(1)]);
    }

    #[test]
    fn who_is_not_there_any_more_is_forgotten_and_who_is_refused_as_well() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        wanting(&mut peers, 1, start);
        wanting(&mut peers, 2, start);
        peers.refused(&[ip(2)]);
        assert_eq!(peers.due(start), [ip(1)]);
        assert!(peers.due(start + UNUSED).is_empty() && peers.used(ip(1), start).is_none());
    }

    #[test]
    fn peers_are_bounded_and_asked_for_in_portions() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        let all = (0..5000_u32).filter(|n| peers.want(Ipv4Addr::from_bits(*n), || Some(*n), start).is_some()).count();
        assert_eq!((all, peers.due(start).len()), (MOST, AT_ONCE));
        peers.forget_grants();
        assert_eq!(peers.due(start).len(), AT_ONCE);
    }
}
