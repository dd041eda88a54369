//! What one session's shared port knows of its peer: addresses, streams, where it is, what may be sent to it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{
    checks::{Checks, Transaction},
    consent::Consent,
    path::Path,
    stun,
};

/// Addresses remembered for one session: every candidate of a peer may be one, no more than a few ever are.
const MOST_ADDRESSES: usize = 16;
/// Streams remembered for one session: simulcast layers, their retransmissions, audio, and some restarts of these.
const MOST_SSRCS: usize = 32;

/// Changed by the reader and by the session's sockets.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Those that a checked request came from, oldest first, each with the address of ours that it wrote to.
    addresses: Vec<(SocketAddr, Option<IpAddr>)>,
    ssrcs: Vec<u32>,
    /// The last check that the stack made: good for any address, as nothing in it names one.
    last_check: Option<(Transaction, Vec<u8>)>,
    /// What the peer's answers are checked with.
    remote_password: Option<String>,
    /// What our answers are made with.
    local_password: Option<String>,
    pub(super) path: Path,
    pub(super) checks: Checks,
    pub(super) consent: Consent,
}

impl Peer {
    /// Remembers an address; returns one that is forgotten for it. Not the one where the peer is: its other addresses may
    /// come and go.
    pub(super) fn note(&mut self, from: SocketAddr, to: Option<IpAddr>) -> Option<SocketAddr> {
        self.addresses.retain(|(known, _)| *known != from);
        self.addresses.push((from, to));
        if self.addresses.len() <= MOST_ADDRESSES {
            return None;
        }
        let here = self.path.actual();
        let oldest = self.addresses.iter().position(|(address, _)| Some(*address) != here)?;
        Some(self.addresses.remove(oldest).0)
    }

    /// Remembers a stream; true if it is new.
    pub(super) fn learn_ssrc(&mut self, ssrc: u32) -> bool {
        let new = self.ssrcs.len() < MOST_SSRCS && !self.ssrcs.contains(&ssrc);
        if new {
            self.ssrcs.push(ssrc);
        }
        new
    }

    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.addresses.iter().any(|(known, _)| *known == address)
    }

    /// The address of ours that the peer wrote to from there: a multi-homed host must answer from that one.
    pub(super) fn source_for(&self, address: SocketAddr) -> Option<IpAddr> {
        self.addresses.iter().rev().find(|(known, _)| *known == address).and_then(|(_, ours)| *ours)
    }

    /// Whether a check of the stack's may go there.
    pub(super) fn may_check(
        &mut self,
        destination: SocketAddr,
        transaction: Transaction,
        check: &[u8],
        port: impl FnMut() -> bool,
        now: Instant,
    ) -> bool {
        self.last_check = Some((transaction, check.to_vec()));
        let caller = self.is_at(destination);
        let may = self.checks.may_send(destination, transaction, caller, port, now);
        if may && self.path.actual().is_none_or(|actual| actual == destination) {
            self.consent.asked(transaction);
        }
        may
    }

    /// A STUN response has come from an address of its own.
    pub(super) fn answered(&mut self, from: SocketAddr, transaction: Transaction, response: &[u8], now: Instant) {
        self.checks.answered(from, transaction);
        if self.consent.was_asked(transaction) && self.is_genuine(response) {
            self.consent.given(transaction, now);
        }
    }

    /// A check for an unknown address that media came from, if it may have one now.
    pub(super) fn probe(
        &mut self,
        destination: SocketAddr,
        port: impl FnMut() -> bool,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let (transaction, check) = self.last_check.as_ref().filter(|_| self.remote_password.is_some())?;
        self.checks.may_send(destination, *transaction, false, port, now).then(|| check.clone())
    }

    /// A STUN response has come from an unknown address; true if it is the peer's answer to a check, and it has moved.
    pub(super) fn probe_answered(
        &mut self,
        from: SocketAddr,
        transaction: Transaction,
        response: &[u8],
        now: Instant,
    ) -> bool {
        self.checks.is_pending(from, transaction) && self.is_genuine(response) && self.path.answered(from, now)
    }

    /// Whether a STUN response was made with the peer's password.
    pub(super) fn is_genuine(&self, response: &[u8]) -> bool {
        self.remote_password.as_ref().is_some_and(|password| stun::integrity_holds(response, password))
    }

    /// Whether this address is this peer's until another one proves to be there: media flows from it, or it has answered
    /// a check and media has not begun anywhere.
    pub(super) fn holds(&self, address: SocketAddr, now: Instant) -> bool {
        self.path.holds(address, now) || !self.path.is_established() && self.checks.has_answered(address)
    }

    /// The peer's side of the credentials.
    pub(super) fn set_remote_password(&mut self, password: String) {
        self.remote_password = Some(password);
    }

    /// Our side of the credentials: the last ones, which the stack answers with.
    pub(super) fn set_local_password(&mut self, password: String) {
        self.local_password = Some(password);
    }

    /// An answer of ours that tells the peer where we see it (RFC 8489 section 14.2), which is where it really is, and not
    /// what the stack knows it as. `None` if the stack has made none.
    pub(super) fn truthful(&self, response: &[u8], seen: SocketAddr) -> Option<Vec<u8>> {
        stun::with_mapped_address(response, seen, self.local_password.as_ref()?)
    }

    /// ICE is restarted.
    pub(super) fn restart(&mut self) {
        self.path.restart();
        self.checks.restart();
        self.consent.restart();
        self.last_check = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn addresses_are_bounded_and_the_present_one_stays() {
        let mut peer = Peer::default();
        assert_eq!(peer.note(address(1), None), None);
        peer.path.selected(address(1), Instant::now());
        let forgotten: Vec<_> = (2..=20).filter_map(|port| peer.note(address(port), None)).collect();
        assert_eq!(forgotten, [address(2), address(3), address(4), address(5)]);
        assert!(peer.is_at(address(1)) && peer.is_at(address(20)));
    }

    #[test]
    fn answers_leave_from_the_address_that_the_peer_wrote_to_last() {
        let mut peer = Peer::default();
        let ours = |last| Some(IpAddr::from([192, 0, 2, last]));
        peer.note(address(1), ours(1));
        peer.note(address(2), ours(2));
        peer.note(address(1), ours(3));
        assert_eq!((peer.source_for(address(1)), peer.source_for(address(2))), (ours(3), ours(2)));
        assert_eq!(peer.source_for(address(3)), None);
    }

    #[test]
    fn streams_are_bounded() {
        let mut peer = Peer::default();
        assert!(peer.learn_ssrc(7) && !peer.learn_ssrc(7));
        assert_eq!((100..1000).filter(|ssrc| peer.learn_ssrc(*ssrc)).count(), MOST_SSRCS - 1);
    }
}
