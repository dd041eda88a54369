//! What goes out on each track, and when something has to stand in for it. Pure.
//!
//! A track that never comes can be made up (`missing-track`), and the whole show can be kept up when input stops
//! (`gap-grace`). What stands in leaves at a keyframe of the real one. All times are in ns of running time.

mod channel;

use channel::{Channel, STOPPED_AFTER, STOPPED_AT_LAST, Seen};

use super::{
    reorder::Reorder,
    timeline::{LEAST_STEP, Repair, Stamps},
};
use crate::rtmp::Track;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// How long a track may take to come. Destinations wait for video for 2 s: the picture has to be there before that.
const MISSING_AFTER: i64 = 1_900 * MS;
/// How long before that the picture is made.
const PREPARE: i64 = 900 * MS;
/// A track is no longer there when nothing went out on it for so long.
const GONE_AFTER: i64 = 5 * SECOND;
/// More than this is not made up afterwards.
const MOST_FILLED: i64 = 10 * SECOND;
/// A picture that stands in stays so far behind, so that the real video finds room for its first one when it comes back.
const BEHIND: i64 = 100 * MS;
/// Steps of what stands in: a still picture five times a second, and AAC at 48 kHz.
pub(super) const PICTURE_STEP: i64 = 200 * MS;
const FRAME_STEP: i64 = 1024 * SECOND / 48_000;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// A track that does not come is made up.
    pub(super) synthesise: bool,
    /// How long the show goes on without input.
    pub(super) grace_ns: i64,
}

/// What becomes of a real unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Send {
        dts: i64,
        pts: i64,
        repair: Option<Repair>,
    },
    /// Something else stands in its place still.
    Drop,
    /// The same, until a keyframe comes.
    DropAndAsk,
}

/// Both tracks.
#[derive(Debug, Default)]
pub(super) struct Show {
    policy: Policy,
    tracks: [Channel; 2],
    reorder: Reorder,
    ended: bool,
}

impl Show {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The stamps of a picture of a file, which may be sent before others that are shown earlier.
    pub(super) fn in_order(&mut self, stamps: Stamps) -> Stamps {
        match stamps {
            Stamps { dts: None, pts: Some(pts) } => Stamps { dts: Some(self.reorder.decoded_at(pts)), pts: Some(pts) },
            stamps => stamps,
        }
    }

    /// Decides what becomes of a real unit that comes at `now`.
    pub(super) fn unit(&mut self, track: Track, keyframe: bool, stamps: Stamps, now: i64) -> Verdict {
        let channel = &mut self.tracks[index(track)];
        let last = channel.sent.map(|sent| sent.dts);
        let given = stamps.dts.or(stamps.pts);
        let made_up = channel.seen.map_or(now, |seen| seen.at(now));
        let raw = given.unwrap_or(made_up);
        channel.see(Seen { now, dts: raw });
        if channel.foreign {
            match track {
                Track::Video if !keyframe => return Verdict::DropAndAsk,
                // Silence is there already, and nobody hears the difference.
                Track::Audio if last.is_some_and(|last| (1..SECOND).contains(&(last + LEAST_STEP - raw))) => {
                    return Verdict::Drop;
                }
                _ => {}
            }
        }
        let took_over = std::mem::take(&mut channel.foreign);
        channel.fill = None;
        // Not only behind the last one: closer than FLV can tell, both would have one timestamp.
        let dts = last.map_or(raw, |last| raw.max(last + LEAST_STEP));
        let pts = stamps.pts.unwrap_or(dts).max(dts);
        let repair = match given {
            None => Some(Repair::Missing),
            Some(_) if dts != raw && took_over => None,
            Some(given) if last == Some(given) => Some(Repair::Duplicate),
            Some(given) if dts != given || stamps.pts.is_some_and(|pts| pts < dts) => Some(Repair::Backward),
            Some(_) => None,
        };
        channel.sent = Some(Seen { now, dts });
        Verdict::Send { dts, pts, repair }
    }

    /// What has to be sent by `now` in place of what does not come: tracks and decoding times, in order. Without a picture
    /// nothing stands in for video yet.
    pub(super) fn tick(&mut self, now: i64, has_picture: bool) -> Vec<(Track, i64)> {
        let mut fills = Vec::new();
        for track in [Track::Video, Track::Audio] {
            if !self.stands_in(track, now) || (track == Track::Video && !has_picture) {
                self.tracks[index(track)].fill = None;
                continue;
            }
            let other = &self.tracks[1 - index(track)];
            let (beside, joined) = (other.seen, other.first);
            let channel = &mut self.tracks[index(track)];
            let Some(target) = channel.seen.or(beside).map(|seen| seen.at(now)) else { continue };
            let target = if track == Track::Video { target - BEHIND } else { target };
            let step = channel.step.unwrap_or(if track == Track::Video { PICTURE_STEP } else { FRAME_STEP });
            let begin = match (channel.sent, joined) {
                (Some(sent), _) => sent.dts + step,
                // The connection opens with the picture, and the sound from the start belongs to it.
                (None, Some(joined)) if track == Track::Video => joined.dts,
                (None, _) => target,
            };
            let mut next = channel.fill.unwrap_or(begin);
            if target - next > MOST_FILLED {
                next = target;
            }
            while next <= target {
                fills.push((track, next));
                channel.sent = Some(Seen { now, dts: next });
                channel.foreign = true;
                next += step;
            }
            channel.fill = Some(next);
        }
        fills.sort_by_key(|(_, dts)| *dts);
        fills
    }

    /// Whether a picture will be needed before long, so that it should be made.
    pub(super) fn needs_picture(&self, now: i64) -> bool {
        let never_came = self.tracks[index(Track::Video)].seen.is_none();
        self.stands_in(Track::Video, if never_came { now + PREPARE } else { now })
    }

    /// Whether something stands in for a track.
    pub(super) fn is_filling(&self, track: Track) -> bool {
        self.tracks[index(track)].fill.is_some()
    }

    /// Whether anything went out on a track lately, real or not.
    pub(super) fn is_present(&self, track: Track, now: i64) -> bool {
        let channel = &self.tracks[index(track)];
        channel.sent.is_some_and(|sent| now - sent.now <= GONE_AFTER.max(channel.patience()))
    }

    /// How far those that stand in for a track are apart.
    pub(super) fn set_step(&mut self, track: Track, step: i64) {
        self.tracks[index(track)].step = Some(step.max(LEAST_STEP));
    }

    /// The end has come: nothing stands in any more.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    fn stands_in(&self, track: Track, now: i64) -> bool {
        if self.ended {
            return false;
        }
        let channel = &self.tracks[index(track)];
        let other = &self.tracks[1 - index(track)];
        let Some(newest) = self.tracks.iter().filter_map(|channel| channel.seen).map(|seen| seen.now).max() else {
            return false;
        };
        let silence = now - newest;
        let fresh = |channel: &&Channel| channel.seen.is_some_and(|seen| newest - seen.now <= STOPPED_AT_LAST);
        let patience = self.tracks.iter().filter(fresh).map(Channel::patience).min().unwrap_or(STOPPED_AFTER);
        let stopped = silence >= patience;

        let keeps_up = stopped && silence <= self.policy.grace_ns && channel.sent.is_some();
        let absent = match channel.silent_for(now) {
            Some(silence) => silence >= channel.patience().max(MISSING_AFTER),
            None => other.first.is_some_and(|first| now - first.now >= MISSING_AFTER),
        };
        let missing =
            self.policy.synthesise && absent && other.silent_for(now).is_some_and(|time| time < other.patience());
        // Input is back, but has no keyframe yet.
        let hands_over = channel.fill.is_some()
            && !stopped
            && channel.silent_for(now).is_some_and(|silence| silence <= self.policy.grace_ns.max(STOPPED_AT_LAST));
        keeps_up || missing || hands_over
    }
}

fn index(track: Track) -> usize {
    usize::from(track == Track::Audio)
}

#[cfg(test)]
mod tests;
