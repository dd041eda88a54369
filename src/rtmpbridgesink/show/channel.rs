//! What is known of one track: what came in on it, in which rhythm, and what went out. Pure.

use super::SECOND;

/// Input has stopped when nothing came for so long. Networks stall for half of it and go on.
pub(super) const STOPPED_AFTER: i64 = SECOND;
/// It has not while the source is merely slow: a still screen has a frame every few seconds.
const SLOW_PARTS: i64 = 3;
pub(super) const STOPPED_AT_LAST: i64 = 10 * SECOND;

#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) first: Option<Seen>,
    /// The newest real unit.
    pub(super) seen: Option<Seen>,
    /// How far the newest ones were apart.
    rhythm: [i64; 4],
    /// The newest one sent, real or not.
    pub(super) sent: Option<Seen>,
    /// When the next one that stands in is due.
    pub(super) fill: Option<i64>,
    /// Whether what was sent last was not real: decoders know nothing of what the real ones refer to.
    pub(super) foreign: bool,
    /// How far those that stand in are apart, where it is not as usual.
    pub(super) step: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) now: i64,
    pub(super) dts: i64,
}

impl Seen {
    /// Where that track is at `now`.
    pub(super) fn at(&self, now: i64) -> i64 {
        self.dts + (now - self.now)
    }
}

impl Channel {
    /// How long it may pause and still be there.
    pub(super) fn patience(&self) -> i64 {
        let slowest = self.rhythm.iter().max().copied().unwrap_or_default();
        (slowest * SLOW_PARTS).clamp(STOPPED_AFTER, STOPPED_AT_LAST)
    }

    pub(super) fn see(&mut self, seen: Seen) {
        if let Some(last) = self.seen.filter(|last| seen.now >= last.now) {
            self.rhythm.rotate_right(1);
            self.rhythm[0] = (seen.now - last.now).min(STOPPED_AT_LAST / SLOW_PARTS);
        }
        self.first.get_or_insert(seen);
        self.seen = Some(seen);
    }

    pub(super) fn silent_for(&self, now: i64) -> Option<i64> {
        self.seen.map(|seen| now - seen.now)
    }
}
