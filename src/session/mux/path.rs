//! Where a session's peer is, when its address changes under it: pure policy, time is an argument.
//!
//! A NAT that forgets, or a phone that changes its network, makes a peer go on from another address. The stack below
//! never moves: a controlled agent keeps the pair that was nominated first. So the move is hidden from it: what comes
//! from the peer's new address is shown as coming from the one that the stack sends to, and what it sends there goes to
//! the new one.
//!
//! What moves the peer is a connectivity check of its own whose integrity holds, and that nominates or comes when the
//! present address has been silent; or its answer to a check of ours, where media of the session has come from. The first
//! may take seconds (browsers check every 2.5 s) or never come (libnice does not check again); so the second is asked for
//! as soon as there is such media. Whoever sees a check of the peer on the way can send it again from elsewhere, and gets
//! what we send (feedback, no media) until the peer's next check, which moves it back; answers cannot be used again.
//!
//! Media of unknown addresses is let through by its SSRC, but moves nothing: SRTP tells whether it is the peer's. Nor can
//! it keep the peer's own out, as the present address stays where it is and strangers get [`STRANGERS_PER_SECOND`] at
//! most; nor keep a dead session alive, as they are heard for [`STRANGERS_FOR`] only.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::bucket::Bucket;

/// A check that does not nominate moves the peer only if its address was silent for so long: audio comes every 20 ms.
const SILENT: Duration = Duration::from_millis(300);
/// How long after its present address was last heard a peer's media is taken from an unknown one; our checks of it have
/// been answered by then, or nobody is there.
const STRANGERS_FOR: Duration = Duration::from_secs(5);
/// How long an address stays a silent peer's: another one may have got it from a NAT then.
pub(super) const HOLDS: Duration = Duration::from_secs(5);
/// How long one unknown address keeps others from being checked.
const PROBE: Duration = Duration::from_millis(500);
/// Packets from unknown addresses: 20 Mbit/s.
const STRANGERS_PER_SECOND: u32 = 2000;

/// The peer's address, as the stack knows it and as it is.
#[derive(Debug)]
pub(super) struct Path {
    selected: Option<Selected>,
    strangers: Bucket,
    /// The unknown address that is checked, and since when.
    probed: Option<(SocketAddr, Instant)>,
}

#[derive(Debug)]
struct Selected {
    /// Where the stack sends media to.
    shown: SocketAddr,
    /// Where that is.
    actual: SocketAddr,
    /// When the peer was last heard from there.
    heard: Instant,
    /// Media has come: the handshake is over, and with it the time when several pairs are tried.
    established: bool,
}

impl Default for Path {
    fn default() -> Self {
        Self { selected: None, probed: None, strangers: Bucket::new(STRANGERS_PER_SECOND / 4, STRANGERS_PER_SECOND) }
    }
}

impl Path {
    /// The stack sends something other than STUN there: this is the pair that it has selected.
    pub(super) fn selected(&mut self, destination: SocketAddr, now: Instant) {
        if self.selected.as_ref().is_none_or(|selected| selected.shown != destination) {
            let established = false;
            self.selected = Some(Selected { shown: destination, actual: destination, heard: now, established });
        }
    }

    /// ICE is restarted: a pair will be selected anew, and until then nothing is hidden.
    pub(super) fn restart(&mut self) {
        (self.selected, self.probed) = (None, None);
    }

    /// Where a datagram for this address really goes.
    pub(super) fn outward(&self, destination: SocketAddr) -> SocketAddr {
        self.selected.as_ref().filter(|selected| selected.shown == destination).map_or(destination, |s| s.actual)
    }

    /// What address a datagram from a known address is shown as coming from. `media`: it is RTP or RTCP.
    pub(super) fn inward(&mut self, from: SocketAddr, media: bool, now: Instant) -> SocketAddr {
        let Some(selected) = &mut self.selected else { return from };
        selected.established |= media;
        if selected.actual != from {
            return from;
        }
        selected.heard = now;
        selected.shown
    }

    /// Whether a check from this address could move the peer, so that its integrity is worth looking at.
    pub(super) fn may_move_to(&self, from: SocketAddr) -> bool {
        self.selected.as_ref().is_some_and(|selected| selected.established && selected.actual != from)
    }

    /// A check whose integrity holds has come; true if the peer has moved to its address.
    pub(super) fn checked(&mut self, from: SocketAddr, nominates: bool, now: Instant) -> bool {
        let Some(selected) = &mut self.selected else { return false };
        let silent = now.saturating_duration_since(selected.heard) >= SILENT;
        let moves = selected.established && selected.actual != from && (nominates || silent);
        if moves {
            (selected.actual, selected.heard) = (from, now);
        }
        moves
    }

    /// The peer has answered a check of ours from there, and the answer's integrity holds; true if it has moved there.
    pub(super) fn answered(&mut self, from: SocketAddr, now: Instant) -> bool {
        let Some(selected) = self.selected.as_mut().filter(|_| self.probed.is_some_and(|(probed, _)| probed == from))
        else {
            return false;
        };
        (selected.actual, selected.heard) = (from, now);
        self.probed = None;
        true
    }

    /// Media with an SSRC of this session has come from an unknown address: what to show it as, if it is let through, and
    /// whether that address is the one to be checked.
    pub(super) fn stranger(&mut self, from: SocketAddr, now: Instant) -> Option<(SocketAddr, bool)> {
        let selected = self.selected.as_ref().filter(|selected| selected.established)?;
        let recent = now.saturating_duration_since(selected.heard) < STRANGERS_FOR;
        if !recent || !self.strangers.take(now) {
            return None;
        }
        if self.probed.is_none_or(|(_, since)| now.saturating_duration_since(since) >= PROBE) {
            self.probed = Some((from, now));
        }
        Some((selected.shown, self.probed.is_some_and(|(probed, _)| probed == from)))
    }

    /// Whether media flows from this address, or did just now: then it is the peer's, as the stack sends to no pair that
    /// it has not checked.
    pub(super) fn holds(&self, address: SocketAddr, now: Instant) -> bool {
        self.selected.as_ref().is_some_and(|selected| {
            let recent = now.saturating_duration_since(selected.heard) < HOLDS;
            selected.established && selected.actual == address && recent
        })
    }

    /// When anything has come from the peer's address. Who forges that can make this newer, as it needs no key.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.selected.as_ref().map(|selected| selected.heard)
    }

    /// Whether media has come from the pair that is selected.
    pub(super) fn is_established(&self) -> bool {
        self.selected.as_ref().is_some_and(|selected| selected.established)
    }

    /// Where the peer is, if a pair is selected.
    pub(super) fn actual(&self) -> Option<SocketAddr> {
        self.selected.as_ref().map(|selected| selected.actual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A session that media flows in from port 1.
    fn established() -> (Path, Instant) {
        let (mut path, start) = (Path::default(), Instant::now());
        path.selected(address(1), start);
        assert_eq!(path.inward(address(1), true, start), address(1));
        (path, start)
    }

    #[test]
    fn a_nomination_from_a_new_address_moves_the_peer_and_hides_it() {
        let (mut path, start) = established();
        assert!(path.checked(address(2), true, start + ms(1)));
        assert_eq!(path.inward(address(2), true, start + ms(2)), address(1));
        assert_eq!(path.outward(address(1)), address(2));
        assert_eq!(path.outward(address(3)), address(3));
        assert!(path.checked(address(3), true, start + ms(3)), "and again");
        assert_eq!((path.outward(address(1)), path.inward(address(3), true, start)), (address(3), address(1)));
    }

    #[test]
    fn another_check_moves_it_only_when_the_present_address_is_silent() {
        let (mut path, start) = established();
        path.inward(address(1), true, start + ms(100));
        assert!(!path.checked(address(2), false, start + ms(399)));
        assert!(path.checked(address(2), false, start + ms(400)));
    }

    #[test]
    fn the_peer_gets_its_place_back_from_whoever_replays_its_checks() {
        let (mut path, start) = established();
        assert!(path.checked(address(66), true, start));
        assert_eq!(path.inward(address(1), true, start + ms(1)), address(1), "its media still comes");
        assert!(path.checked(address(1), true, start + ms(2)));
        assert_eq!(path.outward(address(1)), address(1));
    }

    #[test]
    fn nothing_moves_before_media_flows() {
        let (mut path, start) = (Path::default(), Instant::now());
        assert!(!path.checked(address(2), true, start), "nothing selected");
        path.selected(address(1), start);
        assert!(!path.checked(address(2), true, start + ms(1000)), "handshake under way");
        assert!(path.stranger(address(2), start).is_none());
    }

    #[test]
    fn a_restart_hides_nothing_until_a_pair_is_selected_anew() {
        let (mut path, start) = established();
        assert!(path.checked(address(2), true, start));
        path.restart();
        assert_eq!((path.inward(address(2), true, start), path.outward(address(1))), (address(2), address(1)));
        path.selected(address(2), start);
        assert_eq!((path.inward(address(2), true, start), path.outward(address(2))), (address(2), address(2)));
    }

    #[test]
    fn media_of_unknown_addresses_is_let_through_for_a_while_and_in_moderation() {
        let (mut path, start) = established();
        assert_eq!(path.stranger(address(2), start + ms(10)), Some((address(1), true)));
        assert_eq!(path.outward(address(1)), address(1), "it moves nothing");
        let flood = (0..100_000).filter(|_| path.stranger(address(2), start + ms(20)).is_some()).count();
        assert!(flood <= 500, "{flood} at once");
        assert!(path.stranger(address(2), start + ms(4999)).is_some());
        assert!(path.stranger(address(2), start + ms(5000)).is_none(), "the peer is gone");
    }

    #[test]
    fn an_answer_moves_the_peer_to_where_its_media_came_from() {
        let (mut path, start) = established();
        assert!(!path.answered(address(2), start), "nothing was asked");
        path.stranger(address(2), start);
        assert!(!path.answered(address(3), start));
        assert!(path.answered(address(2), start + ms(1)));
        assert_eq!((path.outward(address(1)), path.inward(address(2), true, start)), (address(2), address(1)));
        assert!(!path.answered(address(2), start + ms(2)), "once");
    }

    #[test]
    fn unknown_addresses_are_checked_one_after_the_other() {
        let (mut path, start) = established();
        let probed = |path: &mut Path, port, at| path.stranger(address(port), start + ms(at)).is_some_and(|(_, p)| p);
        assert!(probed(&mut path, 2, 0) && probed(&mut path, 2, 499));
        assert!(!probed(&mut path, 3, 499));
        assert!(probed(&mut path, 3, 500) && !probed(&mut path, 2, 501));
    }
}
