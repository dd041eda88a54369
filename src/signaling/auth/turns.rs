//! Turns at something that takes only so many at a time: so many in all, of them so many for one network. Who has to wait waits
//! behind those of his own network first, so that a flood from one leaves turns for others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The turns that there are.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    each: usize,
    /// Of those who have or wait for one.
    own: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A turn that is taken.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _of_all: Option<SemaphorePermit<'a>>,
    _own: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many in all, and so many for one network. This machine's own, where a proxy is, has as many as there are.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all: Semaphore::new(all), each, own: Mutex::default() }
    }

    /// Waits for one.
    pub(super) async fn take(&self, from: IpAddr) -> Turn<'_> {
        let own = match from.to_canonical().is_loopback() {
            true => None,
            false => self.of(site(from)).acquire_owned().await.ok(),
        };
        Turn { _of_all: self.all.acquire().await.ok(), _own: own } // it is never closed
    }

    fn of(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = own.get(&network).and_then(Weak::upgrade) {
            return known;
        }
        own.retain(|_, semaphore| semaphore.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.each));
        own.insert(network, Arc::downgrade(&new));
        new
    }
}

/// What one customer may have: an IPv4 address, or an IPv6 network of 48 bits (RFC 6177).
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_asks_much_waits_for_himself() {
        let turns = Turns::new(4, 2);
        let take = || turns.take(address("192.0.2.1"));
        let (_first, held) = (take().now_or_never().unwrap(), take().now_or_never().unwrap());
        let mut third = Box::pin(take());
        assert!(third.as_mut().now_or_never().is_none(), "a third of one address");
        let _another = turns.take(address("192.0.2.2")).now_or_never().unwrap();
        drop(held);
        assert!(third.as_mut().now_or_never().is_some(), "its turn has come");
    }

    #[test]
    fn one_customers_networks_count_as_one() {
        let turns = Turns::new(4, 2);
        let from = |network: u16| IpAddr::from([0x2001, 0xdb8, 1, network, 0, 0, 0, 1]);
        let _taken: Vec<_> = (0..2).map(|network| turns.take(from(network)).now_or_never().unwrap()).collect();
        assert!(turns.take(from(2)).now_or_never().is_none());
    }

    #[test]
    fn all_together_wait_as_well_and_who_has_gone_is_forgotten() {
        let turns = Turns::new(4, 2);
        let taken: Vec<_> = (0..4).map(|_| turns.take(address("127.0.0.1")).now_or_never().unwrap()).collect();
        assert!(turns.take(address("192.0.2.9")).now_or_never().is_none());
        drop(taken);
        for host in 0..100 {
            assert!(turns.take(IpAddr::from([192, 0, 2, host])).now_or_never().is_some());
        }
        assert_eq!(turns.own.lock().unwrap().len(), 1, "the others are gone");
    }
}
