//! Who receives: all that stands behind a session up to the pads, without threads. What comes out of the pads is compared with
//! what was sent at once.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use tokio::sync::mpsc;

use super::{pictures::slices_of, source::Sent};
use crate::{
    codec::MediaKind,
    rtp::{
        chain::{Chain, Counts, Origin},
        clock::{Now, SessionClock},
        inlet::Inlet,
        lane::Stepped,
    },
    session::{
        ConnectionState, EndReason, KeyframeControl, PacketSink, RtpPacket, SenderReport, Track, simulation::now,
    },
};

/// The element's default.
pub(super) const LATENCY: Duration = Duration::from_millis(200);

/// The running time at which the first packet comes.
const START: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// While it is not known yet how long packets take, those of a burst get one time (`sync`), and h264parse leaves a time out that it has
/// given already.
const BEGINNING: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// What a session hands over.
pub(super) enum Came {
    Packet(usize, RtpPacket),
    Report(usize, SenderReport),
}

/// The session's end of it.
pub(super) struct Feed(pub(super) mpsc::UnboundedSender<Came>);

impl PacketSink for Feed {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        let _ = self.0.send(Came::Packet(track, packet));
    }

    fn sender_report(&self, track: usize, report: SenderReport) {
        let _ = self.0.send(Came::Report(track, report));
    }

    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}

/// What came out of the pads.
#[derive(Default)]
pub(super) struct Shown {
    /// Which pictures, and when.
    pub(super) pictures: Vec<(usize, Instant)>,
    pub(super) sounds: Vec<(usize, Instant)>,
    /// What was wrong with them.
    pub(super) faults: Vec<String>,
    /// Timestamps of the last ones.
    stamps: [Option<gst::ClockTime>; 2],
}

impl Shown {
    fn take(&mut self, kind: MediaKind, buffer: &gst::BufferRef, sent: &Sent) {
        let bytes = buffer.map_readable().unwrap();
        let last = &mut self.stamps[usize::from(kind == MediaKind::Video)];
        let pts = buffer.pts();
        let begins = pts.or(*last).is_none_or(|time| time < START + BEGINNING);
        if *last > pts.or(*last) || (!begins && (pts.is_none() || *last == pts)) {
            self.faults.push(format!("{kind}: {pts:?} behind {last:?}"));
        }
        *last = pts.or(*last);
        let fault = match kind {
            MediaKind::Video => self.picture(&bytes, !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT), sent),
            MediaKind::Audio => self.sound(&bytes, sent),
        };
        self.faults.extend(fault);
    }

    fn picture(&mut self, unit: &[u8], is_keyframe: bool, sent: &Sent) -> Option<String> {
        let slices = slices_of(unit);
        let number = slices.first().and_then(|first| sent.by_slice.get(first).copied());
        let Some(number) = number else { return Some("a picture that nobody has sent".into()) };
        let (_, picture) = &sent.pictures[number];
        let last = self.pictures.last().map(|(last, _)| *last);
        self.pictures.push((number, now()));
        if picture.slices != slices {
            return Some(format!("picture {number} has {} slices instead of {}", slices.len(), picture.slices.len()));
        }
        if picture.is_keyframe != is_keyframe {
            return Some(format!("picture {number} is marked wrongly"));
        }
        let follows = if is_keyframe {
            last.is_none_or(|last| number > last)
        } else {
            last.is_some_and(|last| number == last + 1)
        };
        (!follows).then(|| format!("picture {number} behind {last:?} (keyframe: {is_keyframe})"))
    }

    fn sound(&mut self, payload: &[u8], sent: &Sent) -> Option<String> {
        let Some(number) = sent.by_sound.get(payload).copied() else {
            return Some("a sound that nobody has made".into());
        };
        let last = self.sounds.last().map(|(last, _)| *last);
        self.sounds.push((number, now()));
        last.is_some_and(|last| number <= last).then(|| format!("sound {number} behind {last:?}"))
    }
}

/// What stands behind the session.
pub(super) struct Receiver {
    pipeline: gst::Pipeline,
    lanes: Vec<Stepped>,
    started: Now,
    pub(super) counts: Arc<Counts>,
    /// The most packets and bytes that waited for a missing one.
    pub(super) most_waiting: (usize, usize),
}

impl Receiver {
    pub(super) fn new(
        tracks: &[Track],
        keyframes: &Arc<dyn KeyframeControl>,
        sent: &Arc<Mutex<Sent>>,
        shown: &Arc<Mutex<Shown>>,
    ) -> Self {
        let pipeline = gst::Pipeline::new();
        pipeline.set_state(gst::State::Playing).unwrap();
        let (clock, counts) = (SessionClock::new(tracks, |_| None), Arc::<Counts>::default());
        let started = Now { instant: now(), running_time: START };
        let lane = |track: &Track| {
            let inlet = Arc::new(Inlet::new(counts.clone()));
            let origin = Origin { inlet: &inlet, clock: &clock, keyframes, counts: &counts, latency: LATENCY };
            let ghost = gst::GhostPad::builder(gst::PadDirection::Src).name(format!("{}_0", track.kind())).build();
            ghost.set_active(true).unwrap();
            let sink = pad(track.kind(), sent.clone(), shown.clone());
            ghost.link_full(&sink, gst::PadLinkCheck::empty()).unwrap();
            let lane = Chain::stepped(pipeline.upcast_ref(), &ghost, track, origin, started).unwrap();
            pipeline.add_pad(&ghost).unwrap();
            PADS.with_borrow_mut(|pads| pads.push(sink));
            lane
        };
        let lanes = tracks.iter().map(lane).collect();
        Self { pipeline, lanes, started, counts, most_waiting: (0, 0) }
    }

    pub(super) fn take(&mut self, came: Came) {
        match came {
            Came::Packet(track, packet) => self.lanes[track].packet(packet),
            Came::Report(track, report) => self.lanes[track].report(&report, self.started),
        }
        let (packets, bytes) = self.waiting();
        self.most_waiting = (self.most_waiting.0.max(packets), self.most_waiting.1.max(bytes));
    }

    /// When something is to be given up.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Stepped::due).min()
    }

    pub(super) fn expire(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.expire(now()));
    }

    /// Packets that wait, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        self.lanes.iter().map(Stepped::waiting).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        PADS.take();
    }
}

std::thread_local! {
    /// A pad's peer does not keep it.
    static PADS: std::cell::RefCell<Vec<gst::Pad>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// What the user has behind an element.
fn pad(kind: MediaKind, sent: Arc<Mutex<Sent>>, shown: Arc<Mutex<Shown>>) -> gst::Pad {
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            shown.lock().unwrap().take(kind, &buffer, &sent.lock().unwrap());
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(|_, _, _| true)
        .build();
    pad.set_active(true).unwrap();
    pad
}
