//! The rules of channels in memory: which there are, who publishes, what expires. Pure: time is an argument, and what is to
//! be told or dropped is handed to the caller, who does it outside its lock.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::{
    Change, ChannelId, ChannelInfo, Claim, CreateError, Created, Displaced, EnterError, KeyFit, NewChannel, Present,
    PublishError, Visitor, may_replace,
};

/// How many channels there may be, and for how long without anybody.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLimits {
    /// The most channels at a time.
    pub max_channels: usize,
    /// A channel without a publisher and a sign of life for so long is gone.
    pub ttl: Duration,
}

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
}

/// All channels.
pub(super) struct Book {
    limits: ChannelLimits,
    channels: HashMap<ChannelId, Channel>,
    /// Publishers that have been told to go and may not have gone yet: whoever is next waits for them.
    leaving: HashMap<ChannelId, Vec<Gone>>,
    /// Of channels and holders: never the same twice.
    serial: u64,
    effects: Effects,
}

/// Ends when a publisher has given its lease up.
pub(super) type Gone = watch::Receiver<()>;

/// What the caller has to do once its lock is open.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) changes: Vec<Change>,
    /// Only to be dropped: what a claim holds may give a lease up in its turn.
    departed: Vec<Holder>,
}

struct Channel {
    serial: u64,
    about: NewChannel,
    key: Option<[u8; 32]>,
    created: SystemTime,
    last_sign: Instant,
    publisher: Option<Holder>,
    /// Nobody else is told of it.
    is_private: bool,
    viewers: u32,
    members: u32,
}

struct Holder {
    serial: u64,
    claim: Claim,
    since: Instant,
    displace: watch::Sender<Option<Displaced>>,
    gone: Gone,
    is_private: bool,
}

/// A place that was given, and whom its publisher has to wait for.
pub(super) struct Place {
    pub(super) serial: u64,
    pub(super) displaced: watch::Receiver<Option<Displaced>>,
    /// Dropped with the lease.
    pub(super) here: watch::Sender<()>,
    pub(super) before: Vec<Gone>,
}

impl Book {
    pub(super) fn new(limits: ChannelLimits) -> Self {
        Self { limits, channels: HashMap::new(), leaving: HashMap::new(), serial: 0, effects: Effects::default() }
    }

    pub(super) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Removes what has had no sign of life for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let ttl = self.limits.ttl;
        let over = |channel: &Channel| channel.deadline(ttl).is_some_and(|deadline| deadline <= now);
        let gone: Vec<_> = self.channels.iter().filter(|(_, c)| over(c)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id, Displaced::Stopped);
        }
    }

    /// When the next channel expires if nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.channels.values().filter_map(|channel| channel.deadline(self.limits.ttl)).min()
    }

    pub(super) fn create(&mut self, about: NewChannel, now: Moment) -> Result<Created, CreateError> {
        use rand::distr::{Alphanumeric, SampleString as _};
        let id = ChannelId::random();
        // 142 bits.
        let key = Alphanumeric.sample_string(&mut rand::rng(), 24);
        self.insert(&id, about, Some(Sha256::digest(&key).into()), now)?;
        Ok(Created { id, key })
    }

    pub(super) fn list(&self) -> Vec<ChannelInfo> {
        let mut all: Vec<_> = self.channels.iter().filter(|(_, channel)| !channel.is_private).collect();
        all.sort_by_key(|(_, channel)| channel.serial);
        all.into_iter().map(|(id, channel)| channel.info(id)).collect()
    }

    pub(super) fn get(&self, id: &ChannelId) -> Option<ChannelInfo> {
        self.channels.get(id).map(|channel| channel.info(id))
    }

    pub(super) fn key_fits(&self, id: &ChannelId, key: Option<&str>) -> KeyFit {
        let Some(required) = self.channels.get(id).and_then(|channel| channel.key) else { return KeyFit::NoKey };
        let digest: [u8; 32] = Sha256::digest(key.unwrap_or_default()).into();
        match bool::from(digest.ct_eq(&required)) {
            true => KeyFit::Right,
            false => KeyFit::Wrong,
        }
    }

    /// Gives the channel to who claims it, if it is free or may be taken; whoever had it is told to go.
    pub(super) fn publish(&mut self, id: &ChannelId, claim: Claim, now: Moment) -> Result<Place, PublishError> {
        let serial = self.next_serial();
        let is_new = !self.channels.contains_key(id);
        let channel = self.ensure(id, now)?;
        channel.is_private |= is_new && claim.is_private;
        if let Some(holder) = &channel.publisher {
            let present = Present { since: holder.since, last_media: (holder.claim.last_media)() };
            if !may_replace(present, claim.credential.is_same_as(holder.claim.credential), now.at) {
                return Err(PublishError::Live);
            }
        }
        let (displace, displaced) = watch::channel(None);
        let (here, gone) = watch::channel(());
        let replaced =
            channel.publisher.replace(Holder { serial, claim, since: now.at, displace, gone, is_private: false });
        channel.last_sign = now.at;
        match replaced {
            Some(replaced) => self.dismiss(id, replaced, Displaced::Replaced),
            None => self.effects.changes.push(Change::Changed(id.clone())),
        }
        let before = self.leaving.get(id).cloned().unwrap_or_default();
        Ok(Place { serial, displaced, here, before })
    }

    /// What a publisher sends is no broadcast.
    pub(super) fn make_private(&mut self, id: &ChannelId, serial: u64) {
        let holder = self.channels.get_mut(id).and_then(|channel| channel.publisher.as_mut());
        if let Some(holder) = holder.filter(|holder| holder.serial == serial) {
            holder.is_private = true;
            self.effects.changes.push(Change::Changed(id.clone()));
        }
    }

    /// A publisher has given its lease up.
    pub(super) fn unpublish(&mut self, id: &ChannelId, serial: u64, now: Instant) {
        if let Some(channel) = self.channels.get_mut(id)
            && let Some(holder) = channel.publisher.take_if(|holder| holder.serial == serial)
        {
            channel.last_sign = now;
            self.effects.departed.push(holder);
            self.effects.changes.push(Change::Changed(id.clone()));
        }
        if let Some(leaving) = self.leaving.get_mut(id) {
            leaving.retain(is_here);
            if leaving.is_empty() {
                self.leaving.remove(id);
            }
        }
    }

    /// Counts a visitor; returns which channel it was, as its id may be another's by the time that he leaves.
    pub(super) fn enter(&mut self, id: &ChannelId, visitor: Visitor, now: Moment) -> Result<u64, EnterError> {
        if visitor == Visitor::Viewer && self.channels.get(id).is_none_or(|channel| channel.is_private) {
            return Err(EnterError::NoChannel(id.clone()));
        }
        let channel = self.ensure(id, now)?;
        channel.last_sign = now.at;
        let serial = channel.serial;
        self.count(id, serial, visitor, |count| count.saturating_add(1));
        Ok(serial)
    }

    pub(super) fn leave(&mut self, id: &ChannelId, serial: u64, visitor: Visitor, now: Instant) {
        self.touch(id, now);
        self.count(id, serial, visitor, |count| count.saturating_sub(1));
    }

    fn count(&mut self, id: &ChannelId, serial: u64, visitor: Visitor, change: impl FnOnce(u32) -> u32) {
        let Some(channel) = self.channels.get_mut(id).filter(|channel| channel.serial == serial) else { return };
        match visitor {
            Visitor::Viewer => {
                channel.viewers = change(channel.viewers);
                self.effects.changes.push(Change::Changed(id.clone()));
            }
            Visitor::Member => channel.members = change(channel.members),
        }
    }

    pub(super) fn touch(&mut self, id: &ChannelId, now: Instant) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.last_sign = now;
        }
    }

    /// Ends a channel; returns whom to wait for, or nothing if there is no such channel.
    pub(super) fn stop(&mut self, id: &ChannelId) -> Option<Vec<Gone>> {
        let stopped = self.remove(id, Displaced::Stopped);
        stopped.then(|| self.leaving.get(id).cloned().unwrap_or_default())
    }

    fn ensure(&mut self, id: &ChannelId, now: Moment) -> Result<&mut Channel, CreateError> {
        if !self.channels.contains_key(id) {
            self.insert(id, NewChannel::default(), None, now)?;
        }
        // It is there; the error is for the compiler alone.
        self.channels.get_mut(id).ok_or(CreateError::Full(self.limits.max_channels))
    }

    fn insert(
        &mut self,
        id: &ChannelId,
        about: NewChannel,
        key: Option<[u8; 32]>,
        now: Moment,
    ) -> Result<(), CreateError> {
        if self.channels.len() >= self.limits.max_channels {
            self.make_room()?;
        }
        let serial = self.next_serial();
        let channel = Channel {
            serial,
            about,
            key,
            created: now.wall,
            last_sign: now.at,
            publisher: None,
            is_private: false,
            viewers: 0,
            members: 0,
        };
        self.channels.insert(id.clone(), channel);
        self.effects.changes.push(Change::Changed(id.clone()));
        Ok(())
    }

    /// A channel that was made by publishing, and that nobody is in, holds nothing worth its place: the one that has been so
    /// for longest goes. Without that, publishers with a new name each time would fill the server for a whole TTL.
    fn make_room(&mut self) -> Result<(), CreateError> {
        let idle = self.channels.iter().filter(|(_, channel)| channel.is_void());
        let longest = idle.min_by_key(|(_, channel)| (channel.last_sign, channel.serial)).map(|(id, _)| id.clone());
        match longest {
            Some(id) => {
                self.remove(&id, Displaced::Stopped);
                Ok(())
            }
            None => Err(CreateError::Full(self.limits.max_channels)),
        }
    }

    fn remove(&mut self, id: &ChannelId, why: Displaced) -> bool {
        let Some(channel) = self.channels.remove(id) else { return false };
        if let Some(holder) = channel.publisher {
            self.dismiss(id, holder, why);
        }
        self.effects.changes.push(Change::Gone(id.clone()));
        true
    }

    fn dismiss(&mut self, id: &ChannelId, holder: Holder, why: Displaced) {
        holder.displace.send_replace(Some(why));
        let leaving = self.leaving.entry(id.clone()).or_default();
        leaving.retain(is_here);
        leaving.push(holder.gone.clone());
        self.effects.departed.push(holder);
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

fn is_here(gone: &Gone) -> bool {
    gone.has_changed().is_ok()
}

impl Channel {
    /// When it expires, if it does.
    fn deadline(&self, ttl: Duration) -> Option<Instant> {
        // A time that the clock cannot show does not come.
        self.publisher.is_none().then(|| self.last_sign.checked_add(ttl))?
    }

    fn is_void(&self) -> bool {
        self.key.is_none() && self.publisher.is_none() && self.viewers == 0 && self.members == 0
    }

    fn info(&self, id: &ChannelId) -> ChannelInfo {
        let NewChannel { title, category, metadata } = self.about.clone();
        ChannelInfo {
            id: id.clone(),
            title,
            category,
            metadata,
            is_live: self.publisher.is_some(),
            is_private: self.publisher.as_ref().is_some_and(|holder| holder.is_private),
            viewers: self.viewers,
            created: self.created,
            has_key: self.key.is_some(),
        }
    }
}
