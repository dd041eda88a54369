//! How often one address may ask for what costs us something (RFC 9725 section 5: POST, PATCH and DELETE are limited).
//!
//! Generous for people and encoders, also many behind one NAT; short for a flood.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use axum::http::Method;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

/// Addresses that are remembered; a flood from more of them is no longer told apart.
const MOST_ADDRESSES: usize = 10_000;

/// A hundred at once, as after a restart of ours everybody comes back; then ten a second.
const POST: (u32, u32) = (10, 100);
/// A browser trickles some twenty candidates, a request each if it does not gather them up.
const PATCH: (u32, u32) = (50, 300);
/// As POST: a session that is made is deleted once.
const DELETE: (u32, u32) = (10, 100);

type Limiter<C> = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The limits of one server.
pub(crate) struct Limits<C: Clock = MonotonicClock> {
    clock: C,
    post: Limiter<C>,
    patch: Limiter<C>,
    delete: Limiter<C>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(MonotonicClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    pub(crate) fn new(clock: C) -> Self {
        let limiter = |(per_second, burst)| {
            let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::per_second(number(per_second)).allow_burst(number(burst));
            RateLimiter::new(quota, HashMapStateStore::default(), clock.clone())
        };
        Self { post: limiter(POST), patch: limiter(PATCH), delete: limiter(DELETE), clock }
    }

    /// Counts a request; an error says how long its sender has to wait.
    pub(crate) fn admit(&self, method: &Method, from: IpAddr) -> Result<(), Duration> {
        let limiter = match *method {
            Method::POST => &self.post,
            Method::PATCH => &self.patch,
            Method::DELETE => &self.delete,
            _ => return Ok(()),
        };
        if limiter.len() >= MOST_ADDRESSES {
            limiter.retain_recent();
        }
        let crowded = limiter.len() >= MOST_ADDRESSES;
        let key = if crowded { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { network(from) };
        limiter.check_key(&key).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// What one customer has: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn admitted(limits: &Limits<FakeRelativeClock>, method: &Method, from: IpAddr, tries: usize) -> usize {
        (0..tries).filter(|_| limits.admit(method, from).is_ok()).count()
    }

    #[test]
    fn a_flood_is_cut_to_the_burst_and_told_when_to_come_back() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::new(clock.clone());
        assert_eq!(admitted(&limits, &Method::POST, HOME, 1000), 100);
        let wait = limits.admit(&Method::POST, HOME).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(&limits, &Method::POST, HOME, 1000), 10);
    }

    #[test]
    fn others_and_other_methods_are_not_touched() {
        let limits = Limits::new(FakeRelativeClock::default());
        admitted(&limits, &Method::POST, HOME, 1000);
        assert_eq!(admitted(&limits, &Method::POST, IpAddr::from([192, 0, 2, 2]), 1), 1);
        assert_eq!(admitted(&limits, &Method::PATCH, HOME, 1000), 300);
        assert_eq!(admitted(&limits, &Method::DELETE, HOME, 1000), 100);
        assert_eq!(admitted(&limits, &Method::GET, HOME, 1000), 1000);
    }

    #[test]
    fn a_v6_network_counts_as_one_and_a_mapped_address_as_its_v4() {
        let limits = Limits::new(FakeRelativeClock::default());
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, last]);
        let all: usize = (0..1000).map(|last| admitted(&limits, &Method::POST, host(last), 1)).sum();
        assert_eq!(all, 100);
        admitted(&limits, &Method::POST, HOME, 1000);
        assert_eq!(admitted(&limits, &Method::POST, "::ffff:192.0.2.1".parse().unwrap(), 1), 0);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let limits = Limits::new(FakeRelativeClock::default());
        for number in 0..20_000_u32 {
            let _ = limits.admit(&Method::POST, IpAddr::from(number.to_be_bytes()));
        }
        assert!(limits.post.len() <= MOST_ADDRESSES + 1);
    }
}
