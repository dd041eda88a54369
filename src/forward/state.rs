//! Who publishes, who views, and what each viewer gets of a packet. Pure but for the outlets' names; time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    clock::PublisherClock,
    program::{Program, VideoLayer},
    retell::Retelling,
    rewrite::Rewrite,
    select::{LayerLimits, Selection},
    streams::{Layer, SourcePacket, Stream, Streams},
    thin::Thinning,
    wish::Wish,
};
use crate::{
    codec::{Codec, MediaKind},
    session::{ClockPoint, History, Outgoing, OutgoingPacket, RtpPacket, SenderReport, Track},
};

/// How often a viewer's layer is decided anew.
const DECIDE: Duration = Duration::from_millis(100);

/// One track, whoever publishes it.
pub(super) struct Slot {
    pub(super) codec: Codec,
    fmtp: String,
    pub(super) history: Arc<History>,
    streams: Streams,
    /// Its index in the publisher's session; `None` if the present one has none.
    track: Option<usize>,
    /// Several layers come: the session's own choice of one is of no use.
    layered: bool,
}

/// A viewer's tracks, by slot.
pub(super) struct Viewer {
    tracks: BTreeMap<usize, ViewerTrack>,
    /// What it would take as well, of which there was nothing when it came.
    lacks: Vec<MediaKind>,
    is_ready: bool,
    decided: Option<Instant>,
}

struct ViewerTrack {
    codec: Codec,
    rewrite: Rewrite,
    selection: Selection,
    thinning: Thinning,
    /// Whose packets went out last, and whether their capture times were known.
    of: Option<(u64, bool)>,
    /// It cannot go on without a keyframe.
    waits: bool,
    wish: Wish,
    retelling: Retelling,
    batch: Vec<OutgoingPacket>,
}

/// What is to be done outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the publisher for a keyframe of a track, of one layer if there are several.
    Ask { track: usize, ssrc: Option<u32> },
    /// A keyframe of it has come.
    Arrived { track: usize, ssrc: Option<u32> },
    /// Tell a viewer's session the time of a track.
    Clock { viewer: u64, slot: usize, clock: ClockPoint },
}

/// The state of a source.
#[derive(Default)]
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// The present publication; 0 if there was none.
    publication: u64,
    /// It goes on.
    is_live: bool,
    clock: PublisherClock,
    viewers: HashMap<u64, Viewer>,
    next_stream: u64,
    next_id: u64,
}

impl State {
    /// A publisher begins with these tracks; it takes over from the one before. Returns its number.
    pub(super) fn publish(&mut self, tracks: &[Track]) -> u64 {
        self.next_id += 1;
        self.publication = self.next_id;
        self.is_live = true;
        self.clock = PublisherClock::default();
        for slot in &mut self.slots {
            (slot.track, slot.layered) = (None, false);
        }
        for track in tracks {
            let free = self.slots.iter_mut().find(|slot| slot.codec.kind() == track.kind() && slot.track.is_none());
            let streams = Streams::new(track.codec);
            match free {
                Some(slot) => {
                    (slot.codec, slot.track, slot.streams) = (track.codec, Some(track.index), streams);
                    slot.fmtp.clone_from(&track.fmtp);
                }
                None => self.slots.push(Slot {
                    codec: track.codec,
                    fmtp: track.fmtp.clone(),
                    history: Arc::default(),
                    streams,
                    track: Some(track.index),
                    layered: false,
                }),
            }
        }
        self.publication
    }

    /// A publication has ended, or goes on after all.
    pub(super) fn set_live(&mut self, publication: u64, is_live: bool) {
        if publication == self.publication {
            self.is_live = is_live;
        }
    }

    /// What is on now.
    pub(super) fn program(&self, now: Instant) -> Program {
        let video = self.slots.iter().find(|slot| slot.codec.kind() == MediaKind::Video && slot.track.is_some());
        let layers = video.map(|slot| slot.streams.live(now)).unwrap_or_default();
        // A stream alone may have layers of its own.
        let own = match (video, &layers[..]) {
            (Some(slot), [only]) => slot.streams.get(only.stream).map(Stream::own_layers).unwrap_or_default(),
            _ => Vec::new(),
        };
        let told = |layer: Layer| (layer.size, layer.rate);
        let layers = if own.is_empty() { layers.into_iter().map(told).collect() } else { own };
        let layer = |(index, (size, bitrate))| VideoLayer { index, size, bitrate };
        Program { is_live: self.is_live, layers: layers.into_iter().enumerate().map(layer).collect() }
    }

    /// What there is for viewers, by slot.
    pub(super) fn outgoing(&self) -> Vec<Outgoing> {
        self.slots.iter().map(|slot| Outgoing::of(slot.codec, &slot.fmtp)).collect()
    }

    /// A viewer that takes these tracks, whose index is that of the slot.
    pub(super) fn join(&mut self, viewer: u64, tracks: &[Track]) {
        let tracks = tracks.iter().map(|track| {
            let rewrite = Rewrite::new(track.codec);
            let selection = Selection::default();
            let waits = track.kind() == MediaKind::Video;
            let (thinning, wish, retelling) = (Thinning::default(), Wish::default(), Retelling::default());
            let (codec, of, batch) = (track.codec, None, Vec::new());
            (track.index, ViewerTrack { codec, rewrite, selection, thinning, of, waits, wish, retelling, batch })
        });
        self.viewers
            .insert(viewer, Viewer { tracks: tracks.collect(), lacks: Vec::new(), is_ready: false, decided: None });
    }

    /// A viewer would take media of these kinds as well, but there was none when it was answered.
    pub(super) fn lacks(&mut self, viewer: u64, kinds: Vec<MediaKind>) {
        if let Some(viewer) = self.viewers.get_mut(&viewer) {
            viewer.lacks = kinds;
        }
    }

    /// What a viewer wants at most.
    pub(super) fn limit(&mut self, viewer: u64, limits: LayerLimits) {
        let Some(viewer) = self.viewers.get_mut(&viewer) else { return };
        viewer.decided = None; // at once
        for track in viewer.tracks.values_mut() {
            track.selection.limits = limits;
        }
    }

    pub(super) fn leave(&mut self, viewer: u64) {
        self.viewers.remove(&viewer);
    }

    pub(super) fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// Whether the viewer's answer is for what there is now.
    pub(super) fn fits(&self, viewer: u64) -> bool {
        let comes = |kind: &MediaKind| self.slots.iter().any(|s| s.codec.kind() == *kind && s.track.is_some());
        self.viewers.get(&viewer).is_none_or(|viewer| {
            !viewer.lacks.iter().any(comes)
                && viewer
                    .tracks
                    .iter()
                    .all(|(slot, track)| self.slots.get(*slot).is_some_and(|slot| slot.codec == track.codec))
        })
    }

    /// The viewer can be sent to.
    pub(super) fn ready(&mut self, viewer: u64, now: Instant, actions: &mut Vec<Action>) {
        let (id, Some(viewer)) = (viewer, self.viewers.get_mut(&viewer)) else { return };
        // It may be said twice, and nothing may go out twice.
        if std::mem::replace(&mut viewer.is_ready, true) {
            return;
        }
        for (&index, track) in &mut viewer.tracks {
            let Some(slot) = self.slots.get(index).filter(|slot| slot.codec.kind() == MediaKind::Video) else {
                continue;
            };
            let wanted = track.selection.decide(&slot.streams.live(now), None, now);
            if let Some(wanted) = wanted.filter(|_| slot.codec == track.codec) {
                let clock = slot.streams.get(wanted).and_then(|stream| stream.clock);
                for packet in slot.streams.recent(wanted, now) {
                    let clock = track.take_with(packet, slot.layered, self.publication, clock);
                    actions.extend(clock.map(|clock| Action::Clock { viewer: id, slot: index, clock }));
                }
            }
            if track.waits {
                actions.extend(slot.ask(track));
            }
        }
    }

    /// The viewer needs a keyframe.
    pub(super) fn wants(&mut self, viewer: u64, index: usize, now: Instant, actions: &mut Vec<Action>) {
        let Some(slot) = self.slots.get(index).filter(|slot| slot.codec.kind() == MediaKind::Video) else { return };
        let track = self.viewers.get_mut(&viewer).and_then(|viewer| viewer.tracks.get_mut(&index));
        if let Some(track) = track {
            track.wish.open();
            if track.wish.is_due(now) {
                actions.extend(slot.ask(track));
            }
        }
    }

    /// A packet of a publisher's track; `layered` if it is of one of several layers.
    pub(super) fn rtp(
        &mut self,
        publication: u64,
        track: usize,
        packet: RtpPacket,
        layered: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some((index, slot)) = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.track == Some(track)) else {
            return;
        };
        if publication != self.publication || (slot.layered && !layered) {
            return;
        }
        slot.layered = layered;
        let (history, ssrc) = (&slot.history, packet.ssrc);
        let store = |payload| history.store(payload);
        let Some(packet) = slot.streams.take(packet, &mut self.next_stream, store) else { return };
        let is_video = slot.codec.kind() == MediaKind::Video;
        if packet.starts_keyframe && is_video {
            actions.push(Action::Arrived { track, ssrc: layered.then_some(ssrc) });
        }
        let stream = slot.streams.get(packet.stream);
        let clock = stream.and_then(|stream| stream.clock);
        for (&id, viewer) in self.viewers.iter_mut().filter(|(_, viewer)| viewer.is_ready) {
            let Some(track) = viewer.tracks.get_mut(&index).filter(|track| track.codec == slot.codec) else { continue };
            let clock = track.take_with(&packet, is_video && layered, publication, clock);
            actions.extend(clock.map(|clock| Action::Clock { viewer: id, slot: index, clock }));
        }
    }

    /// A sender report of a publisher's track.
    pub(super) fn report(&mut self, publication: u64, track: usize, report: SenderReport, actions: &mut Vec<Action>) {
        let Some((index, slot)) = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.track == Some(track)) else {
            return;
        };
        if publication != self.publication {
            return;
        }
        let clock = self.clock.report(&report);
        let Some(stream) = slot.streams.set_clock(report.ssrc, clock) else { return };
        for (&id, viewer) in &mut self.viewers {
            let track = viewer.tracks.get(&index).filter(|track| track.rewrite.stream() == Some(stream));
            let clock = track.and_then(|track| track.clock(clock));
            actions.extend(clock.map(|clock| Action::Clock { viewer: id, slot: index, clock }));
        }
    }

    /// Decides which layer a viewer gets, by what its network carries; returns what is of use to be known of that.
    pub(super) fn decide(
        &mut self,
        viewer: u64,
        estimate: Option<u64>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<u64> {
        let viewer = self.viewers.get_mut(&viewer)?;
        let is_due = viewer.decided.is_none_or(|last| now.saturating_duration_since(last) >= DECIDE);
        if !is_due || !viewer.is_ready {
            return None;
        }
        viewer.decided = Some(now);
        let mut useful = None;
        for (&index, track) in &mut viewer.tracks {
            let Some(slot) = self.slots.get(index).filter(|slot| slot.codec.kind() == MediaKind::Video) else {
                continue;
            };
            let layers = slot.streams.live(now);
            let wanted = track.selection.decide(&layers, estimate, now);
            useful = track.selection.useful(&layers).or(useful);
            let points = track.rewrite.stream().and_then(|stream| slot.streams.get(stream)).map(Stream::points);
            let limits = track.selection.limits;
            track.thinning.decide(&points.unwrap_or_default(), &limits, layers.len() < 2, estimate, now);
            // Asked again until it comes: the session asks the publisher no more often than it should.
            let waits = track.waits || wanted != track.rewrite.stream() || track.thinning.needs_keyframe();
            if (wanted.is_some() && waits) || track.wish.is_due(now) {
                actions.extend(slot.ask(track));
            }
        }
        useful
    }

    /// What goes out to each viewer, by slot.
    pub(super) fn drain(&mut self, mut send: impl FnMut(u64, usize, std::vec::Drain<'_, OutgoingPacket>)) {
        for (&id, viewer) in &mut self.viewers {
            for (&slot, track) in &mut viewer.tracks {
                if !track.batch.is_empty() {
                    send(id, slot, track.batch.drain(..));
                }
            }
        }
    }
}

impl Slot {
    /// The request for the layer that a viewer shall get.
    fn ask(&self, track: &ViewerTrack) -> Option<Action> {
        let wanted = track.selection.wanted().or(track.rewrite.stream());
        let ssrc = wanted.and_then(|wanted| self.streams.get(wanted)).map(|stream| stream.ssrc);
        Some(Action::Ask { track: self.track?, ssrc: ssrc.filter(|_| self.layered) })
    }
}

impl ViewerTrack {
    /// Queues a packet if it is for this viewer; the time of its stream in the viewer's numbers, if that begins with it.
    fn take_with(
        &mut self,
        packet: &SourcePacket,
        layered: bool,
        publication: u64,
        clock: Option<ClockPoint>,
    ) -> Option<ClockPoint> {
        let begins = self.take(packet, layered, publication, clock.is_some());
        let clock = clock.unwrap_or(ClockPoint { rtp_time: packet.timestamp, at: packet.arrival });
        begins.then(|| self.clock(clock)).flatten()
    }

    /// The same; true if with it another stream begins.
    fn take(&mut self, packet: &SourcePacket, layered: bool, publication: u64, has_clock: bool) -> bool {
        let current = self.rewrite.stream();
        let is_other = current != Some(packet.stream);
        let is_wanted = !layered || current.is_none() || self.selection.wanted() == Some(packet.stream);
        let begins = is_other && packet.starts_keyframe && is_wanted;
        if begins {
            let by_capture = has_clock && self.of == Some((publication, true));
            self.rewrite.begin(packet, by_capture);
        }
        let is_current = self.rewrite.stream() == Some(packet.stream);
        let verdict = self.thinning.judge(packet, is_current);
        let Some(rewritten) = self.rewrite.rewrite(packet, verdict) else { return false };
        if is_current {
            self.of = Some((publication, has_clock));
        }
        let starts_keyframe = packet.starts_keyframe && !rewritten.is_void;
        self.waits &= !starts_keyframe;
        if starts_keyframe {
            self.wish.fulfilled();
        }
        let dependencies = packet.dependencies.as_ref().filter(|_| !rewritten.is_void).and_then(|told| {
            let frame = rewritten.renumbered.map_or(told.frame, |renumbered| renumbered.picture);
            self.retelling.retell(packet.stream, told, frame, self.thinning.top(packet))
        });
        self.batch.push(OutgoingPacket {
            dependencies,
            number: rewritten.number,
            timestamp: rewritten.timestamp,
            marker: rewritten.marker,
            starts_keyframe,
            payload: if rewritten.is_void { Bytes::new() } else { packet.payload.clone() },
            stored: if rewritten.is_void { History::NOTHING } else { packet.stored },
            renumbered: rewritten.renumbered,
        });
        begins
    }

    fn clock(&self, clock: ClockPoint) -> Option<ClockPoint> {
        let offset = self.rewrite.timestamp_offset()?;
        Some(ClockPoint { rtp_time: clock.rtp_time.wrapping_add(offset), ..clock })
    }
}

#[cfg(test)]
mod tests;
