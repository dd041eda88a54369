//! What runs behind one pad for one track of one session: packets in, frames out. Which elements that takes is in
//! `elements`, the thread that feeds them in `lane`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use gst::prelude::*;

use super::{
    caps,
    clock::SessionClock,
    elements::{ChainError, elements},
    inlet::Inlet,
    lane::{self, Signs},
};
use crate::{
    codec::MediaKind,
    session::{KeyframeControl, RtpPacket, Track},
};

/// What the chains of one kind have counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames that went on.
    pub frames: AtomicU64,
    /// Frames dropped because nothing is linked.
    pub unlinked: AtomicU64,
    /// Frames dropped while waiting for a keyframe.
    pub waiting: AtomicU64,
    /// Packets dropped because downstream takes nothing.
    pub backlog: AtomicU64,
    /// Packets that did not come in time.
    pub lost: AtomicU64,
    /// Of these, such that came after all.
    pub late: AtomicU64,
    /// Packets that came more than once.
    pub duplicates: AtomicU64,
    /// Pictures whose sender has thrown the end of them away.
    pub cut_short: AtomicU64,
    /// Packets that came behind later ones, because they were sent again or overtaken.
    pub disordered: AtomicU64,
    /// Packets of padding only.
    pub padding: AtomicU64,
    /// Packets whose sequence number fits nowhere.
    pub stray: AtomicU64,
    /// Packets of sessions that are over, or that downstream refuses, or while the pipeline does not play.
    pub unusable: AtomicU64,
}

/// Where a chain's output is in time.
#[derive(Default)]
struct Position {
    /// End of the last frame or bridged pause in ns of running time; 0 before the first.
    reached: AtomicU64,
}

/// A running chain. Dropping it does not stop it: [`Chain::stop`] does.
pub struct Chain {
    inlet: Arc<Inlet>,
    source: gst::Pad,
    elements: Vec<gst::Element>,
    position: Arc<Position>,
    signs: Arc<Signs>,
    thread: Option<JoinHandle<()>>,
    /// Up to where the pause that is on its way through the chain is bridged.
    bridged: u64,
}

/// Where packets come from, and what they are placed in time by.
pub(super) struct Origin<'a> {
    pub(super) inlet: &'a Arc<Inlet>,
    pub(super) clock: &'a Arc<SessionClock>,
    pub(super) keyframes: &'a Arc<dyn KeyframeControl>,
    pub(super) counts: &'a Arc<Counts>,
    /// The most that packets are held for a missing one.
    pub(super) latency: Duration,
}

impl Origin<'_> {
    /// What carries packets from there into a chain's source.
    fn parts(&self, bin: &gst::Bin, track: &Track, source: gst::Pad, signs: Arc<Signs>) -> lane::Parts {
        lane::Parts {
            inlet: self.inlet.clone(),
            source,
            bin: bin.downgrade(),
            clock: self.clock.clone(),
            track: track.index,
            codec: track.codec,
            latency: self.latency,
            counts: self.counts.clone(),
            signs,
        }
    }
}

impl Chain {
    /// A chain whose track is alone on a clock of its own, in front of a ghost pad whose target it becomes. `latency` in ms is
    /// the most that packets are held for a missing one; in-order packets pass at once.
    pub fn start(
        bin: &gst::Bin,
        ghost: &gst::GhostPad,
        track: &Track,
        keyframes: &Arc<dyn KeyframeControl>,
        counts: &Arc<Counts>,
        latency: u32,
    ) -> Result<Self, ChainError> {
        let alone = Track { index: 0, ..track.clone() };
        let clock = SessionClock::new(std::slice::from_ref(&alone), |_| None);
        let inlet = Arc::new(Inlet::new(counts.clone()));
        let latency = Duration::from_millis(latency.into());
        Self::start_on(bin, ghost, &alone, Origin { inlet: &inlet, clock: &clock, keyframes, counts, latency })
    }

    /// Makes and starts the elements in `bin`, and the thread that feeds them.
    pub(super) fn start_on(
        bin: &gst::Bin,
        ghost: &gst::GhostPad,
        track: &Track,
        origin: Origin<'_>,
    ) -> Result<Self, ChainError> {
        let elements = elements(track.codec)?;
        for element in &elements {
            bin.add(element)?;
        }
        let (position, signs) = (Arc::<Position>::default(), Arc::<Signs>::default());
        if let Some(pad) = elements.last().and_then(|last| last.static_pad("src")) {
            position.follow(&pad);
        }
        let started = start(ghost, track, &origin, &elements, &signs).and_then(|source| {
            let parts = origin.parts(bin, track, source.clone(), signs.clone());
            Ok((source, lane::start(&ghost.name(), parts)?))
        });
        if started.is_err() {
            stop(bin, &elements);
        }
        let (source, thread) = started?;
        let (inlet, thread) = (origin.inlet.clone(), Some(thread));
        Ok(Self { inlet, source, elements, position, signs, thread, bridged: 0 })
    }

    /// The same without a thread, for simulations.
    #[cfg(test)]
    pub(super) fn stepped(
        bin: &gst::Bin,
        ghost: &gst::GhostPad,
        track: &Track,
        origin: Origin<'_>,
        now: super::clock::Now,
    ) -> Result<lane::Stepped, ChainError> {
        let elements = elements(track.codec)?;
        for element in &elements {
            bin.add(element)?;
        }
        let signs = Arc::<Signs>::default();
        let source = start(ghost, track, &origin, &elements, &signs)?;
        let parts = origin.parts(bin, track, source, signs);
        Ok(lane::Stepped::new(parts, now))
    }

    /// Hands a packet over, without waiting. While downstream is blocked, packets are dropped and counted.
    pub fn push(&self, packet: RtpPacket) {
        self.inlet.push(packet, true);
    }

    /// What its thread has to say.
    pub(super) fn signs(&self) -> &Signs {
        &self.signs
    }

    /// Running time up to which frames and bridged pauses have come out; `None` before the first frame.
    pub(super) fn position(&self) -> Option<gst::ClockTime> {
        let reached = self.position.reached.load(Relaxed);
        (reached > 0).then(|| gst::ClockTime::from_nseconds(reached))
    }

    /// Sends a GAP event behind all that went in before, so that only the track's thread waits for downstream. Not while
    /// something is still on its way.
    pub(super) fn bridge(&mut self, from: gst::ClockTime, until: gst::ClockTime) {
        let arrived = self.bridged <= self.position.reached.load(Relaxed);
        if arrived && self.inlet.pause(from, until.saturating_sub(from)) {
            self.bridged = until.nseconds();
        }
    }

    /// Lets everything out that has come in; returns when that has been pushed.
    pub(super) fn finish(&mut self) {
        self.inlet.finish();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Stops and removes the elements.
    pub fn stop(mut self, bin: &gst::Bin) {
        self.inlet.stop();
        let _ = self.source.set_active(false);
        stop(bin, &self.elements);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Position {
    /// Notes what leaves this pad.
    fn follow(self: &Arc<Self>, pad: &gst::Pad) {
        let position = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let (start, duration) = match (info.buffer(), info.event().map(|event| event.view())) {
                (Some(buffer), _) => (buffer.pts(), buffer.duration()),
                (_, Some(gst::EventView::Gap(gap))) => {
                    let (start, duration) = gap.get();
                    (Some(start), duration)
                }
                _ => (None, None),
            };
            if let Some(start) = start {
                let end = start.saturating_add(duration.unwrap_or_default());
                position.reached.fetch_max(end.nseconds(), Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Links and starts the elements; returns the pad to push to.
fn start(
    ghost: &gst::GhostPad,
    track: &Track,
    origin: &Origin<'_>,
    elements: &[gst::Element],
    signs: &Arc<Signs>,
) -> Result<gst::Pad, ChainError> {
    let missing_pad = || gst::glib::bool_error!("an element of the chain lacks a pad");
    gst::Element::link_many(elements)?;
    let sink = elements.first().and_then(|element| element.static_pad("sink")).ok_or_else(missing_pad)?;
    let output = elements.last().and_then(|element| element.static_pad("src")).ok_or_else(missing_pad)?;
    let source = source_pad(origin.keyframes, track.index, origin.latency, signs);
    // It has no parent element, which the usual check of the hierarchy would mind.
    source.link_full(&sink, gst::PadLinkCheck::empty())?;
    watch(&output, ghost, track, origin, signs);
    ghost.set_target(Some(&output))?;
    source.set_active(true)?;
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    let stream = format!("webrtcbridge/{}", ghost.name());
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    for event in [
        gst::event::StreamStart::builder(&stream).group_id(gst::GroupId::next()).build(),
        gst::event::Caps::new(&caps::rtp(track)),
        gst::event::Segment::new(&segment),
    ] {
        source.push_event(event);
    }
    Ok(source)
}

fn stop(bin: &gst::Bin, elements: &[gst::Element]) {
    for element in elements {
        element.set_locked_state(true);
        let _ = element.set_state(gst::State::Null);
        let _ = bin.remove(element);
    }
}

/// The pad that the track's thread pushes to. It answers for the network: live, as late as packets may be held, and
/// keyframe requests that come up to it go to the peer: those for a later time when that has come.
fn source_pad(keyframes: &Arc<dyn KeyframeControl>, track: usize, latency: Duration, signs: &Arc<Signs>) -> gst::Pad {
    let (keyframes, signs) = (keyframes.clone(), signs.clone());
    let held = gst::ClockTime::try_from(latency).unwrap_or(gst::ClockTime::ZERO);
    gst::Pad::builder(gst::PadDirection::Src)
        .query_function(move |pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                latency.set(true, held, gst::ClockTime::NONE);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .event_function(move |pad, parent, event| {
            if let Ok(wanted) = gst_video::UpstreamForceKeyUnitEvent::parse(&event) {
                match wanted.running_time.filter(|time| !time.is_zero()) {
                    Some(time) => signs.want_keyframe_from(time),
                    None if signs.keyframe_begins.load(Relaxed) => {}
                    None => keyframes.request_keyframe(track),
                }
                return true;
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .build()
}

/// Lets frames go on only where they can be used, and tells the session of keyframes.
fn watch(output: &gst::Pad, ghost: &gst::GhostPad, track: &Track, origin: &Origin<'_>, signs: &Arc<Signs>) {
    let (ghost, counts, keyframes) = (ghost.downgrade(), origin.counts.clone(), origin.keyframes.clone());
    let (index, is_video, signs) = (track.index, track.kind() == MediaKind::Video, signs.clone());
    signs.needs_keyframe.store(is_video, Relaxed);
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let is_keyframe = info.buffer().is_some_and(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if ghost.upgrade().is_none_or(|ghost| !ghost.is_linked()) {
            counts.unlinked.fetch_add(1, Relaxed);
            signs.needs_keyframe.store(is_video, Relaxed);
            return gst::PadProbeReturn::Drop;
        }
        // The segment begins at 0, so that timestamps are running time.
        let time = info.buffer().and_then(|buffer| buffer.pts());
        if time.is_some_and(|time| signs.keyframe_is_due(time)) && !is_keyframe {
            keyframes.request_keyframe(index);
        }
        if is_video && is_keyframe {
            keyframes.keyframe_arrived(index);
            signs.needs_keyframe.store(false, Relaxed);
        }
        if signs.needs_keyframe.load(Relaxed) {
            counts.waiting.fetch_add(1, Relaxed);
            keyframes.request_keyframe(index);
            return gst::PadProbeReturn::Drop;
        }
        counts.frames.fetch_add(1, Relaxed);
        gst::PadProbeReturn::Ok
    });
}
