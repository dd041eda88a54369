//! Channels of one allocation (RFC 8656 section 12): a peer that much goes to gets a number, and four bytes in front of each
//! datagram instead of 36. Pure; `now` is an argument.
//!
//! A number is bound to one address and stays so for a while after it was last renewed, in which it must not be given to
//! another: so a peer keeps its number here until that time is over, and is forgotten only then.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Those that a client may choose (RFC 8656 section 12).
const FIRST: u16 = 0x4000;
const LAST: u16 = 0x4FFF;
/// Connectivity checks alone are not worth a binding: one takes as many bytes as seven datagrams save.
const WORTH_IT: u32 = 16;
/// A binding lasts 600 s (RFC 8656 section 12); this leaves three minutes to renew it in.
const RENEW: Duration = Duration::from_secs(420);
/// Not used any more before it would have to be renewed.
const LASTS: Duration = Duration::from_secs(580);
/// When a number may be bound to another address: five minutes after the binding has expired (RFC 8656 section 12).
const FORGOTTEN: Duration = Duration::from_secs(910);
/// A request without an answer is made again.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Who was not written to for so long needs no renewal.
const IDLE: Duration = Duration::from_secs(60);
/// Peers at a time; others get indications.
const MOST: usize = 1024;

/// Which peers have a number.
#[derive(Debug, Default)]
pub(super) struct Channels {
    peers: HashMap<SocketAddr, Channel>,
    by_number: HashMap<u16, SocketAddr>,
    next: u16,
}

#[derive(Debug)]
struct Channel {
    /// Once it was asked for.
    number: Option<u16>,
    sent: u32,
    used: Instant,
    bound: Option<Instant>,
    asked: Option<Instant>,
    refused: bool,
}

impl Channels {
    /// A datagram goes to this peer: by which channel, if it has one.
    pub(super) fn used(&mut self, to: SocketAddr, now: Instant) -> Option<u16> {
        if !self.peers.contains_key(&to) && self.peers.len() >= MOST {
            return None;
        }
        let new = || Channel { number: None, sent: 0, used: now, bound: None, asked: None, refused: false };
        let channel = self.peers.entry(to).or_insert_with(new);
        channel.sent = channel.sent.saturating_add(1);
        channel.used = now;
        let lasts = channel.bound.is_some_and(|bound| now.saturating_duration_since(bound) < LASTS);
        channel.number.filter(|_| lasts)
    }

    /// Those that the server is to be asked for now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(u16, SocketAddr)> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let by_number = &mut self.by_number;
        self.peers.retain(|_, channel| {
            // What was asked for may have been bound although nobody said so.
            let last = [Some(channel.used), channel.bound, channel.asked].into_iter().flatten().max();
            let keeps = last.is_some_and(|last| since(last) < if channel.number.is_some() { FORGOTTEN } else { IDLE });
            if !keeps && let Some(number) = channel.number {
                by_number.remove(&number);
            }
            keeps
        });
        let mut due = Vec::new();
        for (peer, channel) in &mut self.peers {
            let wants = !channel.refused && channel.sent >= WORTH_IT && since(channel.used) < IDLE;
            let renews = channel.bound.is_none_or(|bound| since(bound) >= RENEW);
            if !wants || !renews || channel.asked.is_some_and(|asked| since(asked) < ASK_AGAIN) {
                continue;
            }
            let number = channel.number.unwrap_or_else(|| free(by_number, &mut self.next));
            by_number.insert(number, *peer);
            (channel.number, channel.asked) = (Some(number), Some(now));
            due.push((number, *peer));
        }
        due
    }

    /// The server has bound it.
    pub(super) fn bound(&mut self, number: u16, now: Instant) {
        if let Some(channel) = self.channel(number) {
            (channel.bound, channel.asked) = (Some(now), None);
        }
    }

    /// The server does not bind it: indications go on.
    pub(super) fn refused(&mut self, number: u16) {
        if let Some(channel) = self.channel(number) {
            channel.refused = true;
        }
    }

    /// Whose datagrams come by this number.
    pub(super) fn peer(&self, number: u16) -> Option<SocketAddr> {
        self.by_number.get(&number).copied()
    }

    fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.peers.get_mut(self.by_number.get(&number)?)
    }
}

/// A number that nobody has; there are four times as many as peers.
fn free(taken: &HashMap<u16, SocketAddr>, next: &mut u16) -> u16 {
    loop {
        let number = FIRST + *next % (LAST - FIRST + 1);
        *next = next.wrapping_add(1);
        if !taken.contains_key(&number) {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn much(channels: &mut Channels, to: SocketAddr, now: Instant) -> Option<u16> {
        (0..WORTH_IT).map(|_| channels.used(to, now)).last().flatten()
    }

    #[test]
    fn a_peer_that_much_goes_to_gets_a_number_and_one_that_is_only_checked_does_not() {
        let (mut channels, start) = (Channels::default(), Instant::now());
        assert_eq!(much(&mut channels, peer(1), start), None);
        assert_eq!(channels.used(peer(2), start), None);
        assert_eq!(channels.due(start), [(FIRST, peer(1))]);
        assert_eq!(channels.used(peer(1), start), None, "the server has said nothing yet");
        assert!(channels.due(start + Duration::from_secs(2)).is_empty());
        assert_eq!(channels.due(start + ASK_AGAIN), [(FIRST, peer(1))], "nothing was heard of it");
        channels.bound(FIRST, start + ASK_AGAIN);
        assert_eq!(channels.used(peer(1), start + ASK_AGAIN), Some(FIRST));
        assert_eq!((channels.peer(FIRST), channels.peer(FIRST + 1)), (Some(peer(1)), None));
    }

    #[test]
    fn a_binding_is_renewed_while_it_is_used_and_left_before_it_expires() {
        let (mut channels, start) = (Channels::default(), Instant::now());
        much(&mut channels, peer(1), start);
        channels.due(start);
        channels.bound(FIRST, start);
        let later = start + RENEW;
        assert_eq!(channels.used(peer(1), later), Some(FIRST));
        assert_eq!(channels.due(later), [(FIRST, peer(1))]);
        assert!(channels.due(later + IDLE).is_empty(), "nobody writes to it");
        assert_eq!(channels.used(peer(1), start + LASTS), None, "nobody has renewed it");
    }

    #[test]
    fn a_number_is_not_given_to_another_before_its_time_is_over() {
        let (mut channels, start) = (Channels::default(), Instant::now());
        much(&mut channels, peer(1), start);
        channels.due(start);
        channels.bound(FIRST, start);
        channels.next = 0; // as when all others have been given
        let later = start + FORGOTTEN - Duration::from_secs(1);
        much(&mut channels, peer(2), later);
        assert_eq!(channels.due(later), [(FIRST + 1, peer(2))]);
        assert_eq!(channels.peer(FIRST), Some(peer(1)), "what is still on its way is the old one's");
        channels.due(start + FORGOTTEN);
        assert_eq!(channels.peer(FIRST), None);
    }

    #[test]
    fn a_server_that_binds_none_is_not_asked_again_and_peers_are_bounded() {
        let (mut channels, start) = (Channels::default(), Instant::now());
        much(&mut channels, peer(1), start);
        channels.due(start);
        channels.refused(FIRST);
        assert!(channels.due(start + ASK_AGAIN * 2).is_empty());
        for port in 2..5000 {
            much(&mut channels, peer(port), start);
        }
        assert_eq!((channels.peers.len(), channels.due(start).len()), (MOST, MOST - 1));
        let numbers: std::collections::HashSet<_> = channels.by_number.keys().collect();
        assert!(numbers.len() == MOST && numbers.iter().all(|number| (FIRST..=LAST).contains(*number)));
    }
}
