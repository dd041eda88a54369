//! The crossing thread, and the order of things on it: a session's begin, its packets, its end, EOS.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    caps,
    chain::{Chain, Counts, JitterBufferCounts},
    crossing::{Message, Receiver, Shared},
    elements::ChainError,
    restamp::{Now, SessionClock},
};
use crate::{
    codec::{Codec, MediaKind},
    session::{EndReason, KeyframeControl, RtpPacket, SenderReport, Track},
};

/// How often pauses are bridged, and chains looked at.
const TICK: Duration = Duration::from_millis(250);
/// A track of a live session is bridged after so long: muted, or its sender has vanished.
const SILENCE: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// How often a chain that downstream has stopped is started anew.
const RESTART_INTERVAL: Duration = Duration::from_millis(500);

/// A pad, and the chain that feeds it while a session has a track for it.
struct Pad {
    ghost: gst::GhostPad,
    chain: Option<Chain>,
    /// Running time up to which there was media or a bridged pause when that was last looked at.
    last: Option<gst::ClockTime>,
    /// Running time at which the last packet came that was not padding.
    heard: Option<gst::ClockTime>,
    /// What the chain's jitter buffer had counted when that was last looked at.
    counted: JitterBufferCounts,
    restarted: Option<Instant>,
}

type PadKey = (MediaKind, usize);

/// The session whose packets count.
struct Live {
    number: u64,
    keyframes: Arc<dyn KeyframeControl>,
    /// By the track's index.
    tracks: Vec<(PadKey, Track)>,
    clock: Arc<SessionClock>,
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
                    Message::Report { number, track, report } => self.report(now, number, track, &report),
                    Message::State(state) => self.receiver.state_changed(state),
                    Message::Ended { number, id, reason } => self.session_ended(number, &id, reason),
                    Message::Eos => self.end_of_stream(),
                    Message::Stop => break 'running,
                }
            }
            if self.ticked.is_none_or(|at| at.elapsed() >= TICK) {
                self.ticked = Some(Instant::now());
                self.look_at_chains();
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
        let only: Vec<Track> = tracks.iter().map(|(_, track)| track.clone()).collect();
        let floor = |track: usize| self.pads.get(&tracks.get(track)?.0)?.last;
        let clock = SessionClock::new(&only, floor);
        *self.shared.clock() = Some(clock.clone());
        for (key, track) in &tracks {
            if let Err(error) = self.start_track(&bin, *key, track, &keyframes, &clock) {
                self.receiver.failed(&error);
            }
        }
        self.live = Some(Live { number, keyframes, tracks, clock, has_media: false });
        self.receiver.no_more_pads();
        self.receiver.session_started(id);
    }

    fn start_track(
        &mut self,
        bin: &gst::Bin,
        key: PadKey,
        track: &Track,
        keyframes: &Arc<dyn KeyframeControl>,
        clock: &Arc<SessionClock>,
    ) -> Result<(), ChainError> {
        let (counts, latency) = (self.shared.counts.clone(), self.latency);
        let Some(pad) = self.pad(key, Some(track.codec)) else { return Ok(()) };
        pad.chain = Some(Chain::start_on(clock, bin, &pad.ghost, track, keyframes, &counts, latency)?);
        pad.heard = None;
        Ok(())
    }

    /// The pad of this kind and number, made if it is not there yet.
    fn pad(&mut self, key: PadKey, codec: Option<Codec>) -> Option<&mut Pad> {
        if !self.pads.contains_key(&key) {
            let caps = codec.map(caps::media);
            let ghost = self.receiver.add_pad(key.0, key.1, caps.as_ref())?;
            self.pads.insert(
                key,
                Pad {
                    ghost,
                    chain: None,
                    last: None,
                    heard: None,
                    counted: JitterBufferCounts::default(),
                    restarted: None,
                },
            );
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
                if !packet.payload.is_empty() {
                    pad.heard = Some(running_time);
                }
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
        let (keyframes, clock) = (live.keyframes.clone(), live.clock.clone());
        let Some((_, track)) = live.tracks.get(track).cloned() else { return };
        let Some(pad) = self.pads.get_mut(&key) else { return };
        if pad.restarted.is_some_and(|at| at.elapsed() < RESTART_INTERVAL) {
            return;
        }
        pad.restarted = Some(Instant::now());
        pad.stop_chain(&bin);
        if let Err(error) = self.start_track(&bin, key, &track, &keyframes, &clock) {
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

    fn report(&self, now: Option<Now>, number: u64, track: usize, report: &SenderReport) {
        if let (Some(now), Some(live)) = (now, self.live.as_ref().filter(|live| live.number == number)) {
            live.clock.report(track, report, now);
        }
    }

    /// Takes over what chains have counted, and how far they are.
    fn look_at_chains(&mut self) {
        let counts = &self.shared.counts;
        for pad in self.pads.values_mut() {
            pad.look_at_chain(counts);
        }
    }

    /// Keeps pads without media going: running time goes on for those who mix or mux.
    fn bridge_pauses(&mut self) {
        let Some(now) = self.now().map(|now| now.running_time).filter(|_| !self.ended) else { return };
        let latency = gst::ClockTime::from_mseconds(self.latency.into());
        for (key, pad) in &mut self.pads {
            let track = self.live.as_ref().and_then(|live| {
                let (_, track) = live.tracks.iter().find(|(live, _)| live == key)?;
                Some((&live.clock, track.index))
            });
            let until = match track {
                None => now,
                Some(_) if pad.heard.is_some_and(|heard| now.saturating_sub(heard) < SILENCE) => continue,
                // What is late must not be overtaken.
                Some((clock, track)) => clock.expected(track, now).saturating_sub(latency),
            };
            pad.bridge(until, now);
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
        self.shared.end_data();
        self.receiver.stream_ended();
    }

    fn stop_chains(&mut self, bin: &gst::Bin) {
        self.look_at_chains();
        for pad in self.pads.values_mut() {
            pad.stop_chain(bin);
        }
    }
}

impl Pad {
    fn look_at_chain(&mut self, counts: &Counts) {
        let Some(chain) = &self.chain else { return };
        self.last = self.last.max(chain.position());
        let (new, old) = (chain.jitter_buffer_counts(), self.counted);
        counts.lost.fetch_add(new.lost.saturating_sub(old.lost), Relaxed);
        counts.late.fetch_add(new.late.saturating_sub(old.late), Relaxed);
        counts.duplicates.fetch_add(new.duplicates.saturating_sub(old.duplicates), Relaxed);
        counts.padding.fetch_add(new.padding.saturating_sub(old.padding), Relaxed);
        self.counted = new;
    }

    /// Says downstream that nothing comes up to `until`, if that is so.
    fn bridge(&mut self, until: gst::ClockTime, now: gst::ClockTime) {
        let Some(last) = self.last.filter(|last| *last < until) else { return };
        match &mut self.chain {
            // Behind the frames before the pause: downstream may still be busy with these.
            Some(chain) if chain.position().is_some() => chain.bridge(last, until, now),
            // A parser that has seen nothing yet could not pass it on.
            _ => {
                self.ghost.push_event(gst::event::Gap::builder(last).duration(until.saturating_sub(last)).build());
                self.last = Some(until);
            }
        }
    }

    fn stop_chain(&mut self, bin: &gst::Bin) {
        if let Some(chain) = self.chain.take() {
            let _ = self.ghost.set_target(None::<&gst::Pad>);
            chain.stop(bin);
            self.counted = JitterBufferCounts::default();
        }
    }
}
