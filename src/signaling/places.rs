//! Places for connections: so many in all, and so many of one address, each held until it is dropped.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::per_address::network;

/// The places that there are.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    each: usize,
    taken: Taken,
}

type Taken = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Why there is none left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Server,
    /// As many as one address may have are.
    Address,
}

impl Places {
    /// So many in all, and so many for one address, which is people behind one NAT. This machine's own are bounded by all
    /// alone: what runs here is under our user's control, and a proxy here has many behind it.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: Taken::default() }
    }

    /// Takes one.
    pub(crate) fn take(&self, from: IpAddr) -> Result<Place, NoPlace> {
        let (network, is_here) = (network(from), from.to_canonical().is_loopback());
        let mut taken = lock(&self.taken);
        if taken.values().sum::<usize>() >= self.all {
            return Err(NoPlace::Server);
        }
        let count = taken.entry(network).or_default();
        if *count >= self.each && !is_here {
            return Err(NoPlace::Address);
        }
        *count += 1;
        Ok(Place { network, taken: self.taken.clone() })
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place {
    network: IpAddr,
    taken: Taken,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

/// It is whole after every statement.
fn lock(taken: &Taken) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_for_an_address_and_in_all() {
        let places = Places::new(10, 4);
        let home = address("192.0.2.1");
        let mut at_home: Vec<_> = (0..4).map(|_| places.take(home).unwrap()).collect();
        assert_eq!(places.take(home).unwrap_err(), NoPlace::Address);
        at_home.pop();
        at_home.push(places.take(home).unwrap());
        let _here: Vec<_> = (4..10).map(|_| places.take(address("127.0.0.1")).unwrap()).collect();
        assert_eq!(places.take(address("192.0.2.9")).unwrap_err(), NoPlace::Server);
        drop(at_home);
        assert!(places.take(address("192.0.2.9")).is_ok());
        assert_eq!(lock(&places.taken).len(), 1, "who has gone is not remembered");
    }

    #[test]
    fn this_machine_is_known_by_either_family() {
        let places = Places::new(100, 4);
        for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let taken: Result<Vec<_>, _> = (0..10).map(|_| places.take(address(here))).collect();
            assert!(taken.is_ok(), "{here}: {taken:?}");
        }
    }

    #[test]
    fn a_v6_network_counts_as_one() {
        let places = Places::new(100, 4);
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, last]);
        let taken: Vec<_> = (0..100).filter_map(|last| places.take(host(last)).ok()).collect();
        assert_eq!(taken.len(), 4);
    }
}
