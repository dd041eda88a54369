//! What one session sends and when: queues, pacing, repairs, reports. Pure; the interceptor asks and hands on.

mod stats;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc::{
    interceptor::{Packet, RateCalculator},
    rtcp::{
        payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication},
        receiver_report::ReceiverReport,
        reception_report::ReceptionReport,
        sender_report::SenderReport,
        source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem},
        transport_feedbacks::{transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack},
    },
    rtp,
};

use super::{
    ClockPoint, History, OutgoingPacket,
    estimate::Estimator,
    pacing::Pacing,
    stream::{Counts, Stream, Wire},
};
use crate::{codec::MediaKind, session::sender::Extensions};

pub use stats::{SendStats, SendTrackStats};

/// Pictures that waited for so long are left out up to the next keyframe; one that has begun is finished.
const MOST_WAIT: Duration = Duration::from_millis(600);
/// Packets that wait at most, whatever they are: a keyframe of 2 MB.
const MOST_WAITING: usize = 2048;
/// Repairs that wait at most.
const MOST_REPAIRS: usize = 512;
/// How often repeated packets go out while it is tried what the network carries.
const PROBE: Duration = Duration::from_millis(10);
/// Audio that waits for the connection's turn at most: a second.
const MOST_AUDIO: usize = 64;

/// What a peer has said that others must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A keyframe of a track.
    Keyframe(usize),
    /// Packets again: they are queued.
    Repairs,
}

/// The sending half.
pub(super) struct Sending {
    tracks: Vec<Option<Track>>,
    cname: Bytes,
    is_open: bool,
    pacing: Pacing,
    estimator: Estimator,
    departed: RateCalculator,
    probed: Option<Instant>,
    /// By track and sequence number.
    repairs: VecDeque<(usize, u16)>,
    audio: VecDeque<(usize, OutgoingPacket)>,
    video: VecDeque<Waiting>,
}

struct Track {
    stream: Stream,
    /// Up to the next keyframe everything is left out.
    skips: bool,
    /// The timestamp of the picture that is being sent.
    begun: Option<u32>,
}

impl Track {
    fn new(wire: Wire) -> Self {
        let (number, rtx_number) = first_numbers(wire.kind);
        Self { stream: Stream::new(wire, number, rtx_number), skips: false, begun: None }
    }
}

/// Where the sequence numbers of a stream and of its repairs begin (RFC 3550 section 5.1): in the lower half, so that who misses the
/// first packets does not miss that they have gone round (RFC 3711 section 3.3.1).
#[cfg_attr(not(test), expect(unused_variables, reason = "simulations decide by it"))]
fn first_numbers(kind: MediaKind) -> (u16, u16) {
    #[cfg(test)]
    if let Some(numbers) = crate::session::simulation::first_numbers(kind) {
        return numbers;
    }
    (rand::random::<u16>() / 2, rand::random::<u16>() / 2)
}

struct Waiting {
    track: usize,
    packet: OutgoingPacket,
    since: Instant,
}

impl Sending {
    pub(super) fn new(streams: Vec<Option<Wire>>, cname: &str) -> Self {
        Self {
            tracks: streams.into_iter().map(|wire| wire.map(Track::new)).collect(),
            cname: Bytes::copy_from_slice(cname.as_bytes()),
            is_open: false,
            pacing: Pacing::default(),
            estimator: Estimator::new(),
            departed: RateCalculator::default(),
            probed: None,
            repairs: VecDeque::new(),
            audio: VecDeque::new(),
            video: VecDeque::new(),
        }
    }

    /// Other streams than were known at first; nothing has been sent yet.
    pub(super) fn agreed(&mut self, streams: Vec<Option<Wire>>) {
        self.tracks = streams.into_iter().map(|wire| wire.map(Track::new)).collect();
    }

    pub(super) fn extended(&mut self, track: usize, extensions: Extensions) {
        if let Some(track) = self.track(track) {
            track.stream.wire.extensions = extensions;
        }
    }

    pub(super) fn keep_in(&mut self, track: usize, history: Arc<History>) {
        if let Some(track) = self.track(track) {
            track.stream.keep_in(history);
        }
    }

    pub(super) fn set_clock(&mut self, track: usize, clock: ClockPoint) {
        if let Some(track) = self.track(track) {
            track.stream.set_clock(clock);
        }
    }

    pub(super) fn limit_estimate(&mut self, bits_per_second: u64) {
        self.estimator.limit(bits_per_second);
    }

    pub(super) fn estimate(&self) -> Option<u64> {
        self.estimator.rate()
    }

    pub(super) fn bound(&self, now: Instant) -> Option<u64> {
        self.estimator.bound(now)
    }

    /// There are keys: what comes from now on is sent.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Queues a packet; true if with it pictures began to be left out, so that a keyframe is needed.
    pub(super) fn push(&mut self, index: usize, packet: OutgoingPacket, now: Instant) -> bool {
        if !self.is_open {
            return false;
        }
        let Some(Some(track)) = self.tracks.get_mut(index) else { return false };
        if track.stream.wire.kind == MediaKind::Audio {
            if self.audio.len() >= MOST_AUDIO {
                self.audio.pop_front();
                track.stream.counts.dropped += 1;
            }
            self.audio.push_back((index, packet));
            return false;
        }
        if track.skips && !packet.starts_keyframe {
            track.stream.counts.dropped += 1;
            return false;
        }
        track.skips = false;
        let starts_keyframe = packet.starts_keyframe;
        self.video.push_back(Waiting { track: index, packet, since: now });
        let oldest = self.video.front().map(|waiting| now.saturating_duration_since(waiting.since));
        let late = oldest.is_some_and(|age| age > MOST_WAIT) && !starts_keyframe;
        (late || self.video.len() > MOST_WAITING) && self.skip(index)
    }

    /// Leaves out what waits of a track, but for the rest of a picture that has begun, and a keyframe that is whole behind it
    /// or still comes.
    fn skip(&mut self, index: usize) -> bool {
        let Some(Some(track)) = self.tracks.get_mut(index) else { return false };
        let begun = track.begun;
        // The newest keyframe that waits is where it goes on.
        let keyframes = self.video.iter().filter(|w| w.track == index && w.packet.starts_keyframe);
        let mut keyframe = keyframes.map(|w| w.packet.number).next_back();
        let before = self.video.len();
        self.video.retain(|waiting| {
            waiting.track != index
                || begun == Some(waiting.packet.timestamp)
                || keyframe.is_some_and(|number| waiting.packet.number >= number)
        });
        if self.video.len() > MOST_WAITING {
            self.video.retain(|waiting| waiting.track != index); // more than a picture can have
            keyframe = None;
        }
        let dropped = before - self.video.len();
        if dropped == 0 {
            return false;
        }
        track.stream.counts.dropped += dropped as u64;
        track.stream.counts.skips += 1;
        track.skips = keyframe.is_none();
        track.skips
    }

    /// What goes out now; returns when there may be more.
    pub(super) fn poll(&mut self, now: Instant, out: &mut Vec<Packet>) -> Option<Instant> {
        let estimate = self.estimator.rate();
        self.pacing.fill(estimate, now);
        while let Some((index, packet)) = self.audio.pop_front() {
            self.emit(index, &packet, now, out);
        }
        while self.pacing.may_send()
            && let Some((index, sequence)) = self.repairs.pop_front()
        {
            let Some(Some(track)) = self.tracks.get_mut(index) else { continue };
            if let Some(packet) = track.stream.repeat(sequence, now, self.estimator.round_trip()) {
                self.depart(index, packet, now, out);
            }
        }
        while self.pacing.may_send()
            && let Some(Waiting { track: index, packet, .. }) = self.video.pop_front()
        {
            if let Some(Some(track)) = self.tracks.get_mut(index) {
                if packet.starts_keyframe {
                    track.stream.skip_to(packet.number);
                }
                track.begun = (!packet.marker).then_some(packet.timestamp);
            }
            self.emit(index, &packet, now, out);
        }
        let reports = self.report(now, out);
        let waits = !self.video.is_empty() || !self.repairs.is_empty();
        let more = waits.then(|| self.pacing.next(estimate, now));
        let probes = if waits { None } else { self.probe(now, out) };
        [more, reports, probes].into_iter().flatten().min()
    }

    /// Fills up to the rate that is taken to be possible as long as that is not known; returns when there is more to send.
    fn probe(&mut self, now: Instant, out: &mut Vec<Packet>) -> Option<Instant> {
        let sent = self.departed.rate_bits_per_second(now).unwrap_or_default();
        let Some(surplus) = self.estimator.unproven(sent, now) else {
            self.probed = None;
            return None;
        };
        let elapsed = self.probed.map_or(Duration::ZERO, |last| now.saturating_duration_since(last)).min(PROBE * 2);
        if self.probed.is_some() && elapsed < PROBE {
            return self.probed.map(|last| last + PROBE);
        }
        self.probed = Some(now);
        let mut budget = surplus / 8.0 * elapsed.as_secs_f64();
        let index =
            self.tracks.iter().position(|track| track.as_ref().is_some_and(|track| track.stream.wire.rtx.is_some()))?;
        while budget > 0.0 && self.pacing.may_send() {
            let packet = self.tracks.get_mut(index)?.as_mut()?.stream.probe()?;
            budget -= (packet.payload.len() + OVERHEAD) as f64;
            self.depart(index, packet, now, out);
        }
        Some(now + PROBE)
    }

    fn emit(&mut self, index: usize, packet: &OutgoingPacket, now: Instant, out: &mut Vec<Packet>) {
        let Some(Some(track)) = self.tracks.get_mut(index) else { return };
        match track.stream.packet(packet) {
            Some(packet) => self.depart(index, packet, now, out),
            None => track.stream.counts.dropped += 1,
        }
    }

    fn depart(&mut self, index: usize, mut packet: rtp::Packet, now: Instant, out: &mut Vec<Packet>) {
        let size = packet.payload.len() + OVERHEAD;
        self.pacing.sent(size);
        self.departed.add(now, size);
        if let Some(Some(track)) = self.tracks.get(index)
            && let Some(id) = track.stream.wire.extensions.transport_cc
        {
            let number = self.estimator.departs(packet.header.ssrc, packet.header.sequence_number, size, now);
            // It fails for no id that was negotiated; such a packet is not counted by the peer.
            let _ = packet.header.set_extension(id, Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        out.push(Packet::Rtp(packet));
    }

    /// The sender reports that are due; returns when the next is.
    fn report(&mut self, now: Instant, out: &mut Vec<Packet>) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for track in self.tracks.iter_mut().flatten() {
            let due = track.stream.report_due();
            if due.is_some_and(|due| due <= now)
                && let Some(report) = track.stream.report(now)
            {
                let name = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: self.cname.clone() };
                let chunk = SourceDescriptionChunk { source: report.ssrc, items: vec![name] };
                let description = SourceDescription { chunks: vec![chunk] };
                out.push(Packet::Rtcp(vec![Box::new(report), Box::new(description)]));
            }
            next = [next, track.stream.report_due()].into_iter().flatten().min();
        }
        next
    }

    /// What the peer says.
    pub(super) fn hear(&mut self, packet: &dyn rtc::rtcp::Packet, now: Instant, wishes: &mut Vec<Wish>) {
        let any = packet.as_any();
        if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
            self.estimator.report(feedback, now);
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.heard(&report.reports, now);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.heard(&report.reports, now);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let Some((index, _)) = self.of_ssrc(nack.media_ssrc) else { return };
            let room = MOST_REPAIRS.saturating_sub(self.repairs.len());
            let numbers = nack.nacks.iter().flat_map(|pair| pair.into_iter());
            self.repairs.extend(numbers.take(room).map(|number| (index, number)));
            wishes.push(Wish::Repairs);
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            let Some((index, counts)) = self.of_ssrc(pli.media_ssrc) else { return };
            counts.plis += 1;
            wishes.push(Wish::Keyframe(index));
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                let Some((index, counts)) = self.of_ssrc(entry.ssrc) else { continue };
                counts.firs += 1;
                if !wishes.contains(&Wish::Keyframe(index)) {
                    wishes.push(Wish::Keyframe(index));
                }
            }
        }
    }

    fn heard(&mut self, reports: &[ReceptionReport], now: Instant) {
        for report in reports {
            for track in self.tracks.iter_mut().flatten().filter(|track| track.stream.wire.ssrc == report.ssrc) {
                track.stream.heard(report, now);
            }
        }
    }

    fn of_ssrc(&mut self, ssrc: u32) -> Option<(usize, &mut Counts)> {
        let tracks = self.tracks.iter_mut().enumerate();
        tracks
            .filter_map(|(index, track)| Some((index, &mut track.as_mut()?.stream)))
            .find(|(_, stream)| stream.wire.ssrc == ssrc)
            .map(|(index, stream)| (index, &mut stream.counts))
    }

    fn track(&mut self, index: usize) -> Option<&mut Track> {
        self.tracks.get_mut(index).and_then(Option::as_mut)
    }

    pub(super) fn stats(&self) -> SendStats {
        SendStats {
            estimate: self.estimator.rate(),
            transport_loss: self.estimator.loss(),
            waiting: self.video.len() + self.audio.len() + self.repairs.len(),
            tracks: self
                .tracks
                .iter()
                .map(|track| track.as_ref().map(|track| SendTrackStats::of(&track.stream)))
                .collect(),
        }
    }
}

/// RTP header with an extension, SRTP tag, UDP and IP.
const OVERHEAD: usize = 12 + 8 + 16 + 28;

#[cfg(test)]
mod tests;
