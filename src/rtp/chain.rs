//! What runs behind one pad for one track of one session: packets in, frames out. Which elements that takes is in
//! `elements`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use gst::prelude::*;

use super::{
    backlog::Backlog,
    caps,
    elements::{ChainError, elements},
    numbering::{Numbering, Verdict},
    packet::to_buffer,
    restamp::{Passed, SessionClock, restamp},
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
    /// Packets that came behind later ones, because they were sent again or overtaken.
    pub disordered: AtomicU64,
    /// Packets of padding only.
    pub padding: AtomicU64,
    /// Packets whose sequence number fits nowhere.
    pub stray: AtomicU64,
}

/// What a chain's jitter buffer has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JitterBufferCounts {
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) padding: u64,
}

/// Where a chain's output is in time.
#[derive(Default)]
struct Position {
    /// End of the last frame or bridged pause in ns of running time; 0 before the first.
    reached: AtomicU64,
}

/// A running chain. Dropping it does not stop it: [`Chain::stop`] does.
pub struct Chain {
    source: gst::Pad,
    elements: Vec<gst::Element>,
    counts: Arc<Counts>,
    backlog: Backlog,
    passed: Arc<Passed>,
    position: Arc<Position>,
    /// Up to where the pause that is on its way through the chain is bridged.
    bridged: u64,
    numbering: Numbering,
    /// A packet that may begin a stream, and when it came.
    held: Option<(RtpPacket, gst::ClockTime)>,
    discontinuity: bool,
}

impl Chain {
    /// A chain whose track is alone on a clock of its own: see [`Chain::start_on`].
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
        Self::start_on(&clock, bin, ghost, &alone, keyframes, counts, latency)
    }

    /// Makes and starts the elements in `bin`; their output is to be made the target of a ghost pad by the caller.
    ///
    /// `latency` in ms is the most that the jitter buffer holds; in-order packets pass at once.
    pub fn start_on(
        clock: &Arc<SessionClock>,
        bin: &gst::Bin,
        ghost: &gst::GhostPad,
        track: &Track,
        keyframes: &Arc<dyn KeyframeControl>,
        counts: &Arc<Counts>,
        latency: u32,
    ) -> Result<Self, ChainError> {
        let elements = elements(track.codec, latency)?;
        for element in &elements {
            bin.add(element)?;
        }
        let (passed, position) = (Arc::<Passed>::default(), Arc::<Position>::default());
        if let Some(pad) = elements.first().and_then(|jitter_buffer| jitter_buffer.static_pad("src")) {
            restamp(&pad, clock.clone(), track.index, passed.clone());
        }
        if let Some(pad) = elements.last().and_then(|last| last.static_pad("src")) {
            position.follow(&pad);
        }
        let started = start(ghost, track, keyframes, counts, &elements);
        if started.is_err() {
            stop(bin, &elements);
        }
        let backlog = Backlog::new(latency, passed.clone());
        Ok(Self {
            source: started?,
            elements,
            counts: counts.clone(),
            backlog,
            passed,
            position,
            bridged: 0,
            numbering: Numbering::default(),
            held: None,
            discontinuity: true,
        })
    }

    /// Hands a packet to the jitter buffer, which takes it without waiting; `running_time` is when it came. While
    /// downstream is blocked, packets are dropped and counted.
    pub fn push(&mut self, packet: &RtpPacket, running_time: gst::ClockTime) -> Result<(), gst::FlowError> {
        match self.numbering.judge(packet.ssrc, packet.sequence_number) {
            Verdict::Pass(number) => {
                if self.numbering.is_behind(packet.sequence_number) {
                    self.counts.disordered.fetch_add(1, Relaxed);
                }
                self.push_as(packet, number, running_time)
            }
            Verdict::Hold => {
                let stray = self.held.replace((packet.clone(), running_time)).is_some();
                self.counts.stray.fetch_add(stray.into(), Relaxed);
                Ok(())
            }
            Verdict::Begin(first, number) => {
                self.discontinuity = true;
                match (first, self.held.take()) {
                    (Some(first), Some((held, running_time))) => self.push_as(&held, first, running_time)?,
                    (_, stray) => _ = self.counts.stray.fetch_add(stray.is_some().into(), Relaxed),
                }
                self.push_as(packet, number, running_time)
            }
        }
    }

    fn push_as(&mut self, packet: &RtpPacket, number: u16, running_time: gst::ClockTime) -> Result<(), gst::FlowError> {
        if !self.backlog.admit(running_time.nseconds(), packet.payload.len()) {
            self.counts.backlog.fetch_add(1, Relaxed);
            return Ok(());
        }
        let Some(mut buffer) = to_buffer(packet, number) else { return Err(gst::FlowError::Error) };
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_dts(running_time);
            buffer.set_pts(running_time);
            if std::mem::take(&mut self.discontinuity) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.source.push(buffer).map(|_| ())
    }

    /// What the jitter buffer has counted so far.
    pub(super) fn jitter_buffer_counts(&self) -> JitterBufferCounts {
        let stats = self.elements.first().map(|jitter_buffer| jitter_buffer.property::<gst::Structure>("stats"));
        let get = |name| stats.as_ref().and_then(|stats| stats.get::<u64>(name).ok()).unwrap_or(0);
        JitterBufferCounts {
            lost: get("num-lost"),
            late: get("num-late"),
            duplicates: get("num-duplicates"),
            padding: self.passed.padding.load(Relaxed),
        }
    }

    /// Running time up to which frames and bridged pauses have come out; `None` before the first frame.
    pub(super) fn position(&self) -> Option<gst::ClockTime> {
        let reached = self.position.reached.load(Relaxed);
        (reached > 0).then(|| gst::ClockTime::from_nseconds(reached))
    }

    /// Sends a GAP event behind all that went in before, so that only the jitter buffer's thread waits for downstream.
    /// Not while something is still on its way.
    pub(super) fn bridge(&mut self, from: gst::ClockTime, until: gst::ClockTime, now: gst::ClockTime) {
        if self.backlog.is_empty(now.nseconds()) && self.bridged <= self.position.reached.load(Relaxed) {
            self.bridged = until.nseconds();
            self.source.push_event(gst::event::Gap::builder(from).duration(until.saturating_sub(from)).build());
        }
    }

    /// Stops and removes the elements.
    pub fn stop(self, bin: &gst::Bin) {
        let _ = self.source.set_active(false);
        stop(bin, &self.elements);
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
    keyframes: &Arc<dyn KeyframeControl>,
    counts: &Arc<Counts>,
    elements: &[gst::Element],
) -> Result<gst::Pad, ChainError> {
    let missing_pad = || gst::glib::bool_error!("an element of the chain lacks a pad");
    gst::Element::link_many(elements)?;
    let sink = elements.first().and_then(|element| element.static_pad("sink")).ok_or_else(missing_pad)?;
    let output = elements.last().and_then(|element| element.static_pad("src")).ok_or_else(missing_pad)?;
    let source = source_pad(keyframes, track.index);
    // It has no parent element, which the usual check of the hierarchy would mind.
    source.link_full(&sink, gst::PadLinkCheck::empty())?;
    watch(&output, ghost, track, keyframes, counts);
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

/// The pad that the crossing thread pushes to. It answers for the network: live, without latency of its own, and
/// keyframe requests that come up to it go to the peer.
fn source_pad(keyframes: &Arc<dyn KeyframeControl>, track: usize) -> gst::Pad {
    let keyframes = keyframes.clone();
    gst::Pad::builder(gst::PadDirection::Src)
        .query_function(|pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                latency.set(true, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .event_function(move |pad, parent, event| {
            if gst_video::UpstreamForceKeyUnitEvent::parse(&event).is_ok() {
                keyframes.request_keyframe(track);
                return true;
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .build()
}

/// Lets frames go on only where they can be used, and tells the session of keyframes.
fn watch(
    output: &gst::Pad,
    ghost: &gst::GhostPad,
    track: &Track,
    keyframes: &Arc<dyn KeyframeControl>,
    counts: &Arc<Counts>,
) {
    let (ghost, counts, keyframes) = (ghost.downgrade(), counts.clone(), keyframes.clone());
    let (index, is_video) = (track.index, track.kind() == MediaKind::Video);
    // Set after a drop: what depends on the dropped frame must not go on.
    let needs_keyframe = AtomicBool::new(is_video);
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let is_keyframe = info.buffer().is_some_and(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if ghost.upgrade().is_none_or(|ghost| !ghost.is_linked()) {
            counts.unlinked.fetch_add(1, Relaxed);
            needs_keyframe.store(is_video, Relaxed);
            return gst::PadProbeReturn::Drop;
        }
        if is_video && is_keyframe {
            keyframes.keyframe_arrived(index);
            needs_keyframe.store(false, Relaxed);
        }
        if needs_keyframe.load(Relaxed) {
            counts.waiting.fetch_add(1, Relaxed);
            keyframes.request_keyframe(index);
            return gst::PadProbeReturn::Drop;
        }
        counts.frames.fetch_add(1, Relaxed);
        gst::PadProbeReturn::Ok
    });
}
