//! The streaming threads' side of a destination: takes units and either queues them on the connection or keeps the
//! newest group of pictures for the next one. Never waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{Format, Gate, Lag, Tagger, Track, Tracks, Unit, Verdict};
use crate::{
    flv::SharedTag,
    rtmp_client::{MOST_BYTES, Sender},
};

/// Shared by the streaming threads and the worker. Its lock is taken before a connection's own.
pub(super) struct Feed(Mutex<Inner>);

/// What has gone through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) frames: u64,
    pub(super) dropped: u64,
}

/// What became of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is no connection: it was kept for the next one, or left out.
    Held,
    /// There is one, and it is served.
    Connected,
    /// There is one, and it needs a keyframe to go on.
    NeedsKeyframe,
}

struct Inner {
    /// Nothing is taken any more.
    closed: bool,
    max_queue_ns: i64,
    tracks: Tracks,
    link: Option<Link>,
    /// While there is no connection: everything since the last keyframe, to open the next one with.
    held: Vec<Unit>,
    formats: [Option<Arc<Format>>; 2],
    counts: Counts,
}

struct Link {
    connection: Sender,
    gate: Gate,
    tagger: Tagger,
    /// Tags that go out together, and how many units they are of.
    batch: Vec<SharedTag>,
    batched: usize,
    last_video: Option<i64>,
}

/// Audio units that wait for a picture to go out with. Each delivery is a system call and a segment, so that those of one
/// Opus or AAC frame cost as much as those of a picture; two frames are 43 ms, which no player notices.
const MOST_BATCHED: usize = 2;
/// Without a picture for so long there is nothing to wait for.
const VIDEO_FLOWS_NS: i64 = 100_000_000;

impl Link {
    fn new(connection: Sender, gate: Gate, tagger: Tagger) -> Self {
        Self { connection, gate, tagger, batch: Vec::new(), batched: 0, last_video: None }
    }

    /// Queues a unit on the connection, audio together with the next picture.
    fn push(&mut self, unit: &Unit, base: i64) {
        self.batch.extend(self.tagger.tags(unit, base));
        self.batched += 1;
        let waits = match unit.track() {
            Track::Video => {
                self.last_video = Some(unit.dts);
                false
            }
            Track::Audio => self.last_video.is_some_and(|last| unit.dts - last < VIDEO_FLOWS_NS),
        };
        if !waits || self.batched >= MOST_BATCHED {
            self.flush();
        }
    }

    fn lag_ns(&self) -> i64 {
        i64::try_from(self.connection.lag().as_nanos()).unwrap_or(i64::MAX)
    }

    fn flush(&mut self) {
        self.batched = 0;
        if !self.batch.is_empty() {
            self.connection.push(self.batch.drain(..));
        }
    }
}

impl Feed {
    pub(super) fn new(max_queue_ns: i64) -> Self {
        Self(Mutex::new(Inner {
            closed: false,
            max_queue_ns,
            tracks: Tracks::default(),
            link: None,
            held: Vec::new(),
            formats: [None, None],
            counts: Counts::default(),
        }))
    }

    pub(super) fn set_tracks(&self, tracks: Tracks) {
        self.lock().tracks = tracks;
    }

    /// A track has left.
    pub(super) fn forget(&self, track: Track) {
        let mut inner = self.lock();
        inner.formats[usize::from(track == Track::Audio)] = None;
        if let Some(link) = &mut inner.link {
            link.tagger.forget(track);
        }
    }

    /// Takes a unit.
    pub(super) fn push(&self, unit: Unit, now: Instant) -> Taken {
        let mut inner = self.lock();
        if inner.closed {
            inner.counts.dropped += 1;
            return Taken::Held;
        }
        inner.note(&unit);
        let needed = match &inner.link {
            None => {
                inner.hold(unit);
                return Taken::Held;
            }
            Some(link) if link.gate.is_waiting() => inner.open(unit, now),
            Some(_) => inner.send(&unit, now),
        };
        if needed { Taken::NeedsKeyframe } else { Taken::Connected }
    }

    /// The connection is up: sends what was held; returns whether a keyframe is needed.
    pub(super) fn connect(&self, connection: Sender, now: Instant) -> bool {
        let mut inner = self.lock();
        let mut tagger = Tagger::default();
        inner.formats.iter().flatten().for_each(|format| tagger.announce(format));
        inner.link = Some(Link::new(connection, Gate::new(inner.max_queue_ns), tagger));
        for unit in std::mem::take(&mut inner.held) {
            inner.open(unit, now);
        }
        let closed = inner.link.as_ref().is_some_and(|link| link.gate.is_closed());
        closed && inner.tracks.video
    }

    /// There will be no other connection.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.counts.dropped += std::mem::take(&mut inner.held).len() as u64;
    }

    /// Sends what waits for more: the end comes.
    pub(super) fn flush(&self) {
        if let Some(link) = &mut self.lock().link {
            link.flush();
        }
    }

    /// The connection is gone.
    pub(super) fn disconnect(&self) {
        if let Some(mut link) = self.lock().link.take() {
            link.flush();
        }
    }

    /// The FourCCs of what has come so far, for servers that want to be told of enhanced RTMP.
    pub(super) fn codecs(&self) -> Vec<[u8; 4]> {
        let formats = self.lock().formats.clone();
        let four_ccs = formats.iter().flatten().filter_map(|format| match &**format {
            Format::Video(_, info) => info.codec.four_cc(),
            Format::Audio(_, info) => info.codec.four_cc(),
        });
        four_ccs.collect()
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(super) fn lag_ns(&self) -> i64 {
        self.lock().link.as_ref().map_or(0, |link| link.lag_ns())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, unit: &Unit) {
        let slot = &mut self.formats[usize::from(unit.track() == Track::Audio)];
        if slot.as_ref() != Some(&unit.format) {
            *slot = Some(unit.format.clone());
        }
    }

    /// Sends a unit on a connection that may still wait for its keyframe; returns whether one is needed. Audio that comes
    /// before the keyframe may belong behind it, because encoding video takes longer: it is kept until that is known.
    fn open(&mut self, unit: Unit, now: Instant) -> bool {
        let waiting = self.link.as_ref().is_some_and(|link| link.gate.is_waiting());
        if !waiting {
            return self.send(&unit, now);
        }
        if unit.track() == Track::Video && unit.keyframe {
            self.hold(unit);
            for unit in std::mem::take(&mut self.held) {
                self.send(&unit, now);
            }
            return false;
        }
        let needed = self.send(&unit, now);
        let still_waiting = self.link.as_ref().is_some_and(|link| link.gate.is_waiting());
        if still_waiting && unit.track() == Track::Audio {
            self.counts.dropped -= 1;
            self.hold(unit);
        } else if !still_waiting {
            self.counts.dropped += self.held.len() as u64;
            self.held.clear();
        }
        needed
    }

    /// Sends a unit if the gate lets it; returns whether a keyframe is needed.
    fn send(&mut self, unit: &Unit, now: Instant) -> bool {
        let Some(link) = &mut self.link else { return false };
        let lag = Lag { ns: link.lag_ns(), now };
        match link.gate.decide(unit.track(), unit.dts, unit.keyframe, self.tracks, lag) {
            Verdict::Pass { base } => {
                link.push(unit, base);
                self.counts.frames += 1;
                false
            }
            verdict => {
                self.counts.dropped += 1;
                verdict == Verdict::DropAndAsk
            }
        }
    }

    /// Keeps a unit for the next connection.
    fn hold(&mut self, unit: Unit) {
        let before = self.held.len() + 1;
        let at = unit.dts;
        let begins_with_video = |held: &[Unit]| held.first().is_some_and(|unit| unit.track() == Track::Video);
        match unit.track() {
            Track::Video if unit.keyframe => {
                self.held.retain(|held| held.track() == Track::Audio && held.dts >= at);
                self.held.insert(0, unit);
            }
            Track::Video if !begins_with_video(&self.held) => {}
            _ => self.held.push(unit),
        }
        // Time may stand still in a broken input, and then only the bytes tell.
        let bytes: usize = self.held.iter().map(|unit| unit.data.len()).sum();
        if bytes > MOST_BYTES {
            self.held.clear();
        }
        if self.held.first().is_some_and(|first| at - first.dts > self.max_queue_ns) {
            if begins_with_video(&self.held) {
                self.held.clear();
            } else {
                let keep_from = at - self.max_queue_ns;
                self.held.retain(|held| held.dts >= keep_from);
            }
        }
        self.counts.dropped += (before - self.held.len()) as u64;
    }
}
