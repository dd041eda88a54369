//! The time of both tracks as they come in: good timestamps are left alone, bad ones are made to go on. Pure.
//!
//! A track that jumps gets an offset, and the other one the same if it jumps as well: what was in sync stays in sync. All
//! times are in ns of running time. What the encoders and parsers behind make of them is seen to by `show`.

use crate::rtmp::Track;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// The least that two frames are apart: what FLV can tell.
pub(super) const LEAST_STEP: i64 = MS;
/// A step that needs no second look.
const ORDINARY: i64 = SECOND;
/// Further back than this is another timeline. Reordered pictures and sloppy clocks stay well below.
const MOST_BACK: i64 = SECOND;
/// So much further than the wall clock is one as well. Sources that pause go on with it, and players bridge less.
const MOST_AHEAD: i64 = 10 * SECOND;
/// How far frames without timestamps may drift from the clock.
const MOST_DRIFT: i64 = 500 * MS;
/// Where 32 bits of milliseconds begin anew, as those of an FLV file do.
const WRAP: i64 = (1 << 32) * MS;

/// What had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// A step back, or a presentation before its decoding: moved up to where it is possible.
    Backward,
    /// The time of the frame before: moved up.
    Duplicate,
    /// Another timeline: everything from here on is moved.
    Jump,
    /// 32 bits of milliseconds were over.
    Wrap,
    /// No timestamp at all: made up.
    Missing,
}

/// A buffer's timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps {
    pub(super) dts: Option<i64>,
    pub(super) pts: Option<i64>,
}

/// What a pad's buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One frame after the other, in the order of presentation: raw media and codecs without reordering.
    Frames,
    /// One encoded picture after the other, in the order of decoding.
    Pictures,
    /// Pieces of an encoded stream that a parser has yet to order: only jumps can be told.
    Stream,
}

/// Where a buffer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) stamps: Stamps,
    pub(super) repair: Option<Repair>,
}

/// Both tracks.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    tracks: [TrackTime; 2],
    /// From placed time to the clock's, where somebody waits for it.
    pace: i64,
    /// The clock when it was last looked at.
    clock: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct TrackTime {
    /// From the input's time to ours.
    offset: i64,
    last: Option<Last>,
    /// A flush has ended the timeline that `offset` is for.
    flushed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: i64,
    /// The latest presentation so far.
    shown: i64,
    /// The clock when it came.
    now: i64,
    /// How far it was from the frame before.
    step: i64,
    /// How far timestamps are ahead of the clock.
    lead: i64,
}

impl Last {
    /// Where the next one belongs if it comes now.
    fn expected(&self, now: i64) -> i64 {
        self.at + (now - self.now).max(self.step)
    }
}

impl Timeline {
    /// Places a buffer that comes at `now`.
    pub(super) fn place(&mut self, track: Track, stamps: Stamps, kind: Kind, now: i64) -> Placed {
        let Some(raw) = stamps.dts.or(stamps.pts) else { return self.make_up(track, kind, now) };
        let (offset, mut repair) = self.offset_for(track, raw, stamps.pts, now);
        let me = &mut self.tracks[index(track)];
        let mut at = raw + offset;
        if std::mem::take(&mut me.flushed) {
            // A seek is no trouble. What comes first is due now, and the other track joins it.
            if repair.take().is_some() {
                self.pace = now - at;
            }
        }
        me.offset = offset;
        let mut stamps = Stamps { dts: stamps.dts.map(|dts| dts + offset), pts: stamps.pts.map(|pts| pts + offset) };
        let falls_back = |last: &Last| match kind {
            Kind::Pictures if stamps.dts.is_none() => at == last.at,
            Kind::Frames | Kind::Pictures => at <= last.at,
            Kind::Stream => false,
        };
        if let Some(last) = me.last.filter(falls_back) {
            repair = repair.or(Some(if at == last.at { Repair::Duplicate } else { Repair::Backward }));
            at = last.at + LEAST_STEP;
            stamps.dts = stamps.dts.map(|dts| dts.max(at));
            stamps.pts = stamps.pts.map(|pts| pts.max(at));
        }
        self.note(track, at, stamps.pts, now, at - now);
        Placed { stamps, repair }
    }

    /// Where a time of the input is now, for what is no buffer.
    pub(super) fn shift(&self, track: Track, raw: i64) -> i64 {
        raw + self.tracks[index(track)].offset
    }

    /// A flush: the next buffer begins a new timeline, which continues ours.
    pub(super) fn flushed(&mut self, track: Track) {
        self.tracks[index(track)].flushed = true;
    }

    /// What to add to a placed time for the clock's that it is due at. One that is out of reach is due now.
    pub(super) fn pace(&mut self, track: Track, now: i64) -> i64 {
        // Running time begins anew some time after a flush, if anything in the pipeline prerolls.
        if now < self.clock - MOST_DRIFT {
            self.pace += now - self.clock;
        }
        self.clock = now;
        if let Some(last) = self.tracks[index(track)].last
            && last.at + self.pace - now > MOST_AHEAD + ORDINARY
        {
            self.pace = now - last.at;
        }
        self.pace
    }

    fn offset_for(&self, track: Track, raw: i64, pts: Option<i64>, now: i64) -> (i64, Option<Repair>) {
        let me = &self.tracks[index(track)];
        let other = &self.tracks[1 - index(track)];
        let Some(last) = me.last else {
            // Joins the other one, or begins the show.
            let Some(expected) = other.last.map(|last| last.expected(now)) else { return (0, None) };
            return if (raw + other.offset - expected).abs() <= MOST_AHEAD {
                (other.offset, None)
            } else {
                (expected - raw, Some(Repair::Jump))
            };
        };
        let own = raw + me.offset - last.at;
        if !me.flushed && (1..=ORDINARY).contains(&own) {
            return (me.offset, None);
        }
        let expected = last.expected(now);
        // Where the clock says nothing, because nobody waits for it, the other track may.
        let latest = |offset: i64| {
            let beside = other.last.filter(|_| other.offset == offset).map_or(expected, |last| last.at);
            expected.max(beside) + MOST_AHEAD
        };
        let fits = |offset: i64| raw + offset >= last.at - MOST_BACK && raw + offset <= latest(offset);
        let deviation = |offset: i64| (raw + offset - expected).abs();
        let own = Some(me.offset).filter(|_| !me.flushed);
        let others = other.last.filter(|_| !other.flushed).map(|_| other.offset);
        // A small step here may be a jump there: the one that explains more.
        let best = own.into_iter().chain(others).filter(|offset| fits(*offset)).min_by_key(|offset| deviation(*offset));
        if let Some(offset) = best {
            return (offset, None);
        }
        for wrapped in [me.offset + WRAP, me.offset - WRAP] {
            if deviation(wrapped) <= ORDINARY {
                return (wrapped, Some(Repair::Wrap));
            }
        }
        // Behind the last picture to be shown as well, which reordering may have sent ahead.
        let behind_shown = pts.map_or(i64::MIN, |pts| last.shown + last.step.max(LEAST_STEP) - pts);
        ((expected - raw).max(behind_shown), Some(Repair::Jump))
    }

    /// A frame without time goes behind the one before it, and not far from the clock.
    fn make_up(&mut self, track: Track, kind: Kind, now: i64) -> Placed {
        if kind != Kind::Frames {
            return Placed { stamps: Stamps::default(), repair: None };
        }
        let last = self.tracks[index(track)].last;
        let lead = last.or(self.tracks[1 - index(track)].last).map_or(0, |last| last.lead);
        let clock = now + lead;
        let at = last.map_or(clock, |last| {
            let next = last.at + last.step.max(LEAST_STEP);
            if (next - clock).abs() <= MOST_DRIFT { next } else { clock.max(last.at + LEAST_STEP) }
        });
        self.note(track, at, None, now, lead);
        Placed { stamps: Stamps { dts: None, pts: Some(at) }, repair: Some(Repair::Missing) }
    }

    fn note(&mut self, track: Track, at: i64, pts: Option<i64>, now: i64, lead: i64) {
        let last = &mut self.tracks[index(track)].last;
        // Reordered pictures go back and forth: the furthest one counts.
        let at = last.map_or(at, |last| at.max(last.at));
        let step = last.map_or(0, |last| match at - last.at {
            step if (1..=ORDINARY).contains(&step) => step,
            _ => last.step,
        });
        let shown = pts.unwrap_or(at).max(last.map_or(i64::MIN, |last| last.shown));
        *last = Some(Last { at, shown, now, step, lead });
    }
}

fn index(track: Track) -> usize {
    usize::from(track == Track::Audio)
}

#[cfg(test)]
mod tests;
