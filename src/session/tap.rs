//! Where media leaves the peer connection: RTP and sender reports to the session's [`PacketSink`], keyframe requests in.
//!
//! An interceptor at the application's end of the chain: taking packets here costs a seventh less than polling tracks.
//! It runs while the connection's core is locked, so all it does is hand over.

mod state;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{AttributedPacket, Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtcp::sender_report::SenderReport as RtcpReport,
    rtp,
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};

use super::{
    PacketSink, RtpPacket, SenderReport, feedback::Requests, identity::Identity, keyframe::Means, record::MOST_STREAMS,
    rtx::Known, switch::Switch, time, track::Track,
};
use crate::codec::MediaKind;

pub(super) use state::TapState;

/// Application-ward of everything that recovers or measures.
pub(super) fn slot() -> Slot {
    Slot::from(61_000)
}

/// How long a keyframe request from another thread may wait for the connection's next turn.
const REQUEST_TICK: Duration = Duration::from_millis(50);

/// The interceptor.
pub(super) struct MediaTap {
    tracks: Vec<TrackTap>,
    identity: Arc<Identity>,
    sink: Arc<dyn PacketSink>,
    state: Arc<TapState>,
    /// SSRC → track.
    streams: HashMap<u32, usize>,
    out: Vec<RtpPacket>,
    requests: Requests,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

struct TrackTap {
    track: Track,
    means: Means,
    switch: Switch,
}

impl MediaTap {
    /// For the tracks that were taken of a peer's `description`.
    pub(super) fn new(description: &str, tracks: Vec<Track>, sink: Arc<dyn PacketSink>, state: Arc<TapState>) -> Self {
        let identity = Identity::new(description, &tracks);
        let tracks = tracks.into_iter().map(|track| {
            let has = |typ: &str, parameter: &str| track.feedback.iter().any(|(t, p)| t == typ && p == parameter);
            let means = Means { pli: has("nack", "pli"), fir: has("ccm", "fir") };
            TrackTap { means, switch: Switch::new(track.codec, identity.layers(track.index)), track }
        });
        Self {
            tracks: tracks.collect(),
            identity: Arc::new(identity),
            sink,
            state,
            streams: HashMap::new(),
            out: Vec::new(),
            requests: Requests::default(),
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    /// How streams are told apart and what is counted of them, for the interceptors wire-ward of this.
    pub(super) fn known(&self) -> Known {
        Known { identity: self.identity.clone(), state: self.state.clone() }
    }

    /// The track of a packet; a stream that is new is remembered.
    fn track_of(&mut self, header: &rtp::Header) -> Option<usize> {
        if let Some(&track) = self.streams.get(&header.ssrc) {
            return self.identity.has_format(track, header.payload_type).then_some(track);
        }
        let track = self.identity.track(header)?;
        if self.streams.len() >= MOST_STREAMS {
            // Those whose place another has taken go first.
            let tracks = &self.tracks;
            self.streams.retain(|ssrc, track| tracks.get(*track).is_some_and(|track| track.switch.has(*ssrc)));
            self.state.record().streams.retain(|ssrc, _| self.streams.contains_key(ssrc));
            if self.streams.len() >= MOST_STREAMS {
                return None;
            }
        }
        self.streams.insert(header.ssrc, track);
        self.state.proven(header.ssrc);
        if let Some(stream) = self.state.record().stream(header.ssrc, track) {
            stream.rid = self.identity.rid(track, header).map(str::to_owned);
        }
        Some(track)
    }

    /// Hands on what goes out for a packet; false if it belongs nowhere.
    fn rtp(&mut self, packet: &rtp::Packet, now: Instant) -> bool {
        let header = &packet.header;
        let Some(index) = self.track_of(header) else { return false };
        let Some(TrackTap { track, switch, .. }) = self.tracks.get_mut(index) else { return false };
        let incoming = RtpPacket {
            dependencies: self.identity.dependencies(header),
            marker: header.marker,
            payload_type: header.payload_type,
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            // Empty where there is padding only, which probes for bandwidth; it still counts for the order of numbers.
            payload: packet.payload.clone(),
            arrival: now,
        };
        if self.identity.layers(index) > 1 {
            self.sink.layer_rtp(index, &incoming);
        }
        let before = switch.active();
        if !switch.take(incoming, &mut self.out) {
            self.streams.remove(&header.ssrc);
            self.state.record().streams.remove(&header.ssrc);
            return false;
        }
        let (active, size) = (switch.active(), switch.size(header.ssrc));
        let mut record = self.state.record();
        if let Some(stream) = record.stream(header.ssrc, index) {
            let clock_rate = track.codec.clock_rate();
            stream.received(header, packet.payload.len(), clock_rate, now);
            stream.size = size;
        }
        if let Some(record) = record.tracks.get_mut(index) {
            (record.active, record.switches) = (active, switch.switches());
            record.is_waiting = switch.is_switching() && switch.asked().is_none();
        }
        drop(record);
        if before.is_none() && active.is_some() && track.kind() == MediaKind::Video {
            self.state.with_keyframes(index, |policy| policy.start(now));
        }
        for packet in self.out.drain(..) {
            self.sink.rtp(index, packet);
        }
        true
    }

    fn report(&mut self, report: &RtcpReport, now: Instant) {
        let Some(&index) = self.streams.get(&report.ssrc) else { return };
        let Some(track) = self.tracks.get_mut(index) else { return };
        let RtcpReport { ssrc, ntp_time, rtp_time, .. } = *report;
        let sent = SenderReport { ssrc, ntp_time, rtp_time, arrival: now };
        if self.identity.layers(index) > 1 {
            self.sink.layer_report(index, sent);
        }
        if let Some(outgoing) = track.switch.report(report.ssrc, sent) {
            self.sink.sender_report(index, outgoing);
        }
    }

    /// Queues the keyframe requests that are due.
    fn request_keyframes(&mut self, now: Instant) {
        // Taken back before looking, so that what another thread wants meanwhile is not lost.
        let wanted = self.state.keyframe_wanted.swap(false, Relaxed);
        if !wanted && !self.is_switching() {
            return;
        }
        let mut still_wanted = false;
        for TrackTap { track, means, switch } in &mut self.tracks {
            let index = track.index;
            let polled = self.state.with_policy(index, |policy| {
                let asked = switch.asked(); // nobody, while the layer that goes out is dead: the next one is being asked
                (asked.and_then(|ssrc| Some((ssrc, policy.poll(*means, now)?))), policy.is_waiting())
            });
            let Some((due, is_waiting)) = polled else { continue };
            still_wanted |= is_waiting;
            for (ssrc, ask) in due.into_iter().chain(switch.poll(*means, now)) {
                let request = self.requests.message(ssrc, ask);
                if let Some(record) = self.state.record().tracks.get_mut(index) {
                    record.count(ask);
                }
                let message = AttributedPacket::new(Packet::Rtcp(vec![request]));
                self.write.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
            }
        }
        let means = |track: usize| self.tracks.get(track).map(|track| track.means).unwrap_or_default();
        let (due, more) = self.state.due_layers(means, now);
        for (track, ssrc, ask) in due {
            if !self.streams.contains_key(&ssrc) {
                continue;
            }
            let request = self.requests.message(ssrc, ask);
            if let Some(record) = self.state.record().tracks.get_mut(track) {
                record.count(ask);
            }
            let message = AttributedPacket::new(Packet::Rtcp(vec![request]));
            self.write.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
        }
        if still_wanted || more {
            self.state.keyframe_wanted.store(true, Relaxed);
        }
    }

    fn is_switching(&self) -> bool {
        self.tracks.iter().any(|track| track.switch.is_switching())
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for MediaTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        let now = tagged.now;
        match &tagged.message.packet {
            Packet::Rtp(packet) => {
                if !self.rtp(packet, now) {
                    self.state.ignored.fetch_add(1, Relaxed);
                    return Ok(());
                }
                let stamp = now.saturating_duration_since(self.state.started).as_millis() as u64 + 1;
                self.state.last_media.store(stamp, Relaxed);
                self.state.packets.fetch_add(1, Relaxed);
                self.state.bytes.fetch_add(packet.payload.len() as u64, Relaxed);
                self.request_keyframes(now);
            }
            Packet::Rtcp(packets) => {
                self.state.reported(packets);
                for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<RtcpReport>()) {
                    self.report(report, now);
                }
                self.read.push_back(tagged);
            }
            _ => self.read.push_back(tagged),
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.request_keyframes(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        // Requests come from other threads, which cannot wake the connection: the NACK generator's tick does, and where
        // there is none, this.
        let waits = self.state.keyframe_wanted.load(Relaxed) || self.is_switching();
        waits.then(|| time::now() + REQUEST_TICK)
    }
}

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        if let Some(track) = self.streams.remove(&stream.ssrc).and_then(|track| self.tracks.get_mut(track)) {
            track.switch.forget(stream.ssrc);
        }
    }
}
