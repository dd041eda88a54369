//! Channels that were made over `/ws`, by `create` or by joining what was not there, and that nobody has published on yet.
//! Each keeps its place for a whole time to live, or for as long as somebody is in it, so there are only so many of one
//! address: one host must not fill the server with them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    channel::ChannelId,
    signaling::places::{NoPlace, Place, Places},
};

/// For one address: people behind one NAT, who prepare what they will broadcast.
const MOST_FROM_ONE: usize = 32;

/// The channels, and whose they are.
pub(super) struct Unused {
    places: Places,
    /// Those that there are: the registry bounds them.
    channels: Mutex<HashMap<ChannelId, Place>>,
}

impl Default for Unused {
    fn default() -> Self {
        Self { places: Places::new(usize::MAX, MOST_FROM_ONE), channels: Mutex::default() }
    }
}

impl Unused {
    /// A place for one that is to be made.
    pub(super) fn place(&self, from: IpAddr) -> Result<Place, NoPlace> {
        self.places.take(from)
    }

    /// It has been made.
    pub(super) fn add(&self, channel: ChannelId, place: Place) {
        self.lock().insert(channel, place);
    }

    /// Whether it is one.
    pub(super) fn has(&self, channel: &ChannelId) -> bool {
        self.lock().contains_key(channel)
    }

    /// Somebody publishes on it, or it is gone.
    pub(super) fn remove(&self, channel: &ChannelId) {
        self.lock().remove(channel);
    }

    /// Those of which this is not true are used, or gone.
    pub(super) fn retain(&self, is_unused: impl Fn(&ChannelId) -> bool) {
        self.lock().retain(|channel, _| is_unused(channel));
    }

    /// It is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Place>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_and_what_is_used_or_gone_makes_room() {
        let (unused, home) = (Unused::default(), IpAddr::from([192, 0, 2, 1]));
        let make = |name: String| unused.place(home).map(|place| unused.add(name.parse().unwrap(), place));
        for number in 0..MOST_FROM_ONE {
            make(format!("c{number}")).unwrap();
        }
        assert_eq!(make("more".into()), Err(NoPlace::Address));
        assert!(unused.place([192, 0, 2, 2].into()).is_ok(), "others are not touched");
        let first: ChannelId = "c0".parse().unwrap();
        assert!(unused.has(&first));
        unused.remove(&first);
        assert!(!unused.has(&first));
        assert_eq!((make("one".into()), make("two".into())), (Ok(()), Err(NoPlace::Address)));
        unused.retain(|channel| channel.as_str() == "one");
        assert_eq!((0..MOST_FROM_ONE).filter(|n| make(format!("d{n}")).is_ok()).count(), MOST_FROM_ONE - 1);
    }
}
