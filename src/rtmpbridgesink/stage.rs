//! Where both tracks, and what stands in for them, come together in one order on their way to the destinations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use bytes::Bytes;

use super::{
    show::{PICTURE_STEP, Policy, Show, Verdict},
    silence::Silence,
    timeline::{Repair, Stamps},
};
use crate::{
    flv::{AudioCodec, VideoCodec, VideoInfo},
    rtmp::{Format, KeyframeRequests, Track, Unit},
    transcode::Still,
};

/// A group of pictures beyond this is not kept to find its last picture: the first one has to do.
const MOST_PICTURES: usize = 600;
const MOST_BYTES: usize = 16 << 20;

/// What comes out of a chain.
pub(super) struct Candidate {
    pub(super) format: Arc<Format>,
    pub(super) stamps: Stamps,
    pub(super) keyframe: bool,
    /// Whether pictures may come before others that are shown earlier, and not say so.
    pub(super) may_reorder: bool,
    pub(super) data: Bytes,
}

/// What handing over a unit has led to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// A keyframe of the input is needed.
    pub(super) ask: bool,
    /// A track has been without anything for so long that it is no longer part of the show.
    pub(super) gone: Option<Track>,
}

/// What was done to timestamps and in place of input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) backward: u64,
    pub(super) duplicate: u64,
    pub(super) jump: u64,
    pub(super) wrap: u64,
    pub(super) missing: u64,
    /// Units that stood in for video and audio.
    pub(super) filled: [u64; 2],
    /// Whether something stands in for them now.
    pub(super) filling: [bool; 2],
}

impl Counts {
    pub(super) fn repaired(&self) -> u64 {
        self.backward + self.duplicate + self.jump + self.wrap + self.missing
    }
}

/// What a picture is wanted of.
pub(super) enum Subject {
    /// Video that has stopped: its configuration, and what came since its last keyframe.
    Last { configuration: Bytes, info: VideoInfo, group: Vec<Bytes> },
    /// Video that never came.
    Nothing,
}

/// Its lock is held while units are handed to the destinations, which never wait: order is what it is for. Nothing is
/// pushed into pads, asked upstream or posted under it.
#[derive(Default)]
pub(super) struct Stage(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    show: Show,
    /// Whether a last picture may be wanted.
    keeps_group: bool,
    /// What silence is where no audio has come.
    audio_codec: AudioCodec,
    /// Video since the last keyframe, as long as that is all of it.
    group: Vec<Bytes>,
    group_overflows: bool,
    formats: [Option<Arc<Format>>; 2],
    still: Option<Loop>,
    still_failed: bool,
    silence: Option<(Arc<Format>, Bytes)>,
    requests: KeyframeRequests,
    counts: Counts,
}

/// A still picture, sent over and over.
struct Loop {
    format: Arc<Format>,
    units: Vec<(bool, Bytes)>,
    next: usize,
}

impl Stage {
    pub(super) fn new(policy: Policy, audio_codec: AudioCodec) -> Self {
        Self(Mutex::new(Inner::new(policy, audio_codec)))
    }

    /// A new stream: only the counts go on.
    pub(super) fn restart(&self, policy: Policy) {
        let mut inner = self.lock();
        *inner = Inner { counts: inner.counts, ..Inner::new(policy, inner.audio_codec) };
    }

    /// Takes what came out of a chain at `now`, and hands over what is to be sent.
    pub(super) fn unit(&self, candidate: Candidate, now: i64, hand_over: impl FnOnce(Unit)) -> Outcome {
        let mut inner = self.lock();
        let Candidate { format, stamps, keyframe, may_reorder, data } = candidate;
        let track = if matches!(*format, Format::Video(..)) { Track::Video } else { Track::Audio };
        let stamps = if may_reorder { inner.show.in_order(stamps) } else { stamps };
        let (dts, pts) = match inner.show.unit(track, keyframe, stamps, now) {
            Verdict::Send { dts, pts, repair } => {
                inner.count(repair);
                (dts, pts)
            }
            Verdict::Drop => return Outcome::default(),
            Verdict::DropAndAsk => {
                let ask = inner.requests.should_ask(std::time::Instant::now());
                return Outcome { ask, gone: None };
            }
        };
        inner.remember(track, &format, keyframe, &data);
        hand_over(Unit { format, dts, pts, keyframe, data });
        Outcome { ask: false, gone: inner.gone(track, now) }
    }

    /// Hands over what has to stand in by `now`.
    pub(super) fn tick(&self, now: i64, mut hand_over: impl FnMut(Unit)) {
        let mut inner = self.lock();
        let has_picture = inner.still.is_some();
        for (track, dts) in inner.show.tick(now, has_picture) {
            if let Some((format, keyframe, data)) = inner.stand_in(track) {
                inner.counts.filled[index(track)] += 1;
                hand_over(Unit { format, dts, pts: dts, keyframe, data });
            }
        }
    }

    /// What a picture has to be made of, if one is needed soon and there is none.
    pub(super) fn needs_picture(&self, now: i64) -> Option<Subject> {
        let inner = self.lock();
        if inner.still.is_some() || inner.still_failed || !inner.show.needs_picture(now) {
            return None;
        }
        Some(match inner.formats[index(Track::Video)].as_deref() {
            Some(Format::Video(configuration, info)) => {
                Subject::Last { configuration: configuration.clone(), info: info.clone(), group: inner.group.clone() }
            }
            _ => Subject::Nothing,
        })
    }

    /// Takes the picture, or that there is none. Video that came back meanwhile needs none any more.
    pub(super) fn set_picture(&self, still: Option<Still>, now: i64) {
        let mut inner = self.lock();
        if !inner.show.needs_picture(now) {
            return;
        }
        inner.still_failed = still.is_none();
        let Some(still) = still else { return };
        let known = inner.formats[index(Track::Video)].as_deref();
        // As the video was, so that the metadata goes on to hold.
        let info = match known {
            Some(Format::Video(_, info)) if (info.width, info.height) == (still.width, still.height) => info.clone(),
            _ => VideoInfo {
                width: still.width,
                height: still.height,
                codec: VideoCodec::H264,
                frame_rate: Some(1e9 / PICTURE_STEP as f64),
                bitrate: None,
            },
        };
        let format = Arc::new(Format::Video(still.configuration, info));
        inner.still = Some(Loop { format, units: still.units, next: 0 });
    }

    /// A destination needs a keyframe: what stands in goes on with one.
    pub(super) fn begin_group(&self) {
        if let Some(still) = &mut self.lock().still {
            still.begin_group();
        }
    }

    /// The end has come.
    pub(super) fn end(&self) {
        self.lock().show.end();
    }

    /// A repair that was made before the chains.
    pub(super) fn count(&self, repair: Repair) {
        self.lock().count(Some(repair));
    }

    pub(super) fn counts(&self) -> Counts {
        let inner = self.lock();
        let filling = [Track::Video, Track::Audio].map(|track| inner.show.is_filling(track));
        Counts { filling, ..inner.counts }
    }

    /// Whether somebody is handing over.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.0.try_lock(), Err(TryLockError::WouldBlock))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new(policy: Policy, audio_codec: AudioCodec) -> Self {
        let keeps_group = policy.synthesise || policy.grace_ns > 0;
        let mut show = Show::new(policy);
        show.set_step(Track::Audio, Silence::of(audio_codec).duration_ns);
        Self { show, keeps_group, audio_codec, ..Self::default() }
    }

    fn count(&mut self, repair: Option<Repair>) {
        match repair {
            None => {}
            Some(Repair::Backward) => self.counts.backward += 1,
            Some(Repair::Duplicate) => self.counts.duplicate += 1,
            Some(Repair::Jump) => self.counts.jump += 1,
            Some(Repair::Wrap) => self.counts.wrap += 1,
            Some(Repair::Missing) => self.counts.missing += 1,
        }
    }

    /// Takes note of a real unit, to continue it if it is the last.
    fn remember(&mut self, track: Track, format: &Arc<Format>, keyframe: bool, data: &Bytes) {
        let known = &mut self.formats[index(track)];
        let changed = known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, format));
        if changed {
            *known = Some(format.clone());
        }
        match track {
            Track::Audio if changed => {
                let silence = Silence::after(format);
                self.show.set_step(track, silence.duration_ns);
                self.silence = Some((Arc::new(silence.format), silence.frame));
            }
            Track::Audio => {}
            Track::Video => {
                if keyframe {
                    self.requests.came();
                    self.group.clear();
                    self.group_overflows = false;
                    (self.still, self.still_failed) = (None, false);
                }
                if self.keeps_group && !self.group_overflows && (keyframe || !self.group.is_empty()) {
                    self.group.push(data.clone());
                    let bytes: usize = self.group.iter().map(Bytes::len).sum();
                    self.group_overflows = self.group.len() > MOST_PICTURES || bytes > MOST_BYTES;
                    if self.group_overflows {
                        self.group.truncate(1);
                    }
                }
            }
        }
    }

    /// The next unit that stands in for a track, where there is one.
    fn stand_in(&mut self, track: Track) -> Option<(Arc<Format>, bool, Bytes)> {
        match track {
            Track::Video => {
                let still = self.still.as_mut()?;
                let (keyframe, data) = still.next()?;
                Some((still.format.clone(), keyframe, data))
            }
            Track::Audio => {
                let codec = self.audio_codec;
                let none = || {
                    let silence = Silence::of(codec);
                    (Arc::new(silence.format), silence.frame)
                };
                let (format, frame) = self.silence.get_or_insert_with(none).clone();
                Some((format, true, frame))
            }
        }
    }

    /// The other track, if it has left.
    fn gone(&mut self, track: Track, now: i64) -> Option<Track> {
        let other = if track == Track::Video { Track::Audio } else { Track::Video };
        let left = self.formats[index(other)].is_some() && !self.show.is_present(other, now);
        left.then(|| {
            self.formats[index(other)] = None;
            other
        })
    }
}

impl Loop {
    fn next(&mut self) -> Option<(bool, Bytes)> {
        let unit = self.units.get(self.next).cloned();
        self.next = (self.next + 1) % self.units.len().max(1);
        unit
    }

    fn begin_group(&mut self) {
        let count = self.units.len();
        let keyframe = (self.next..self.next + count).find(|at| self.units.get(at % count).is_some_and(|unit| unit.0));
        self.next = keyframe.unwrap_or_default() % count.max(1);
    }
}

fn index(track: Track) -> usize {
    usize::from(track == Track::Audio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframe_asked_for_comes_next_and_is_not_the_one_before() {
        let unit = |name: &'static [u8], keyframe| (keyframe, Bytes::from_static(name));
        let units = vec![unit(b"I0", true), unit(b"p", false), unit(b"I1", true), unit(b"q", false)];
        let format = Arc::new(Format::Video(Bytes::new(), VideoInfo::default()));
        let mut still = Loop { format, units, next: 0 };
        let mut take = |asked: bool| {
            if asked {
                still.begin_group();
            }
            still.next().map(|(_, data)| data).unwrap_or_default()
        };
        let sent: Vec<_> = [false, true, false, false, true, false].into_iter().map(&mut take).collect();
        assert_eq!(sent, ["I0", "I1", "q", "I0", "I1", "q"]);
    }

    #[test]
    fn track_that_has_left_is_told_once() {
        let stage = Stage::default();
        let second = 1_000_000_000;
        let take = |format: &Arc<Format>, at: i64| {
            let stamps = Stamps { dts: Some(at * second), pts: Some(at * second) };
            let candidate =
                Candidate { format: format.clone(), stamps, keyframe: true, may_reorder: false, data: Bytes::new() };
            stage.unit(candidate, at * second, |_| {}).gone
        };
        let video = Arc::new(Format::Video(Bytes::new(), VideoInfo::default()));
        let audio = Arc::new(Silence::of(AudioCodec::Aac).format);
        assert_eq!(take(&audio, 0), None);
        let gone: Vec<_> = (0..10).map(|at| take(&video, at)).collect();
        assert_eq!(gone.iter().position(Option::is_some), Some(6), "{gone:?}");
        assert_eq!(gone.iter().flatten().collect::<Vec<_>>(), [&Track::Audio]);
    }
}
