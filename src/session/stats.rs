//! What a session can tell of itself: a snapshot of the counters that its interceptors keep.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use super::{data::DataStats, layers::SILENCE, record::StreamRecord, red::RedCounts, tap::TapState, track::Track};
use crate::codec::{Codec, MediaKind};

/// A snapshot of what a session has received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// RTP packets of all tracks and layers, without duplicates.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// RTP packets that belong to no track, or to a stream too many of one.
    pub ignored: u64,
    /// Lost audio packets that a later one repeated (RFC 2198).
    pub recovered_by_red: u64,
    /// Packets whose payload type says RED and that are none.
    pub malformed_red: u64,
    /// Keyframe requests sent.
    pub keyframe_requests: u64,
    /// Whether a keyframe is being waited for.
    pub waiting_for_keyframe: bool,
    /// The round trip that ICE has measured last.
    pub round_trip: Option<Duration>,
    /// By the track's index.
    pub tracks: Vec<TrackStats>,
    /// Its data channels.
    pub data: DataStats,
}

/// One track. Packets, loss and bitrate are sums over its layers; jitter is that of the layer that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackStats {
    /// The media identification tag, if the description has one.
    pub mid: Option<String>,
    /// The codec.
    pub codec: Codec,
    /// The SSRC of the layer that is taken, once there is one.
    pub ssrc: Option<u32>,
    /// RTP packets, without duplicates.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Payload bits per second.
    pub bitrate: u64,
    /// Packets that did not come and were not made good.
    pub lost: u64,
    /// The jitter of arrival (RFC 3550 section 6.4.1).
    pub jitter: Duration,
    /// Packets that came after a NACK had asked for them.
    pub recovered: u64,
    /// Packets that came once more without being needed.
    pub duplicates: u64,
    /// NACK messages sent.
    pub nacks: u64,
    /// Picture Loss Indications sent.
    pub plis: u64,
    /// Full Intra Requests sent.
    pub firs: u64,
    /// Whether a keyframe is being waited for.
    pub waiting_for_keyframe: bool,
    /// Frames per second of the layer that is taken; 0 for audio.
    pub frame_rate: u64,
    /// How often another layer took over.
    pub switches: u64,
    /// The streams met, the one that is taken first.
    pub layers: Vec<LayerStats>,
}

/// One stream of a track: a simulcast layer, or all there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerStats {
    /// The layer's name (RFC 8851), if it has one.
    pub rid: Option<String>,
    /// Its SSRC.
    pub ssrc: u32,
    /// Whether it is what goes to the pad.
    pub is_active: bool,
    /// Whether it is being sent: something has come within half a second.
    pub is_live: bool,
    /// RTP packets, without duplicates.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Payload bits per second.
    pub bitrate: u64,
    /// Packets that did not come and were not made good.
    pub lost: u64,
    /// The size of its pictures, of simulcast layers whose keyframes tell.
    pub size: Option<(u16, u16)>,
}

/// Reads the counters of a session with these tracks.
pub(super) fn snapshot(
    tap: &TapState,
    red: &RedCounts,
    tracks: &[Track],
    data: DataStats,
    now: Instant,
) -> SessionStats {
    let tracks: Vec<TrackStats> = tracks.iter().map(|track| of_track(tap, track, now)).collect();
    SessionStats {
        packets: tap.packets.load(Relaxed),
        bytes: tap.bytes.load(Relaxed),
        ignored: tap.ignored.load(Relaxed),
        recovered_by_red: red.recovered.load(Relaxed),
        malformed_red: red.malformed.load(Relaxed),
        keyframe_requests: tracks.iter().map(|track| track.plis + track.firs).sum(),
        waiting_for_keyframe: tracks.iter().any(|track| track.waiting_for_keyframe),
        round_trip: tap.record().round_trip,
        tracks,
        data,
    }
}

fn of_track(tap: &TapState, track: &Track, now: Instant) -> TrackStats {
    let is_video = track.kind() == MediaKind::Video;
    let waiting_for_keyframe = is_video && tap.with_policy(track.index, |policy| policy.is_waiting()) == Some(true);
    let record = tap.record();
    let own = record.tracks.get(track.index).copied().unwrap_or_default();
    let streams: Vec<(u32, &StreamRecord)> =
        record.streams.iter().filter(|(_, s)| s.track == track.index).map(|(ssrc, stream)| (*ssrc, stream)).collect();
    let sum = |of: &dyn Fn(&StreamRecord) -> u64| streams.iter().map(|(_, stream)| of(stream)).sum();
    let active = own.active.and_then(|ssrc| record.streams.get(&ssrc));
    let mut layers: Vec<LayerStats> =
        streams.iter().map(|(ssrc, stream)| of_layer(*ssrc, stream, own.active == Some(*ssrc), now)).collect();
    layers.sort_by(|a, b| b.is_active.cmp(&a.is_active).then_with(|| a.rid.cmp(&b.rid)).then(a.ssrc.cmp(&b.ssrc)));
    TrackStats {
        mid: track.mid.clone(),
        codec: track.codec,
        ssrc: own.active,
        packets: sum(&|stream| stream.packets),
        bytes: sum(&|stream| stream.bytes),
        bitrate: sum(&|stream| stream.byte_rate.at(now) * 8),
        lost: sum(&|stream| stream.reception.lost()),
        jitter: active.map(|stream| stream.reception.jitter(track.codec.clock_rate())).unwrap_or_default(),
        recovered: sum(&|stream| stream.recovered),
        duplicates: sum(&|stream| stream.duplicates),
        nacks: sum(&|stream| stream.nacks),
        plis: own.plis,
        firs: own.firs,
        waiting_for_keyframe: waiting_for_keyframe || own.is_waiting,
        switches: own.switches,
        frame_rate: active.filter(|_| is_video).map_or(0, |stream| stream.frame_rate.at(now)),
        layers,
    }
}

fn of_layer(ssrc: u32, stream: &StreamRecord, is_active: bool, now: Instant) -> LayerStats {
    LayerStats {
        rid: stream.rid.clone(),
        ssrc,
        is_active,
        is_live: stream.last.is_some_and(|last| now.saturating_duration_since(last) < SILENCE),
        packets: stream.packets,
        bytes: stream.bytes,
        bitrate: stream.byte_rate.at(now) * 8,
        lost: stream.reception.lost(),
        size: stream.size,
    }
}
