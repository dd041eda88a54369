//! The crossing thread, and the order of things on it: a session's begin, its packets, its end, EOS.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    caps,
    chain::{Chain, ChainError},
    crossing::{Message, Receiver, Shared},
};
use crate::{
    codec::{Codec, MediaKind},
    session::{EndReason, KeyframeControl, RtpPacket, Track},
};

/// How often pauses are bridged, and losses counted.
const TICK: Duration = Duration::from_millis(250);
/// A track of a live session is bridged after so long: muted, or its sender has vanished.
const SILENCE: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// How often a chain that downstream has stopped is started anew.
const RESTART_INTERVAL: Duration = Duration::from_millis(500);

/// A pad, and the chain that feeds it while a session has a track for it.
struct Pad {
    ghost: gst::GhostPad,
    chain: Option<Chain>,
    /// Running time up to which there is media, or a bridged pause.
    last: Option<gst::ClockTime>,
    /// What the chain's jitter buffer had lost when that was last counted.
    lost: u64,
    restarted: Option<Instant>,
}

type PadKey = (MediaKind, usize);

/// The session whose packets count.
struct Live {
    number: u64,
    keyframes: Arc<dyn KeyframeControl>,
    /// By the track's index.
    tracks: Vec<(PadKey, Track)>,
    has_media: bool,
}

pub(super) struct Worker<R> {
    shared: Arc<Shared>,
    receiver: R,
    latency: u32,
    eos_on_end: bool,
    pads: BTreeMap<PadKey, Pad>,
    live: Option<Live>,
    ticked: Option<Instant>,
    told_refusal: bool,
    ended: bool,
}

/// The running time of one moment, from which that of any other follows.
#[derive(Clone, Copy)]
struct Now {
    instant: Instant,
    running_time: gst::ClockTime,
}

impl Now {
    fn running_time_at(self, earlier: Instant) -> gst::ClockTime {
        let age = self.instant.saturating_duration_since(earlier);
        let age = gst::ClockTime::from_nseconds(u64::try_from(age.as_nanos()).unwrap_or(0));
        self.running_time.saturating_sub(age)
    }
}

impl<R: Receiver> Worker<R> {
    pub(super) fn new(shared: Arc<Shared>, receiver: R, latency: u32, eos_on_end: bool) -> Self {
        Self {
            shared,
            receiver,
            latency,
            eos_on_end,
            pads: BTreeMap::new(),
            live: None,
            ticked: None,
            told_refusal: false,
            ended: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut messages = VecDeque::new();
        'running: loop {
            self.shared.queue.take_all(&mut messages, TICK);
            let now = self.now();
            for message in messages.drain(..) {
                match message {
                    Message::Begin { number, id, keyframes, tracks } => self.begin(number, &id, keyframes, tracks),
                    Message::Rtp { number, track, packet } => self.packet(now, number, track, &packet),
                    Message::State(state) => self.receiver.state_changed(state),
                    Message::Ended { number, id, reason } => self.session_ended(number, &id, reason),
                    Message::Eos => self.end_of_stream(),
                    Message::Stop => break 'running,
                }
            }
            if self.ticked.is_none_or(|at| at.elapsed() >= TICK) {
                self.ticked = Some(Instant::now());
                self.count_losses();
                self.bridge_pauses();
            }
        }
        if let Some(bin) = self.receiver.bin() {
            self.stop_chains(&bin);
        }
    }

    fn begin(&mut self, number: u64, id: &str, keyframes: Arc<dyn KeyframeControl>, tracks: Vec<Track>) {
        if self.ended {
            return; // answered just before EOS; the element closes it
        }
        let Some(bin) = self.receiver.bin() else { return };
        self.stop_chains(&bin);
        self.told_refusal = false;
        let mut counts = [0; 2];
        let tracks: Vec<(PadKey, Track)> = tracks
            .into_iter()
            .map(|track| {
                let count = &mut counts[usize::from(track.kind() == MediaKind::Video)];
                let key = (track.kind(), *count);
                *count += 1;
                (key, track)
            })
            .collect();
        for (key, track) in &tracks {
            if let Err(error) = self.start_track(&bin, *key, track, &keyframes) {
                self.receiver.failed(&error);
            }
        }
        self.live = Some(Live { number, keyframes, tracks, has_media: false });
        self.receiver.no_more_pads();
        self.receiver.session_started(id);
    }

    fn start_track(
        &mut self,
        bin: &gst::Bin,
        key: PadKey,
        track: &Track,
        keyframes: &Arc<dyn KeyframeControl>,
    ) -> Result<(), ChainError> {
        let (counts, latency) = (self.shared.counts.clone(), self.latency);
        let Some(pad) = self.pad(key, Some(track.codec)) else { return Ok(()) };
        pad.chain = Some(Chain::start(bin, &pad.ghost, track, keyframes, &counts, latency)?);
        pad.lost = 0;
        Ok(())
    }

    /// The pad of this kind and number, made if it is not there yet.
    fn pad(&mut self, key: PadKey, codec: Option<Codec>) -> Option<&mut Pad> {
        if !self.pads.contains_key(&key) {
            let caps = codec.map(caps::media);
            let ghost = self.receiver.add_pad(key.0, key.1, caps.as_ref())?;
            self.pads.insert(key, Pad { ghost, chain: None, last: None, lost: 0, restarted: None });
        }
        self.pads.get_mut(&key)
    }

    fn packet(&mut self, now: Option<Now>, number: u64, track: usize, packet: &RtpPacket) {
        if self.push(now, number, track, packet).is_none() {
            self.shared.unusable.fetch_add(1, Relaxed);
        }
    }

    /// `None` if the packet is of no use: its session has been replaced, the pipeline does not play, downstream refuses.
    fn push(&mut self, now: Option<Now>, number: u64, track: usize, packet: &RtpPacket) -> Option<()> {
        let live = self.live.as_mut().filter(|live| live.number == number)?;
        let key = live.tracks.get(track)?.0;
        live.has_media = true;
        let running_time = now?.running_time_at(packet.arrival);
        if !self.told_refusal && self.pads.values().all(|pad| !pad.ghost.is_linked()) {
            self.told_refusal = true;
            self.receiver.nothing_linked();
        }
        let pad = self.pads.get_mut(&key)?;
        match pad.chain.as_mut()?.push(packet, running_time) {
            Ok(()) => {
                pad.last = pad.last.max(Some(running_time));
                Some(())
            }
            // Nobody was linked for a moment, behind a tee perhaps: the jitter buffer has stopped for good.
            Err(gst::FlowError::NotLinked) => {
                self.restart_track(key, track);
                None
            }
            Err(gst::FlowError::NotNegotiated) if !self.told_refusal => {
                self.told_refusal = true;
                self.receiver.not_negotiated(&pad.ghost);
                None
            }
            // Flushing and EOS are downstream's wish; an error has been posted where it happened.
            Err(_) => None,
        }
    }

    fn restart_track(&mut self, key: PadKey, track: usize) {
        let (Some(bin), Some(live)) = (self.receiver.bin(), &self.live) else { return };
        let (Some((_, track)), keyframes) = (live.tracks.get(track).cloned(), live.keyframes.clone()) else { return };
        let Some(pad) = self.pads.get_mut(&key) else { return };
        if pad.restarted.is_some_and(|at| at.elapsed() < RESTART_INTERVAL) {
            return;
        }
        pad.restarted = Some(Instant::now());
        pad.stop_chain(&bin);
        if let Err(error) = self.start_track(&bin, key, &track, &keyframes) {
            self.receiver.failed(&error);
        }
    }

    /// `None` unless the pipeline plays.
    fn now(&self) -> Option<Now> {
        let running_time = self.receiver.bin()?.current_running_time()?;
        Some(Now { instant: Instant::now(), running_time })
    }

    fn session_ended(&mut self, number: u64, id: &str, reason: EndReason) {
        self.receiver.session_ended(id, reason);
        let Some(live) = self.live.take_if(|live| live.number == number) else { return };
        // One that never sent, or that gave way to the next, does not end the show.
        if self.eos_on_end && live.has_media && reason != EndReason::Replaced {
            self.end_of_stream();
        }
    }

    fn count_losses(&mut self) {
        for pad in self.pads.values_mut() {
            let Some(chain) = &pad.chain else { continue };
            let lost = chain.lost();
            self.shared.counts.lost.fetch_add(lost.saturating_sub(pad.lost), Relaxed);
            pad.lost = lost;
        }
    }

    /// Keeps pads without media going: running time goes on for those who mix or mux.
    fn bridge_pauses(&mut self) {
        let Some(now) = self.now().map(|now| now.running_time).filter(|_| !self.ended) else { return };
        let latency = gst::ClockTime::from_mseconds(self.latency.into());
        for (key, pad) in &mut self.pads {
            let is_live = self.live.as_ref().is_some_and(|live| live.tracks.iter().any(|(live, _)| live == key));
            // What a jitter buffer still holds must not be overtaken.
            let until = if is_live { now.saturating_sub(latency) } else { now };
            let Some(last) = pad.last.filter(|last| *last < until) else { continue };
            if is_live && now.saturating_sub(last) < SILENCE {
                continue;
            }
            pad.ghost.push_event(gst::event::Gap::builder(last).duration(until.saturating_sub(last)).build());
            pad.last = Some(until);
        }
    }

    fn end_of_stream(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.live = None;
        // Links of a launch line wait for pads that no publisher had media for, and the sinks behind them for EOS.
        for kind in [MediaKind::Video, MediaKind::Audio] {
            self.pad((kind, 0), None);
        }
        self.receiver.no_more_pads();
        for pad in self.pads.values() {
            pad.ghost.push_event(gst::event::Eos::new());
        }
        self.receiver.stream_ended();
    }

    fn stop_chains(&mut self, bin: &gst::Bin) {
        self.count_losses();
        for pad in self.pads.values_mut() {
            pad.stop_chain(bin);
        }
    }
}

impl Pad {
    fn stop_chain(&mut self, bin: &gst::Bin) {
        if let Some(chain) = self.chain.take() {
            let _ = self.ghost.set_target(None::<&gst::Pad>);
            chain.stop(bin);
        }
    }
}
