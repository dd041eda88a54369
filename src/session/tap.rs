//! Where media leaves the peer connection: RTP and sender reports to the session's [`PacketSink`], keyframe requests in.
//!
//! An interceptor at the application's end of the chain: taking packets here costs a seventh less than polling tracks.
//! It runs while the connection's core is locked, so all it does is hand over.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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

use super::{PacketSink, RtpPacket, SenderReport, keyframe::KeyframePolicy, negotiate::Track};
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
    /// Packets that belong to no track, or to a second stream of one.
    pub(super) ignored: AtomicU64,
    pub(super) keyframe_requests: AtomicU64,
    /// Whether any policy wants a keyframe, to be asked for each packet.
    keyframe_wanted: AtomicBool,
    /// One for each track, used for video only.
    keyframes: Vec<Mutex<KeyframePolicy>>,
}

impl TapState {
    pub(super) fn new(tracks: usize) -> Self {
        Self {
            started: Instant::now(),
            last_media: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            keyframe_requests: AtomicU64::new(0),
            keyframe_wanted: AtomicBool::new(false),
            keyframes: (0..tracks).map(|_| Mutex::default()).collect(),
        }
    }

    /// When the last packet came, to a millisecond.
    pub(super) fn last_media(&self) -> Option<Instant> {
        let stamp = self.last_media.load(Relaxed);
        (stamp > 0).then(|| self.started + Duration::from_millis(stamp - 1))
    }

    /// Changes a track's policy.
    pub(super) fn with_keyframes(&self, track: usize, change: impl FnOnce(&mut KeyframePolicy)) {
        let wanted = self.with_policy(track, |policy| {
            change(policy);
            policy.is_waiting()
        });
        if wanted == Some(true) {
            self.keyframe_wanted.store(true, Relaxed);
        }
    }

    /// Looks at a track's policy.
    pub(super) fn with_policy<T>(&self, track: usize, look: impl FnOnce(&mut KeyframePolicy) -> T) -> Option<T> {
        self.keyframes.get(track).map(|policy| look(&mut policy.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The interceptor.
pub(super) struct MediaTap {
    tracks: Vec<Track>,
    sink: Arc<dyn PacketSink>,
    state: Arc<TapState>,
    /// SSRC → track. Bounded: see [`Self::track_of`].
    streams: HashMap<u32, usize>,
    /// For each track the SSRC that it is taken from, and when that was last heard.
    active: Vec<Option<(u32, Instant)>>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// A stream that is silent for so long gives its track up to another SSRC: the sender has started anew.
const SILENCE: Duration = Duration::from_millis(500);

/// SSRCs remembered for one session. Simulcast and restarts use a few; a peer that makes up more is not served.
const MOST_STREAMS: usize = 32;

impl MediaTap {
    pub(super) fn new(tracks: Vec<Track>, sink: Arc<dyn PacketSink>, state: Arc<TapState>) -> Self {
        let active = vec![None; tracks.len()];
        Self { tracks, sink, state, streams: HashMap::new(), active, read: VecDeque::new(), write: VecDeque::new() }
    }

    /// The track of a packet: by the SSRCs of the offer, else by payload type (BUNDLE keeps these apart, RFC 9143
    /// section 9.2).
    fn track_of(&mut self, ssrc: u32, payload_type: u8) -> Option<usize> {
        if let Some(&track) = self.streams.get(&ssrc) {
            return Some(track);
        }
        if self.streams.len() >= MOST_STREAMS {
            return None;
        }
        let track = self
            .tracks
            .iter()
            .find(|track| track.ssrcs.contains(&ssrc) && track.carries(payload_type))
            .or_else(|| self.tracks.iter().find(|track| track.carries(payload_type)))?;
        self.streams.insert(ssrc, track.index);
        Some(track.index)
    }

    /// Whether this SSRC is the one that its track is taken from: the first, until it falls silent. Simulcast layers
    /// would otherwise be mixed into one stream.
    fn is_active(&mut self, track: usize, ssrc: u32, now: Instant) -> bool {
        let Some(active) = self.active.get_mut(track) else { return false };
        match active {
            Some((current, last)) if *current == ssrc => {
                *last = now;
                return true;
            }
            Some((_, last)) if now.saturating_duration_since(*last) < SILENCE => return false,
            _ => *active = Some((ssrc, now)),
        }
        if self.tracks.get(track).is_some_and(|track| track.kind() == MediaKind::Video) {
            self.state.with_keyframes(track, |policy| policy.start(now));
        }
        true
    }

    /// Queues the keyframe requests that are due.
    fn request_keyframes(&mut self, now: Instant) {
        // Taken back before looking, so that what another thread wants meanwhile is not lost.
        if !self.state.keyframe_wanted.swap(false, Relaxed) {
            return;
        }
        let mut wanted = false;
        for (track, active) in self.active.iter().enumerate() {
            let Some((ssrc, _)) = active else { continue };
            let Some((due, waiting)) = self.state.with_policy(track, |policy| (policy.poll(now), policy.is_waiting()))
            else {
                continue;
            };
            wanted |= waiting;
            if due {
                self.state.keyframe_requests.fetch_add(1, Relaxed);
                let request = PictureLossIndication { sender_ssrc: 1, media_ssrc: *ssrc };
                let message = AttributedPacket::new(Packet::Rtcp(vec![Box::new(request)]));
                self.write.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
            }
        }
        if wanted {
            self.state.keyframe_wanted.store(true, Relaxed);
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
                let ssrc = packet.header.ssrc;
                let track = self.track_of(ssrc, packet.header.payload_type);
                let Some(track) = track.filter(|track| self.is_active(*track, ssrc, now)) else {
                    self.state.ignored.fetch_add(1, Relaxed);
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
                        let RtcpReport { ssrc, ntp_time, rtp_time, .. } = *report;
                        self.sink.sender_report(track, SenderReport { ssrc, ntp_time, rtp_time, arrival: now });
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
        self.state.keyframe_wanted.load(Relaxed).then(|| Instant::now() + REQUEST_TICK)
    }
}

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        self.streams.remove(&stream.ssrc);
        for active in &mut self.active {
            if active.is_some_and(|(ssrc, _)| ssrc == stream.ssrc) {
                *active = None;
            }
        }
    }
}
