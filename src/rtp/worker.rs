//! The crossing thread, and the order of things on it: a session's begin, its end, EOS. Packets go past it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    caps,
    chain::{Chain, Origin},
    clock::{Now, SessionClock},
    crossing::{Begun, Message, Receiver, Shared},
    elements::ChainError,
    inlet::Inlet,
};
use crate::{
    codec::{Codec, MediaKind},
    session::{EndReason, KeyframeControl, SenderReport, Track},
};

/// How often pauses are bridged, and chains looked at.
const TICK: Duration = Duration::from_millis(250);
/// A track of a live session is bridged after so long: muted, or its sender has vanished.
const SILENCE: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// A pad, and the chain that feeds it while a session has a track for it.
struct Pad {
    ghost: gst::GhostPad,
    chain: Option<Chain>,
    /// Running time up to which there was media or a bridged pause when that was last looked at.
    last: Option<gst::ClockTime>,
}

type PadKey = (MediaKind, usize);

/// The session whose packets count.
struct Live {
    number: u64,
    tracks: Vec<(PadKey, Track)>,
    inlets: Vec<Arc<Inlet>>,
    clock: Arc<SessionClock>,
}

pub(super) struct Worker<R> {
    shared: Arc<Shared>,
    receiver: R,
    latency: Duration,
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
            latency: Duration::from_millis(latency.into()),
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
                    Message::Begin { number, id, begun } => self.begin(number, &id, begun),
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

    fn begin(&mut self, number: u64, id: &str, begun: Begun) {
        if self.ended {
            return; // answered just before EOS; the element closes it
        }
        let Some(bin) = self.receiver.bin() else { return };
        self.stop_chains(&bin);
        self.told_refusal = false;
        let Begun { keyframes, tracks: only, entries } = begun;
        let mut counts = [0; 2];
        let tracks: Vec<(PadKey, Track)> = only
            .iter()
            .map(|track| {
                let count = &mut counts[usize::from(track.kind() == MediaKind::Video)];
                let key = (track.kind(), *count);
                *count += 1;
                (key, track.clone())
            })
            .collect();
        let floor = |track: usize| self.pads.get(&tracks.get(track)?.0)?.last;
        let clock = SessionClock::new(&only, floor);
        *self.shared.clock() = Some(clock.clone());
        for ((key, track), entry) in tracks.iter().zip(entries.iter()) {
            // A session that goes on may have had its end here.
            entry.inlet.open();
            if let Err(error) = self.start_track(&bin, *key, track, &entry.inlet, &keyframes, &clock) {
                entry.inlet.stop();
                self.receiver.failed(&error);
            }
        }
        let inlets = entries.iter().map(|entry| entry.inlet.clone()).collect();
        self.live = Some(Live { number, tracks, inlets, clock });
        self.receiver.no_more_pads();
        self.receiver.session_started(id);
    }

    fn start_track(
        &mut self,
        bin: &gst::Bin,
        key: PadKey,
        track: &Track,
        inlet: &Arc<Inlet>,
        keyframes: &Arc<dyn KeyframeControl>,
        clock: &Arc<SessionClock>,
    ) -> Result<(), ChainError> {
        let (counts, latency) = (self.shared.counts.clone(), self.latency);
        let Some(pad) = self.pad(key, Some(track.codec)) else { return Ok(()) };
        let origin = Origin { inlet, clock, keyframes, counts: &counts, latency };
        pad.chain = Some(Chain::start_on(bin, &pad.ghost, track, origin)?);
        Ok(())
    }

    /// The pad of this kind and number, made if it is not there yet.
    fn pad(&mut self, key: PadKey, codec: Option<Codec>) -> Option<&mut Pad> {
        if !self.pads.contains_key(&key) {
            let caps = codec.map(caps::media);
            let ghost = self.receiver.add_pad(key.0, key.1, caps.as_ref())?;
            self.pads.insert(key, Pad { ghost, chain: None, last: None });
        }
        self.pads.get_mut(&key)
    }

    /// `None` unless the pipeline plays.
    fn now(&self) -> Option<Now> {
        let running_time = self.receiver.bin()?.current_running_time()?;
        Some(Now { instant: Instant::now(), running_time })
    }

    fn session_ended(&mut self, number: u64, id: &str, reason: EndReason) {
        self.receiver.session_ended(id, reason);
        let Some(live) = self.live.take_if(|live| live.number == number) else { return };
        live.inlets.iter().for_each(|inlet| inlet.finish());
        // One that never sent, or that gave way to the next, does not end the show.
        if self.eos_on_end && self.has_media() && reason != EndReason::Replaced {
            self.end_of_stream();
        }
    }

    fn report(&self, now: Option<Now>, number: u64, track: usize, report: &SenderReport) {
        if let (Some(now), Some(live)) = (now, self.live.as_ref().filter(|live| live.number == number)) {
            live.clock.report(track, report, now);
        }
    }

    /// Whether the session has sent anything.
    fn has_media(&self) -> bool {
        self.pads.values().any(|pad| pad.chain.as_ref().is_some_and(|chain| chain.signs().media.load(Relaxed)))
    }

    /// Sees how far chains are, and tells once what becomes of what comes if that is nothing.
    fn look_at_chains(&mut self) {
        for pad in self.pads.values_mut() {
            pad.look_at_chain();
        }
        if self.told_refusal {
            return;
        }
        let refuses = |pad: &&Pad| pad.chain.as_ref().is_some_and(|chain| chain.signs().not_negotiated.load(Relaxed));
        if let Some(pad) = self.pads.values().find(refuses) {
            self.told_refusal = true;
            self.receiver.not_negotiated(&pad.ghost);
        } else if self.live.is_some() && self.has_media() && self.pads.values().all(|pad| !pad.ghost.is_linked()) {
            self.told_refusal = true;
            self.receiver.nothing_linked();
        }
    }

    /// Keeps pads without media going: running time goes on for those who mix or mux.
    fn bridge_pauses(&mut self) {
        let Some(now) = self.now().map(|now| now.running_time).filter(|_| !self.ended) else { return };
        let latency = gst::ClockTime::try_from(self.latency).unwrap_or(gst::ClockTime::ZERO);
        for (key, pad) in &mut self.pads {
            let track = self.live.as_ref().and_then(|live| {
                let (_, track) = live.tracks.iter().find(|(live, _)| live == key)?;
                Some((&live.clock, track.index))
            });
            let until = match track {
                None => now,
                Some(_) if pad.heard().is_some_and(|heard| now.saturating_sub(heard) < SILENCE) => continue,
                // What is late must not be overtaken.
                Some((clock, track)) => clock.expected(track, now).saturating_sub(latency),
            };
            pad.bridge(until);
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
        for pad in self.pads.values_mut() {
            if let Some(chain) = &mut pad.chain {
                chain.finish();
            }
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
    fn look_at_chain(&mut self) {
        self.last = self.last.max(self.chain.as_ref().and_then(Chain::position));
    }

    /// Running time at which the last packet came that was not padding.
    fn heard(&self) -> Option<gst::ClockTime> {
        let heard = self.chain.as_ref()?.signs().heard.load(Relaxed);
        (heard > 0).then(|| gst::ClockTime::from_nseconds(heard))
    }

    /// Says downstream that nothing comes up to `until`, if that is so.
    fn bridge(&mut self, until: gst::ClockTime) {
        let Some(last) = self.last.filter(|last| *last < until) else { return };
        match &mut self.chain {
            // Behind the frames before the pause: downstream may still be busy with these.
            Some(chain) if chain.position().is_some() => chain.bridge(last, until),
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
        }
    }
}
