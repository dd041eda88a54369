//! How many sessions there may be, and how many of them that have not connected yet. Pure counting, but for the system's own
//! limit of files.
//!
//! An offer costs its sender nothing and us a connection and a pipeline. So those that nobody has connected to are
//! bounded for themselves, and for each address, well below what all sessions may be.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::signaling::{files_are_left, network};

/// Sessions that were answered and never connected. A peer takes 25 to 500 ms to connect: this many serve hundreds a second.
const MOST_HALF_OPEN: usize = 64;
/// Of viewers, who cost no pipeline and come in crowds; each takes some 0.3 MB.
const MOST_HALF_OPEN_VIEWERS: usize = 256;

/// Of these, from one address: a flood from one place leaves room for others. One that has connected gives its place up at
/// once, so that an office behind one address gets in.
const MOST_HALF_OPEN_EACH: usize = 32;

/// Viewers of one address: offices and schools are behind one. Four addresses are needed to take as many as `max-viewers`
/// is unless it is set.
const MOST_VIEWERS_EACH: usize = 256;

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("there are {0} sessions already, which is the most that there may be")]
    Full(usize),
    #[error("there are {0} of your address already, which is the most that one may have")]
    Address(usize),
    #[error("too many offers have been answered to which nobody has connected yet")]
    HalfOpen,
    #[error("this server has as many files open as it may")]
    Files,
}

/// Whether the system lets anybody in: nothing that is counted here.
pub(super) fn room_for_files() -> Result<(), NoPlace> {
    if files_are_left() { Ok(()) } else { Err(NoPlace::Files) }
}

/// Who is in.
#[derive(Debug)]
pub(super) struct Admission {
    most: usize,
    each: usize,
    most_half_open: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    half_open: HashMap<IpAddr, usize>,
}

impl Admission {
    /// Of publishers: so many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let (each, most_half_open) = (usize::MAX, MOST_HALF_OPEN);
        Arc::new(Self { most, each, most_half_open, counts: Mutex::default() })
    }

    /// Of viewers, who are counted elsewhere where they have their seats.
    pub(super) fn of_viewers() -> Arc<Self> {
        let (most, each, most_half_open) = (usize::MAX, MOST_VIEWERS_EACH, MOST_HALF_OPEN_VIEWERS);
        Arc::new(Self { most, each, most_half_open, counts: Mutex::default() })
    }

    /// A place for a session, half-open at first.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr) -> Result<Place, NoPlace> {
        // What runs here is under our user's control, and a proxy here has many behind it.
        let is_here = from.to_canonical().is_loopback();
        let from = network(from);
        let mut counts = self.lock();
        if counts.all >= self.most {
            return Err(NoPlace::Full(self.most));
        }
        let half_open: usize = counts.half_open.values().sum();
        let same = counts.half_open.get(&from).copied().unwrap_or(0);
        if half_open >= self.most_half_open || same >= MOST_HALF_OPEN_EACH {
            return Err(NoPlace::HalfOpen);
        }
        if !is_here && counts.by_address.get(&from).is_some_and(|count| *count >= self.each) {
            return Err(NoPlace::Address(self.each));
        }
        counts.all += 1;
        *counts.by_address.entry(from).or_default() += 1;
        *counts.half_open.entry(from).or_default() += 1;
        Ok(Place { admission: self.clone(), from, is_half_open: true })
    }

    /// How many there are, and how many of them nobody has connected to yet.
    pub(super) fn counts(&self) -> (usize, usize) {
        let counts = self.lock();
        (counts.all, counts.half_open.values().sum())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place; given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    from: IpAddr,
    is_half_open: bool,
}

impl Place {
    /// The peer has connected.
    pub(super) fn connected(&mut self) {
        if std::mem::take(&mut self.is_half_open) {
            release(&mut self.admission.lock().half_open, self.from);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connected();
        let mut counts = self.admission.lock();
        counts.all -= 1;
        release(&mut counts.by_address, self.from);
    }
}

fn release(counts: &mut HashMap<IpAddr, usize>, from: IpAddr) {
    if let Some(count) = counts.get_mut(&from) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn sessions_are_bounded_and_a_place_that_is_left_is_free() {
        let admission = Admission::new(2);
        let first = admission.admit(HERE).unwrap();
        let _second = admission.admit(HERE).unwrap();
        assert_eq!(admission.admit(HERE).unwrap_err(), NoPlace::Full(2));
        drop(first);
        assert!(admission.admit(HERE).is_ok());
        assert_eq!(admission.counts(), (1, 1));
    }

    #[test]
    fn half_open_ones_are_bounded_for_each_address_and_for_all() {
        let admission = Admission::new(1000);
        let mut places: Vec<_> = (0..MOST_HALF_OPEN_EACH).map(|_| admission.admit(address(1)).unwrap()).collect();
        assert_eq!(admission.admit(address(1)).unwrap_err(), NoPlace::HalfOpen);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(admission.admit(mapped).unwrap_err(), NoPlace::HalfOpen);
        places.extend((MOST_HALF_OPEN_EACH..MOST_HALF_OPEN).map(|_| admission.admit(address(2)).unwrap()));
        assert_eq!(admission.admit(address(3)).unwrap_err(), NoPlace::HalfOpen);
        places.pop();
        assert!(admission.admit(address(3)).is_ok());
    }

    #[test]
    fn viewers_are_bounded_for_each_address_but_not_on_this_machine() {
        let admission = Admission::of_viewers();
        let connect = |from: IpAddr| {
            admission.admit(from).map(|mut place| {
                place.connected();
                place
            })
        };
        let mut places: Vec<_> = (0..MOST_VIEWERS_EACH).map(|_| connect(address(1)).unwrap()).collect();
        assert_eq!(connect(address(1)).unwrap_err(), NoPlace::Address(MOST_VIEWERS_EACH));
        places.pop();
        places.push(connect(address(1)).unwrap());
        places.push(connect(address(2)).unwrap());
        places.extend((0..=MOST_VIEWERS_EACH).map(|_| connect(HERE).unwrap()));
        drop(places);
        assert!(admission.lock().by_address.is_empty(), "who has gone is not remembered");
    }

    #[test]
    fn many_addresses_are_needed_to_keep_viewers_out() {
        let admission = Admission::of_viewers();
        let attempts = (0..7).flat_map(|last| (0..100).map(move |_| address(last)));
        let _half_open: Vec<_> = attempts.filter_map(|from| admission.admit(from).ok()).collect();
        assert_eq!(admission.counts(), (7 * MOST_HALF_OPEN_EACH, 7 * MOST_HALF_OPEN_EACH));
        assert!(admission.admit(address(9)).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let admission = Admission::new(1000);
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, last]);
        let places: Vec<_> = (0..100).filter_map(|last| admission.admit(host(last)).ok()).collect();
        assert_eq!(places.len(), MOST_HALF_OPEN_EACH);
        assert!(admission.admit(address(1)).is_ok());
    }

    #[test]
    fn who_has_connected_is_half_open_no_more() {
        let admission = Admission::new(1000);
        let mut places: Vec<_> = (0..MOST_HALF_OPEN_EACH).map(|_| admission.admit(HERE).unwrap()).collect();
        places.iter_mut().for_each(Place::connected);
        assert_eq!(admission.counts(), (MOST_HALF_OPEN_EACH, 0));
        places.push(admission.admit(HERE).unwrap());
        drop(places);
        assert_eq!(admission.counts(), (0, 0));
        assert!(admission.lock().half_open.is_empty());
    }
}
