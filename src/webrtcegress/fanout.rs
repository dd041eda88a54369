//! One encoding for all viewers: which format each track has, where its packets go, who is asked for keyframes.
//!
//! The first viewer decides on the formats, by what it takes, in our order of preference; as long as there is one, all later
//! ones get the same or are refused. A viewer that is being answered counts already.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::{
    lane::{Comes, Expected, Lane},
    rate::Rate,
};
use crate::{
    codec::{Codec, MediaKind},
    forward::{Publication, Source},
    session::{
        KeyframeControl, NegotiationError, Outgoing, OutgoingFormat, PacketSink, RtpPacket, SenderReport, Track, takes,
    },
};

/// How often the bitrate is decided anew.
const DECIDE: Duration = Duration::from_millis(100);
/// So much more than what may be used is worth finding out.
const PROBED: f64 = 1.3;

/// What is asked for a keyframe. On the media thread: hand over and return.
pub(super) trait AsksForKeyframes: Send + Sync {
    /// Somebody needs one.
    fn want(&self);
    /// One has gone out.
    fn arrived(&self);
}

/// All that goes out.
pub(super) struct Fanout {
    source: Arc<Source>,
    /// Where the viewers of a session's channel are, beside its peer.
    channel: Option<Arc<Source>>,
    /// In order of preference.
    preferred: Vec<Codec>,
    /// Those of them that there are encoders for.
    makeable: Vec<Codec>,
    asked: Arc<Asked>,
    /// Never held while the source is told anything but a publication.
    state: Mutex<State>,
}

struct State {
    lanes: Vec<Lane>,
    publication: Option<Arc<Publication>>,
    /// The publication lacks a track.
    is_stale: bool,
    /// Viewers that are being answered.
    joining: usize,
    rate: Rate,
    decided: Option<Instant>,
    audio_bitrate: u32,
}

impl Fanout {
    /// Nothing yet. `preferred` are the codecs that may be sent, `makeable` those of them that there are encoders for. The
    /// viewers of a session's `channel` get the same.
    pub(super) fn new(
        media: &Handle,
        preferred: Vec<Codec>,
        makeable: Vec<Codec>,
        (video_bitrate, audio_bitrate): (u32, u32),
        channel: Option<Arc<Source>>,
    ) -> Arc<Self> {
        let source = Arc::new(Source::new(media));
        for source in [Some(&source), channel.as_ref()].into_iter().flatten() {
            source.set_useful(probed(video_bitrate, audio_bitrate));
        }
        let state = State {
            lanes: Vec::new(),
            publication: None,
            is_stale: true,
            joining: 0,
            rate: Rate::new(video_bitrate),
            decided: None,
            audio_bitrate,
        };
        Arc::new(Self { source, channel, preferred, makeable, asked: Arc::default(), state: Mutex::new(state) })
    }

    /// Where viewers join.
    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// A track more; returns its number. That of a pad that is gone is used again.
    pub(super) fn add(&self, kind: MediaKind, keyframes: Weak<dyn AsksForKeyframes>) -> usize {
        let mut state = self.lock();
        let free = |lane: &Lane| lane.kind == kind && lane.comes == Comes::Nothing;
        let index = match state.lanes.iter().position(free) {
            Some(index) => index,
            None => {
                state.lanes.push(Lane { kind, comes: Comes::Nothing, chosen: None, expected: None });
                state.is_stale = true;
                state.lanes.len() - 1
            }
        };
        if let Some(lane) = state.lanes.get_mut(index) {
            lane.comes = Comes::Unknown;
        }
        drop(state);
        lock(&self.asked.lanes).insert(index, keyframes);
        index
    }

    /// The peer will send this. What passes through the pipeline comes here: a track is kept for each of it that has none
    /// yet. `passes` says whether what is on a pad may be of this codec, as far as is known.
    pub(super) fn expect(&self, incoming: &[Track], passes: impl Fn(usize, Codec) -> bool) {
        let mut state = self.lock();
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let tracks: Vec<&Track> = incoming.iter().filter(|track| track.kind() == kind).collect();
            let there = state.lanes.iter().filter(|lane| lane.kind == kind).count();
            for _ in there..tracks.len() {
                state.lanes.push(Lane { kind, comes: Comes::Nothing, chosen: None, expected: None });
                state.is_stale = true;
            }
            let lanes = state.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.kind == kind);
            for ((index, lane), track) in lanes.zip(tracks) {
                let format = OutgoingFormat { codec: track.codec, fmtp: track.fmtp.clone() };
                let passes = lane.comes == Comes::Nothing || passes(index, track.codec);
                lane.expected = Some(Expected { format, passes });
            }
        }
    }

    /// Packets dropped because they came faster than they could be handed on, on the way to anybody.
    pub(super) fn overflowed(&self) -> u64 {
        self.sources().map(|source| source.stats().overflowed).sum()
    }

    /// The least that a network carries of those who watch, in bit/s, as far as it is known.
    pub(super) fn estimate(&self) -> Option<u64> {
        self.sources().flat_map(|source| source.estimates()).flatten().min()
    }

    /// Viewers of the channel, where there is one.
    pub(super) fn channel_viewers(&self) -> Option<usize> {
        self.channel.as_ref().map(|channel| channel.stats().viewers)
    }

    fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        std::iter::once(&self.source).chain(&self.channel)
    }

    /// Viewers of either kind.
    fn viewers(&self) -> usize {
        self.source.stats().viewers + self.channel_viewers().unwrap_or_default()
    }

    /// What comes on a track is known now, or its pad is gone.
    pub(super) fn set_comes(&self, index: usize, comes: Comes) {
        if let Some(lane) = self.lock().lanes.get_mut(index) {
            lane.comes = comes;
        }
    }

    /// What a track is sent in, as long as somebody gets it.
    pub(super) fn wanted(&self, index: usize) -> Option<Codec> {
        if self.viewers() == 0 {
            return None;
        }
        self.lock().lanes.get(index)?.chosen.as_ref().map(|format| format.codec)
    }

    /// Whether there is a track, and of each is known what comes.
    pub(super) fn is_known(&self) -> bool {
        let state = self.lock();
        !state.lanes.is_empty() && state.lanes.iter().all(|lane| lane.comes != Comes::Unknown)
    }

    /// What there is to send, by track, as a newcomer can have it.
    pub(super) fn outgoing(&self) -> Vec<Outgoing> {
        let state = self.lock();
        let is_free = self.is_free(&state);
        self.formats(&state, is_free)
    }

    /// Decides on the formats for a viewer that makes this offer. `None` if there is nothing to send yet.
    pub(super) fn decide(self: &Arc<Self>, offer: &str) -> Result<Option<Decided>, NegotiationError> {
        let mut state = self.lock();
        let is_free = self.is_free(&state);
        let outgoing = self.formats(&state, is_free);
        if outgoing.iter().all(|outgoing| outgoing.formats.is_empty()) {
            return Ok(None);
        }
        let taken = takes(offer, &outgoing)?;
        self.choose(&mut state, &outgoing, &taken, is_free);
        state.joining += 1;
        Ok(Some(Decided { fanout: self.clone() }))
    }

    /// The same for a viewer that has taken this of [`outgoing`](Self::outgoing) when it was offered. `None` if something else
    /// has been decided meanwhile.
    pub(super) fn settle(self: &Arc<Self>, taken: &[Track]) -> Option<Decided> {
        let mut state = self.lock();
        let is_free = self.is_free(&state);
        let outgoing = self.formats(&state, is_free);
        let is_there = |track: &Track| {
            let formats = outgoing.get(track.index).map(|outgoing| &outgoing.formats);
            formats.is_some_and(|formats| formats.iter().any(|format| format.codec == track.codec))
        };
        if !taken.iter().all(is_there) {
            return None;
        }
        self.choose(&mut state, &outgoing, taken, is_free);
        state.joining += 1;
        Some(Decided { fanout: self.clone() })
    }

    /// What a peer has taken of [`outgoing`](Self::outgoing).
    pub(super) fn agreed(&self, taken: &[Track]) {
        let mut state = self.lock();
        let is_free = self.is_free(&state);
        let outgoing = self.formats(&state, is_free);
        self.choose(&mut state, &outgoing, taken, is_free);
    }

    /// Nobody has to be kept in mind: formats may be chosen anew.
    fn is_free(&self, state: &State) -> bool {
        state.joining == 0 && self.viewers() == 0
    }

    fn formats(&self, state: &State, is_free: bool) -> Vec<Outgoing> {
        let formats = |lane: &Lane| match &lane.chosen {
            Some(chosen) if !is_free && lane.comes != Comes::Nothing => vec![chosen.clone()],
            _ => lane.formats(&self.preferred, &self.makeable),
        };
        state.lanes.iter().map(|lane| Outgoing { kind: lane.kind, formats: formats(lane) }).collect()
    }

    fn choose(&self, state: &mut State, outgoing: &[Outgoing], taken: &[Track], is_free: bool) {
        let mut changed = state.is_stale || state.publication.is_none();
        for (index, (lane, outgoing)) in state.lanes.iter_mut().zip(outgoing).enumerate() {
            let format: Option<&OutgoingFormat> = match taken.iter().find(|track| track.index == index) {
                Some(track) => outgoing.formats.iter().find(|format| format.codec == track.codec),
                // What this one does not take the next one may.
                None if is_free || lane.chosen.is_none() => outgoing.formats.first(),
                None => None,
            };
            if let Some(format) = format.filter(|format| lane.chosen.as_ref() != Some(format)) {
                lane.chosen = Some(format.clone());
                changed = true;
            }
        }
        if changed {
            state.is_stale = false;
            let tracks: Vec<Track> = state.lanes.iter().enumerate().map(|(index, lane)| lane.track(index)).collect();
            // Each has a number of its own for a track: what a channel's viewers watched before may have had others.
            let also = self.channel.as_ref().map(|channel| {
                let publication = channel.publish(&tracks, None);
                publication.begin(self.asked.clone());
                publication as Arc<dyn PacketSink>
            });
            let publication = self.source.publish(&tracks, also);
            publication.begin(self.asked.clone());
            state.publication = Some(publication);
        }
    }

    /// Hands over packets of a track, and then what `report` says of its time.
    pub(super) fn send(&self, index: usize, packets: impl Iterator<Item = RtpPacket>, report: Option<SenderReport>) {
        let Some(publication) = self.lock().publication.clone() else { return };
        for packet in packets {
            publication.rtp(index, packet);
        }
        if let Some(report) = report {
            publication.sender_report(index, report);
        }
    }

    /// How many bits the video encoder of a track may make now.
    pub(super) fn video_bitrate(&self, now: Instant) -> u32 {
        let mut state = self.lock();
        let is_due = state.decided.is_none_or(|last| now.saturating_duration_since(last) >= DECIDE);
        if is_due {
            state.decided = Some(now);
            let estimates: Vec<_> = self.sources().flat_map(|source| source.bounds(now)).collect();
            let of = |kind| state.lanes.iter().filter(|l| l.kind == kind && l.comes != Comes::Nothing).count();
            let audio = u32::try_from(of(MediaKind::Audio)).unwrap_or(0).saturating_mul(state.audio_bitrate);
            let videos = u32::try_from(of(MediaKind::Video)).unwrap_or(1).max(1);
            // Tracks of one kind share what there is.
            let shared: Vec<_> = estimates.into_iter().map(|e| e.map(|e| e / u64::from(videos))).collect();
            state.rate.decide(&shared, audio / videos, now);
        }
        state.rate.current()
    }

    /// The user's upper bound.
    pub(super) fn set_most(&self, video_bitrate: u32, audio_bitrate: u32) {
        let mut state = self.lock();
        state.rate.set_most(video_bitrate);
        state.audio_bitrate = audio_bitrate;
        drop(state);
        for source in self.sources() {
            source.set_useful(probed(video_bitrate, audio_bitrate));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn probed(video_bitrate: u32, audio_bitrate: u32) -> u64 {
    ((f64::from(video_bitrate) + f64::from(audio_bitrate)) * PROBED) as u64
}

/// A viewer that is being answered: until this is dropped, nobody else decides.
pub(super) struct Decided {
    fanout: Arc<Fanout>,
}

impl Drop for Decided {
    fn drop(&mut self) {
        let mut state = self.fanout.lock();
        state.joining = state.joining.saturating_sub(1);
    }
}

/// Who is asked for keyframes, by track.
#[derive(Default)]
struct Asked {
    lanes: Mutex<HashMap<usize, Weak<dyn AsksForKeyframes>>>,
}

impl Asked {
    fn of(&self, track: usize) -> Option<Arc<dyn AsksForKeyframes>> {
        lock(&self.lanes).get(&track)?.upgrade()
    }
}

impl KeyframeControl for Asked {
    fn request_keyframe(&self, track: usize) {
        if let Some(lane) = self.of(track) {
            lane.want();
        }
    }

    fn keyframe_arrived(&self, track: usize) {
        if let Some(lane) = self.of(track) {
            lane.arrived();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
