//! Bounds how many streams a peer may begin, and as how many it may report: the stack keeps state for each SSRC, of RTP and
//! of RTCP, even before it can tell a forged one. Pure, time is an argument.
//!
//! Streams that the peer's description announces are always let in, and so is what has proven to be the peer's. What is
//! left is places for streams that may be anybody's: whoever forges the peer's address can take all of them. So one that
//! was not the peer's after a moment makes room for another, not often, as the stack does not forget it; a stream of the
//! peer's own, which comes again and again, gets its place that way. Where all places are its own, one that it does not use any more
//! makes room: senders that begin anew every few minutes would be cut off after a day.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// Some layers with their retransmissions, on some tracks, and many a restart of the sender in one session.
const MOST_SSRCS: usize = 128;
/// As many sections as are taken, each with as many SSRCs as are read of it.
const MOST_ANNOUNCED: usize = 128;
/// Keys are agreed upon by then, or the peer sends again: browsers send media once they have them.
const UNPROVEN: Duration = Duration::from_secs(2);
/// A stream of the peer's that has been silent for so long is over.
const OVER: Duration = Duration::from_secs(60);
/// Between streams that make room: a forger gets the stack to keep some 60 bytes a second.
const PAUSE: Duration = Duration::from_secs(5);
/// Streams that have made room in all, since the last restart: a megabyte of the stack's.
const MOST_FORGOTTEN: u32 = 2048;

/// The SSRCs of one session.
#[derive(Debug, Default)]
pub(super) struct Ssrcs {
    announced: HashSet<u32>,
    streams: Places,
    /// As whom the peer reports (RTCP): one that only receives has SSRCs for that which nothing announces.
    reporters: Places,
}

/// SSRCs of one kind.
#[derive(Debug, Default)]
struct Places {
    /// When they were heard.
    proven: HashMap<u32, Instant>,
    /// Since when they are there.
    unproven: HashMap<u32, Instant>,
    last_forgotten: Option<Instant>,
    forgotten: u32,
    /// Of the peer's own that have made room: nobody proves them again.
    over: HashSet<u32>,
}

/// What a datagram is of.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// RTP of this SSRC.
    Stream(u32),
    /// RTCP of this SSRC.
    Reporter(u32),
    /// Neither.
    Other,
}

impl Ssrcs {
    /// The peer's description names these.
    pub(super) fn announce(&mut self, ssrcs: impl IntoIterator<Item = u32>) {
        for ssrc in ssrcs {
            if self.announced.len() < MOST_ANNOUNCED {
                self.announced.insert(ssrc);
            }
        }
    }

    /// Whether a datagram may go on: anything but RTP or RTCP of one SSRC too many.
    pub(super) fn admit(&mut self, datagram: &[u8], now: Instant) -> bool {
        match Origin::of(datagram) {
            Origin::Stream(ssrc) => self.announced.contains(&ssrc) || self.streams.admit(ssrc, now),
            Origin::Reporter(ssrc) => {
                let is_stream = self.announced.contains(&ssrc) || self.streams.proven.contains_key(&ssrc);
                is_stream || self.reporters.admit(ssrc, now)
            }
            Origin::Other => true,
        }
    }

    /// A packet of this stream was made with the session's keys.
    pub(super) fn proven(&mut self, ssrc: u32) {
        self.streams.prove(ssrc);
    }

    /// So was a report of this one.
    pub(super) fn reported(&mut self, ssrc: u32) {
        self.reporters.prove(ssrc);
    }

    /// The peer has restarted ICE, and may send from elsewhere: what was not its own is forgotten.
    pub(super) fn restart(&mut self) {
        self.streams.restart();
        self.reporters.restart();
    }
}

impl Places {
    fn admit(&mut self, ssrc: u32, now: Instant) -> bool {
        if let Some(heard) = self.proven.get_mut(&ssrc) {
            *heard = now;
            return true;
        }
        if self.unproven.contains_key(&ssrc) {
            return true;
        }
        let admits = self.proven.len() + self.unproven.len() < MOST_SSRCS || self.make_room(now);
        if admits {
            let places = if self.over.remove(&ssrc) { &mut self.proven } else { &mut self.unproven };
            places.insert(ssrc, now);
        }
        admits
    }

    fn prove(&mut self, ssrc: u32) {
        if let Some(since) = self.unproven.remove(&ssrc) {
            self.proven.insert(ssrc, since);
        }
    }

    fn restart(&mut self) {
        self.unproven.clear();
        self.over.clear();
        (self.last_forgotten, self.forgotten) = (None, 0);
    }

    /// Forgets the oldest that has not been proven, or else the one that has been silent for the longest, if it may be.
    fn make_room(&mut self, now: Instant) -> bool {
        let rests = self.last_forgotten.is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        if rests || self.forgotten >= MOST_FORGOTTEN {
            return false;
        }
        let forgets = |places: &mut HashMap<u32, Instant>, after: Duration| {
            let oldest = places.iter().min_by_key(|(_, at)| **at);
            let over = oldest.filter(|(_, at)| now.saturating_duration_since(**at) >= after).map(|(ssrc, _)| *ssrc);
            over.filter(|ssrc| places.remove(ssrc).is_some())
        };
        let over = match forgets(&mut self.unproven, UNPROVEN) {
            None => forgets(&mut self.proven, OVER).inspect(|ssrc| _ = self.over.insert(*ssrc)),
            unproven => unproven,
        };
        let has_room = over.is_some();
        if has_room {
            (self.last_forgotten, self.forgotten) = (Some(now), self.forgotten + 1);
        }
        has_room
    }
}

impl Origin {
    /// RTP is told from RTCP by its type (RFC 5761 section 4) and from all else by its first byte (RFC 7983 section 7).
    fn of(datagram: &[u8]) -> Self {
        match datagram {
            [128..=191, kind, _, _, a, b, c, d, ..] if matches!(kind & 0x7F, 64..=95) => {
                Self::Reporter(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            [128..=191, _, _, _, _, _, _, _, a, b, c, d, ..] => Self::Stream(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, ssrc: u32) -> Vec<u8> {
        [&[0x80, kind, 0, 1, 0, 0, 0, 2][..], &ssrc.to_be_bytes()].concat()
    }

    /// As many forged streams as there is room for.
    fn flooded(ssrcs: &mut Ssrcs, now: Instant) {
        assert!((0..1000).filter(|ssrc| ssrcs.admit(&packet(96, *ssrc), now)).count() <= MOST_SSRCS);
        assert!(!ssrcs.admit(&packet(96, 5000), now));
    }

    #[test]
    fn streams_that_were_there_go_on_and_too_many_new_ones_do_not() {
        let (mut ssrcs, now) = (Ssrcs::default(), Instant::now());
        assert!((0..MOST_SSRCS as u32).all(|ssrc| ssrcs.admit(&packet(96, ssrc), now)));
        assert!((5000..9000).all(|ssrc| !ssrcs.admit(&packet(0x80 | 111, ssrc), now)));
        assert!((0..MOST_SSRCS as u32).all(|ssrc| ssrcs.admit(&packet(0x80 | 102, ssrc), now)));
        assert_eq!(ssrcs.streams.unproven.len(), MOST_SSRCS);
    }

    #[test]
    fn a_peer_that_begins_a_stream_every_minute_is_not_cut_off_and_those_that_it_uses_stay() {
        let (mut ssrcs, mut now) = (Ssrcs::default(), Instant::now());
        let audio = 1_000_000;
        for ssrc in 0..1000 {
            now += Duration::from_secs(60);
            // Each is proven once, by the first that looks at it.
            for own in [audio, ssrc] {
                assert!(ssrcs.admit(&packet(96, own), now), "{ssrc}");
                if own == ssrc || ssrc == 0 {
                    ssrcs.proven(own);
                }
            }
        }
        assert!(ssrcs.admit(&packet(96, 7), now + PAUSE) && ssrcs.streams.proven.contains_key(&7), "one that is back");
        now += 2 * PAUSE;
        assert!(ssrcs.streams.proven.contains_key(&audio) && ssrcs.streams.proven.len() <= MOST_SSRCS);
        // Not for somebody who begins many at once.
        let at_once = (5000..9000).filter(|ssrc| ssrcs.admit(&packet(96, *ssrc), now)).count();
        assert!(at_once <= 1, "{at_once}");
    }

    #[test]
    fn stun_dtls_and_fragments_pass() {
        let (mut ssrcs, now) = (Ssrcs::default(), Instant::now());
        assert!([&[][..], &[0x80, 96], &[22; 100], &[0; 20]].into_iter().all(|other| ssrcs.admit(other, now)));
        assert_eq!(ssrcs.streams.unproven.len(), 0);
    }

    /// RTCP of this kind by this one.
    fn report(kind: u8, ssrc: u32) -> Vec<u8> {
        [&[0x81, kind, 0, 7][..], &ssrc.to_be_bytes(), &[0; 24]].concat()
    }

    #[test]
    fn reports_come_from_the_peers_streams_and_from_some_others() {
        let (mut ssrcs, now) = (Ssrcs::default(), Instant::now());
        ssrcs.announce([7000]);
        assert!(ssrcs.admit(&packet(96, 8000), now));
        ssrcs.proven(8000);
        assert!(ssrcs.admit(&report(201, 1), now));
        ssrcs.reported(1);
        let kind = |ssrc: u32| 200 + (ssrc % 8) as u8;
        let admitted = (10_000..20_000).filter(|ssrc| ssrcs.admit(&report(kind(*ssrc), *ssrc), now)).count();
        assert_eq!(admitted, MOST_SSRCS - 1, "each of them costs the stack something");
        for known in [7000, 8000, 1] {
            assert!(ssrcs.admit(&report(200, known), now), "{known}");
        }
        assert!(ssrcs.admit(&packet(96, 9000), now), "streams are counted apart");
    }

    #[test]
    fn announced_streams_are_let_in_whatever_was_forged_before() {
        let (mut ssrcs, now) = (Ssrcs::default(), Instant::now());
        ssrcs.announce([7000, 7001]);
        flooded(&mut ssrcs, now);
        assert!(ssrcs.admit(&packet(96, 7000), now) && ssrcs.admit(&packet(96, 7001), now));
        ssrcs.announce(10_000..20_000);
        assert!(ssrcs.announced.len() <= MOST_ANNOUNCED);
    }

    #[test]
    fn what_was_not_the_peers_makes_room_after_a_moment_and_not_often() {
        let (mut ssrcs, start) = (Ssrcs::default(), Instant::now());
        let second = Duration::from_secs(1);
        flooded(&mut ssrcs, start);
        assert!(!ssrcs.admit(&packet(96, 7000), start + UNPROVEN - second / 10));
        assert!(ssrcs.admit(&packet(96, 7000), start + UNPROVEN));
        assert!(ssrcs.admit(&packet(96, 7000), start + UNPROVEN), "it is there now");
        assert!(!ssrcs.admit(&packet(96, 7001), start + UNPROVEN + PAUSE - second / 10));
        assert!(ssrcs.admit(&packet(96, 7001), start + UNPROVEN + PAUSE));
        let hours = (0..100_000).map(|n| start + UNPROVEN + PAUSE + second * n);
        let more = hours.zip(10_000..).filter(|(now, ssrc)| ssrcs.admit(&packet(96, *ssrc), *now)).count();
        assert_eq!(more as u32 + 2, MOST_FORGOTTEN, "all that the stack has to keep");
    }

    #[test]
    fn what_has_proven_to_be_the_peers_stays() {
        let (mut ssrcs, start) = (Ssrcs::default(), Instant::now());
        assert!((0..100).all(|ssrc| ssrcs.admit(&packet(96, ssrc), start)));
        (0..100).for_each(|ssrc| ssrcs.proven(ssrc));
        for n in 0..1000 {
            ssrcs.admit(&packet(96, 1000 + n), start + PAUSE * n);
        }
        assert_eq!((ssrcs.streams.proven.len(), ssrcs.streams.unproven.len()), (100, MOST_SSRCS - 100));
        assert!((0..100).all(|ssrc| ssrcs.admit(&packet(96, ssrc), start + PAUSE * 1000)));
        ssrcs.proven(4_000_000);
        assert_eq!(ssrcs.streams.proven.len(), 100, "one that was never let in");
    }

    #[test]
    fn a_restart_makes_room_for_all_that_was_not_the_peers() {
        let (mut ssrcs, now) = (Ssrcs::default(), Instant::now());
        ssrcs.admit(&packet(96, 1), now);
        ssrcs.proven(1);
        flooded(&mut ssrcs, now);
        ssrcs.restart();
        assert!((7000..7000 + MOST_SSRCS as u32 - 1).all(|ssrc| ssrcs.admit(&packet(96, ssrc), now)));
        assert!(ssrcs.admit(&packet(96, 1), now));
    }
}
