//! Where media leaves the peer connection: RTP and sender reports to the session's [`PacketSink`], keyframe requests in.
//!
//! An interceptor at the application's end of the chain: taking packets here costs a seventh less than polling tracks.
//! It runs while the connection's core is locked, so all it does is hand over.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{AttributedPacket, Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtcp::{
        payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport as RtcpReport,
    },
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};

use super::{
    PacketSink, RtpPacket, SenderReport,
    keyframe::{Due, KeyframePolicy},
    negotiate::Track,
};
use crate::codec::MediaKind;

/// Application-ward of everything that recovers or measures.
pub(super) fn slot() -> Slot {
    Slot::from(61_000)
}

/// How long a keyframe request from another thread may wait for the connection's next turn.
const REQUEST_TICK: Duration = Duration::from_millis(50);

/// What the tap and the session's handle share.
#[derive(Debug)]
pub(super) struct TapState {
    started: Instant,
    /// Milliseconds after `started` of the last packet, plus one; 0 before the first.
    last_media: AtomicU64,
    pub(super) packets: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) keyframe_requests: AtomicU64,
    /// One for each track, used for video only.
    pub(super) keyframes: Vec<Mutex<KeyframePolicy>>,
}

impl TapState {
    pub(super) fn new(tracks: usize) -> Self {
        Self {
            started: Instant::now(),
            last_media: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            keyframe_requests: AtomicU64::new(0),
            keyframes: (0..tracks).map(|_| Mutex::default()).collect(),
        }
    }

    /// When the last packet came, to a millisecond.
    pub(super) fn last_media(&self) -> Option<Instant> {
        let stamp = self.last_media.load(Relaxed);
        (stamp > 0).then(|| self.started + Duration::from_millis(stamp - 1))
    }

    pub(super) fn with_keyframes<T>(&self, track: usize, f: impl FnOnce(&mut KeyframePolicy) -> T) -> Option<T> {
        self.keyframes.get(track).map(|policy| f(&mut policy.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The interceptor.
pub(super) struct MediaTap {
    tracks: Vec<Track>,
    sink: Arc<dyn PacketSink>,
    state: Arc<TapState>,
    /// SSRC → track and its SSRC to name in requests. Bounded: see [`Self::track_of`].
    streams: HashMap<u32, usize>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// SSRCs remembered for one session. Simulcast and restarts use a few; a peer that makes up more is not served.
const MOST_STREAMS: usize = 32;

impl MediaTap {
    pub(super) fn new(tracks: Vec<Track>, sink: Arc<dyn PacketSink>, state: Arc<TapState>) -> Self {
        Self { tracks, sink, state, streams: HashMap::new(), read: VecDeque::new(), write: VecDeque::new() }
    }

    /// The track of a packet: by the SSRCs of the offer, else by payload type (BUNDLE keeps these apart, RFC 9143
    /// section 9.2).
    fn track_of(&mut self, ssrc: u32, payload_type: u8, now: Instant) -> Option<usize> {
        if let Some(&track) = self.streams.get(&ssrc) {
            return Some(track);
        }
        if self.streams.len() >= MOST_STREAMS {
            return None;
        }
        let track = self
            .tracks
            .iter()
            .find(|track| track.ssrcs.contains(&ssrc) && track.payload_type == payload_type)
            .or_else(|| self.tracks.iter().find(|track| track.payload_type == payload_type))?;
        let (index, kind) = (track.index, track.kind());
        self.streams.insert(ssrc, index);
        if kind == MediaKind::Video {
            self.state.with_keyframes(index, |policy| policy.start(now));
        }
        Some(index)
    }

    /// Queues the keyframe requests that are due.
    fn request_keyframes(&mut self, now: Instant) {
        for (&ssrc, &track) in &self.streams {
            if self.tracks.get(track).is_none_or(|track| track.kind() != MediaKind::Video)
                || self.state.with_keyframes(track, |policy| policy.poll(now)) != Some(true)
            {
                continue;
            }
            self.state.keyframe_requests.fetch_add(1, Relaxed);
            let request = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
            let message = AttributedPacket::new(Packet::Rtcp(vec![Box::new(request)]));
            self.write.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
        }
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
                let Some(track) = self.track_of(packet.header.ssrc, packet.header.payload_type, now) else {
                    return Ok(());
                };
                let stamp = now.saturating_duration_since(self.state.started).as_millis() as u64 + 1;
                self.state.last_media.store(stamp, Relaxed);
                self.state.packets.fetch_add(1, Relaxed);
                self.state.bytes.fetch_add(packet.payload.len() as u64, Relaxed);
                // Padding-only packets probe for bandwidth; they still count for the order of sequence numbers.
                self.sink.rtp(
                    track,
                    RtpPacket {
                        marker: packet.header.marker,
                        payload_type: packet.header.payload_type,
                        sequence_number: packet.header.sequence_number,
                        timestamp: packet.header.timestamp,
                        ssrc: packet.header.ssrc,
                        payload: packet.payload.clone(),
                        arrival: now,
                    },
                );
                self.request_keyframes(now);
            }
            Packet::Rtcp(packets) => {
                for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<RtcpReport>()) {
                    if let Some(&track) = self.streams.get(&report.ssrc) {
                        let report =
                            SenderReport { ntp_time: report.ntp_time, rtp_time: report.rtp_time, arrival: now };
                        self.sink.sender_report(track, report);
                    }
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
        let waiting = self.streams.values().any(|track| {
            matches!(self.state.with_keyframes(*track, |policy| policy.due()), Some(Some(Due::Now | Due::At(_))))
        });
        waiting.then(|| Instant::now() + REQUEST_TICK)
    }
}

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        self.streams.remove(&stream.ssrc);
    }
}
