//! A rate for each address that asks, in bounded memory.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

/// Addresses that are remembered; a flood from more of them is no longer told apart. Unit tests fill it, which takes
/// a minute in a debug build.
pub(crate) const MOST_ADDRESSES: usize = if cfg!(test) { 500 } else { 10_000 };

type Limiter<C> = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// One limit, counted for each address by itself.
pub(crate) struct PerAddress<C: Clock = MonotonicClock> {
    clock: C,
    limiter: Limiter<C>,
}

impl<C: Clock + Clone> PerAddress<C> {
    /// So many a second, and so many at once.
    pub(crate) fn new((per_second, burst): (u32, u32), clock: C) -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(number(per_second)).allow_burst(number(burst));
        Self { limiter: RateLimiter::new(quota, HashMapStateStore::default(), clock.clone()), clock }
    }

    /// Counts one; an error says how long its sender has to wait.
    pub(crate) fn check(&self, from: IpAddr) -> Result<(), Duration> {
        if self.limiter.len() >= MOST_ADDRESSES {
            self.limiter.retain_recent();
        }
        let crowded = self.limiter.len() >= MOST_ADDRESSES;
        let key = if crowded { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { network(from) };
        self.limiter.check_key(&key).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.limiter.len()
    }
}

/// What one customer has: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}
