//! What one address and one connection may do on `/ws`, and how often: connections, messages, chat.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};

use super::unused::Unused;
use crate::signaling::{
    per_address::{PerAddress, network},
    places::{NoPlace, Place, Places},
};

/// Below the server's bound on TCP connections, so that HTTP is still served.
const MOST_CONNECTIONS: usize = 768;
/// For one address; people behind one NAT.
const MOST_FROM_ONE: usize = 128;

/// Messages of a connection: an offer with all its candidates comes at once.
const MESSAGES: (u32, u32) = (50, 300);
/// Messages of an address: those of several people.
const FROM_ONE: (u32, u32) = (500, 3000);
/// Offers to the server: each costs it a peer connection, as a POST does. Of a connection; a page tries again every few
/// seconds.
const OFFERS: (u32, u32) = (1, 20);
/// And of an address.
const OFFERS_OF_ONE: (u32, u32) = (20, 200);
/// Chat messages of a connection: a person types.
const CHAT: (u32, u32) = (2, 20);
/// Who goes on for so many messages beyond a limit does not listen to errors.
const MOST_STRIKES: u32 = 200;

type Keyed<C> = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;
type Single<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Addresses whose messages are counted.
const MOST_ADDRESSES: usize = 10_000;

fn quota((per_second, burst): (u32, u32)) -> Quota {
    let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(number(per_second)).allow_burst(number(burst))
}

/// The limits of one server.
pub(super) struct Limits<C: Clock = MonotonicClock> {
    connections: Places,
    /// Channels that nobody has published on yet.
    pub(super) unused: Unused,
    messages: Keyed<C>,
    offers: PerAddress<C>,
    clock: C,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(MonotonicClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    pub(super) fn new(clock: C) -> Self {
        let messages = RateLimiter::new(quota(FROM_ONE), HashMapStateStore::default(), clock.clone());
        let connections = Places::new(MOST_CONNECTIONS, MOST_FROM_ONE);
        let offers = PerAddress::new(OFFERS_OF_ONE, clock.clone());
        Self { connections, unused: Unused::default(), messages, offers, clock }
    }

    /// Counts a connection for as long as its place is held.
    pub(super) fn connect(&self, from: IpAddr) -> Result<Place, NoPlace> {
        self.connections.take(from)
    }

    /// The limits of one connection from there.
    pub(super) fn of_connection(&self) -> Pace<C> {
        let limiter = |rate| RateLimiter::direct_with_clock(quota(rate), self.clock.clone());
        Pace { messages: limiter(MESSAGES), offers: limiter(OFFERS), chat: limiter(CHAT), strikes: 0 }
    }
}

/// How fast one connection is going.
pub(super) struct Pace<C: Clock = MonotonicClock> {
    messages: Single<C>,
    offers: Single<C>,
    chat: Single<C>,
    strikes: u32,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// Refuse it and say so.
    TooOften,
    /// End the connection.
    Flood,
}

impl<C: Clock + Clone> Pace<C> {
    /// Counts a frame of any kind.
    pub(super) fn frame(&mut self, limits: &Limits<C>, from: IpAddr) -> Verdict {
        if limits.messages.len() >= MOST_ADDRESSES {
            limits.messages.retain_recent();
        }
        // Beyond that many addresses each connection's own limit has to do.
        let of_address = limits.messages.len() >= MOST_ADDRESSES || limits.messages.check_key(&network(from)).is_ok();
        if of_address && self.messages.check().is_ok() {
            self.strikes = self.strikes.saturating_sub(1);
            return Verdict::Take;
        }
        self.strikes += 1;
        if self.strikes > MOST_STRIKES { Verdict::Flood } else { Verdict::TooOften }
    }

    /// Counts an offer to the server; false if there were too many.
    pub(super) fn offer(&self, limits: &Limits<C>, from: IpAddr) -> bool {
        self.offers.check().is_ok() && limits.offers.check(from).is_ok()
    }

    /// Counts a chat message; false if there were too many.
    pub(super) fn chat(&self) -> bool {
        self.chat.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_flood_is_refused_then_cut_off_and_a_pause_forgives() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::new(clock.clone());
        let mut pace = limits.of_connection();
        let verdicts: Vec<_> = (0..1000).map(|_| pace.frame(&limits, HOME)).collect();
        let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
        assert_eq!(count(Verdict::Take), MESSAGES.1 as usize);
        assert_eq!(count(Verdict::TooOften), MOST_STRIKES as usize);
        let mut pace = limits.of_connection();
        for _ in 0..MESSAGES.1 + 10 {
            pace.frame(&limits, HOME);
        }
        clock.advance(Duration::from_secs(1));
        assert_eq!(pace.frame(&limits, HOME), Verdict::Take);
    }

    #[test]
    fn many_connections_of_one_address_share_its_limit() {
        let limits = Limits::new(FakeRelativeClock::default());
        let taken: usize = (0..100)
            .map(|_| {
                let mut pace = limits.of_connection();
                (0..100).filter(|_| pace.frame(&limits, HOME) == Verdict::Take).count()
            })
            .sum();
        assert_eq!(taken, FROM_ONE.1 as usize);
        assert_eq!(limits.of_connection().frame(&limits, [192, 0, 2, 2].into()), Verdict::Take);
    }

    #[test]
    fn offers_cost_more_than_other_messages_and_are_fewer() {
        let limits = Limits::new(FakeRelativeClock::default());
        let taken = |from: IpAddr| {
            let pace = limits.of_connection();
            (0..300).filter(|_| pace.offer(&limits, from)).count()
        };
        assert_eq!(taken(HOME), OFFERS.1 as usize);
        let more: usize = (0..100).map(|_| taken(HOME)).sum();
        assert_eq!(more + OFFERS.1 as usize, OFFERS_OF_ONE.1 as usize, "of all connections together");
        assert_eq!(taken([192, 0, 2, 2].into()), OFFERS.1 as usize, "others are not touched");
    }

    #[test]
    fn people_may_chat_and_programs_may_not() {
        let pace = Limits::new(FakeRelativeClock::default()).of_connection();
        assert_eq!((0..100).filter(|_| pace.chat()).count(), CHAT.1 as usize);
    }
}
