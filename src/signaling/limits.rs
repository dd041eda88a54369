//! How often one address may ask for what costs us something (RFC 9725 section 5: POST, PATCH and DELETE are limited; GET
//! where somebody may have to be asked who may).
//!
//! Generous for people and encoders, also many behind one NAT; short for a flood.

use std::{net::IpAddr, time::Duration};

use axum::http::Method;
use governor::clock::{Clock, MonotonicClock};

use super::per_address::PerAddress;

/// A hundred at once, as after a restart of ours everybody comes back; then ten a second.
const POST: (u32, u32) = (10, 100);
/// A browser trickles some twenty candidates, a request each if it does not gather them up.
const PATCH: (u32, u32) = (50, 300);
/// As POST: a session that is made is deleted once.
const DELETE: (u32, u32) = (10, 100);

/// Graphs that are looked at and lists that are watched take a few a second each.
const GET: (u32, u32) = (50, 500);

/// The limits of one server.
pub(crate) struct Limits<C: Clock = MonotonicClock> {
    post: PerAddress<C>,
    patch: PerAddress<C>,
    delete: PerAddress<C>,
    get: PerAddress<C>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&MonotonicClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    pub(crate) fn new(clock: &C) -> Self {
        let limiter = |rate| PerAddress::new(rate, clock.clone());
        Self { post: limiter(POST), patch: limiter(PATCH), delete: limiter(DELETE), get: limiter(GET) }
    }

    /// Counts a request; an error says how long its sender has to wait.
    pub(crate) fn admit(&self, method: &Method, from: IpAddr) -> Result<(), Duration> {
        match *method {
            Method::POST => self.post.check(from),
            Method::PATCH => self.patch.check(from),
            Method::DELETE => self.delete.check(from),
            Method::GET | Method::HEAD => self.get.check(from),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::signaling::per_address::MOST_ADDRESSES;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn admitted(limits: &Limits<FakeRelativeClock>, method: &Method, from: IpAddr, tries: usize) -> usize {
        (0..tries).filter(|_| limits.admit(method, from).is_ok()).count()
    }

    #[test]
    fn a_flood_is_cut_to_the_burst_and_told_when_to_come_back() {
        let clock = FakeRelativeClock::default();
        let limits = Limits::new(&clock);
        assert_eq!(admitted(&limits, &Method::POST, HOME, 1000), 100);
        let wait = limits.admit(&Method::POST, HOME).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
        clock.advance(Duration::from_secs(1));
        assert_eq!(admitted(&limits, &Method::POST, HOME, 1000), 10);
    }

    #[test]
    fn others_and_other_methods_are_not_touched() {
        let limits = Limits::new(&FakeRelativeClock::default());
        admitted(&limits, &Method::POST, HOME, 1000);
        assert_eq!(admitted(&limits, &Method::POST, IpAddr::from([192, 0, 2, 2]), 1), 1);
        assert_eq!(admitted(&limits, &Method::PATCH, HOME, 1000), 300);
        assert_eq!(admitted(&limits, &Method::DELETE, HOME, 1000), 100);
        assert_eq!(admitted(&limits, &Method::GET, HOME, 1000), 500);
        assert_eq!(admitted(&limits, &Method::HEAD, HOME, 1), 0, "as GET");
        assert_eq!(admitted(&limits, &Method::OPTIONS, HOME, 1000), 1000);
    }

    #[test]
    fn a_v6_network_counts_as_one_and_a_mapped_address_as_its_v4() {
        let limits = Limits::new(&FakeRelativeClock::default());
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, last]);
        let all: usize = (0..1000).map(|last| admitted(&limits, &Method::POST, host(last), 1)).sum();
        assert_eq!(all, 100);
        admitted(&limits, &Method::POST, HOME, 1000);
        assert_eq!(admitted(&limits, &Method::POST, "::ffff:192.0.2.1".parse().unwrap(), 1), 0);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let limits = Limits::new(&FakeRelativeClock::default());
        for number in 0..(MOST_ADDRESSES as u32 + 100) {
            let _ = limits.admit(&Method::POST, IpAddr::from(number.to_be_bytes()));
        }
        assert!(limits.post.len() <= MOST_ADDRESSES + 1);
    }
}
