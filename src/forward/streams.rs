//! The streams of one track as they come: which layer a packet is of, its number without wrap-arounds, whether a keyframe
//! starts with it. Done once for all viewers. Pure.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::recent::Recent;
use crate::{
    codec::{
        Codec, DependencyDescriptor, LayerPlace, LayerStructure, MediaKind, PictureInfo, layer_sizes, picture_size,
        starts_keyframe,
    },
    session::{ClockPoint, RtpPacket},
};

/// Streams of a track: three layers, and as many that took their place.
const MOST_STREAMS: usize = 8;
/// A stream is not being sent any more when nothing of it came for so long.
pub(super) const SILENCE: Duration = Duration::from_millis(700);
/// Rates are of this much time.
const WINDOW: Duration = Duration::from_secs(1);

/// Layers in size and in time that are told apart; what is above counts for the highest.
const SPATIAL: usize = 4;
const TEMPORAL: usize = 4;

/// Something for each layer, by size and time.
type ByLayer = [[u64; TEMPORAL]; SPATIAL];

/// Some of a stream's layers, up to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    /// Bits per second of all of them.
    pub(super) rate: u64,
}

/// A packet as all viewers see it.
#[derive(Clone, Debug)]
pub(super) struct SourcePacket {
    /// Names its stream, never the same for two.
    pub(super) stream: u64,
    /// Its sequence number without wrap-arounds.
    pub(super) number: i64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) starts_keyframe: bool,
    pub(super) payload: Bytes,
    /// Its key in the history.
    pub(super) stored: u64,
    /// What it tells of its picture.
    pub(super) info: Option<PictureInfo>,
    /// Where that came from, if not from the payload.
    pub(super) dependencies: Option<DependencyDescriptor>,
    /// When it was captured as far as that is known, else when it came.
    pub(super) at: Instant,
    pub(super) arrival: Instant,
}

/// What is known of a stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Names it.
    pub(super) id: u64,
    pub(super) ssrc: u32,
    newest: i64,
    pub(super) clock: Option<ClockPoint>,
    last: Instant,
    /// Bytes since then.
    window: (Instant, ByLayer),
    /// Bits per second; `None` before the first second is over.
    rate: Option<ByLayer>,
    /// Of its last keyframe that told.
    size: Option<(u16, u16)>,
    /// The layers that its last keyframe told of, and which of what can be decoded is being sent.
    structure: Option<(Arc<LayerStructure>, u32)>,
    /// The sizes of its own layers, the smallest first.
    sizes: Vec<(u16, u16)>,
    recent: Recent,
}

/// A layer that a viewer could get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) stream: u64,
    pub(super) ssrc: u32,
    /// Bits per second.
    pub(super) rate: u64,
    /// Of its pictures, if they have told.
    pub(super) size: Option<(u16, u16)>,
}

/// The streams of one track of one publisher.
#[derive(Debug)]
pub(super) struct Streams {
    codec: Codec,
    streams: HashMap<u32, Stream>,
}

impl Streams {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, streams: HashMap::new() }
    }

    /// Takes a packet; `next_id` names a new stream, `store` keeps the payload. `None` for a stream too many.
    pub(super) fn take(
        &mut self,
        packet: RtpPacket,
        next_id: &mut u64,
        store: impl FnOnce(Bytes) -> u64,
    ) -> Option<SourcePacket> {
        let now = packet.arrival;
        if !self.streams.contains_key(&packet.ssrc) {
            if self.streams.len() >= MOST_STREAMS {
                self.streams.retain(|_, stream| now.saturating_duration_since(stream.last) < SILENCE);
            }
            if self.streams.len() >= MOST_STREAMS {
                return None;
            }
            *next_id += 1;
            let stream = Stream {
                id: *next_id,
                ssrc: packet.ssrc,
                newest: i64::from(packet.sequence_number),
                clock: None,
                last: now,
                window: (now, ByLayer::default()),
                rate: None,
                size: None,
                structure: None,
                sizes: Vec::new(),
                recent: Recent::default(),
            };
            self.streams.insert(packet.ssrc, stream);
        }
        let stream = self.streams.get_mut(&packet.ssrc)?;
        let number = stream.extended(packet.sequence_number);
        let dependencies = packet.dependencies.as_ref().filter(|_| self.codec == Codec::Av1);
        let dependencies = dependencies.and_then(|raw| stream.read(raw));
        let told = dependencies.as_ref().map(DependencyDescriptor::info);
        let info = told.or_else(|| PictureInfo::parse(self.codec, &packet.payload));
        stream.count(packet.payload.len(), info.map(|info| info.layer).unwrap_or_default(), now);
        // Padding alone is passed on empty: it has a number, and viewers would take it for lost.
        let starts_keyframe = !packet.payload.is_empty() && starts_keyframe(self.codec, &packet.payload);
        if starts_keyframe && self.codec.kind() == MediaKind::Video {
            stream.size = picture_size(self.codec, &packet.payload).or(stream.size);
            let sizes = layer_sizes(self.codec, &packet.payload);
            if !sizes.is_empty() {
                stream.sizes = sizes;
            }
        }
        let at = stream.clock.map_or(now, |clock| at(clock, packet.timestamp, self.codec.clock_rate()));
        let packet = SourcePacket {
            stream: stream.id,
            number,
            timestamp: packet.timestamp,
            marker: packet.marker,
            starts_keyframe,
            stored: store(packet.payload.clone()),
            payload: packet.payload,
            info,
            dependencies,
            at,
            arrival: now,
        };
        if self.codec.kind() == MediaKind::Video {
            stream.recent.add(&packet, number == stream.newest);
        }
        Some(packet)
    }

    /// A report of a stream: which RTP time is which instant. Returns the stream.
    pub(super) fn set_clock(&mut self, ssrc: u32, clock: ClockPoint) -> Option<u64> {
        let stream = self.streams.get_mut(&ssrc)?;
        stream.clock = Some(clock);
        Some(stream.id)
    }

    /// What a newcomer can begin a stream with at once.
    pub(super) fn recent(&self, id: u64, now: Instant) -> &[SourcePacket] {
        self.get(id).map_or(&[], |stream| stream.recent.packets(now))
    }

    pub(super) fn get(&self, id: u64) -> Option<&Stream> {
        self.streams.values().find(|stream| stream.id == id)
    }

    /// The layers that are being sent, the smallest first: by their pictures' size, by rate where sizes are unknown.
    pub(super) fn live(&self, now: Instant) -> Vec<Layer> {
        let live = self.streams.values().filter(|stream| now.saturating_duration_since(stream.last) < SILENCE);
        let mut live: Vec<(u32, Layer)> = live
            .map(|stream| {
                let area = stream.size.map_or(0, |(width, height)| u32::from(width) * u32::from(height));
                (area, Layer { stream: stream.id, ssrc: stream.ssrc, rate: stream.rate(), size: stream.size })
            })
            .collect();
        let all_sized = live.iter().all(|(area, _)| *area > 0);
        live.sort_by_key(|(area, layer)| (if all_sized { *area } else { 0 }, layer.rate, layer.stream));
        live.into_iter().map(|(_, layer)| layer).collect()
    }
}

impl Stream {
    fn extended(&mut self, number: u16) -> i64 {
        let ahead = number.wrapping_sub(self.newest as u16).cast_signed();
        let extended = self.newest + i64::from(ahead);
        self.newest = self.newest.max(extended);
        extended
    }

    /// Reads a dependency descriptor; what it tells is what all packets behind it mean.
    fn read(&mut self, raw: &Bytes) -> Option<DependencyDescriptor> {
        let known = self.structure.as_ref();
        let mut told = DependencyDescriptor::parse(raw, known.map(|(structure, _)| structure))?;
        let active = told.active.or(known.map(|(_, active)| *active)).unwrap_or_else(|| told.structure.all());
        told.active = Some(active);
        if told.attaches {
            self.size = told.structure.sizes().last().copied().or(self.size);
            self.sizes = told.structure.sizes().to_vec();
        }
        self.structure = Some((told.structure.clone(), active));
        Some(told)
    }

    fn count(&mut self, bytes: usize, place: LayerPlace, now: Instant) {
        self.last = now;
        let elapsed = now.saturating_duration_since(self.window.0);
        if elapsed >= WINDOW {
            // Of a stream that comes back the pause says nothing.
            if elapsed < WINDOW * 2 {
                let rate = |bytes: u64| (bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64;
                self.rate = Some(self.window.1.map(|of_size| of_size.map(rate)));
            }
            self.window = (now, ByLayer::default());
        }
        let spatial = usize::from(place.spatial).min(SPATIAL - 1);
        let temporal = usize::from(place.temporal).min(TEMPORAL - 1);
        let of_size = self.window.1.get_mut(spatial);
        if let Some(sum) = of_size.and_then(|of_size| of_size.get_mut(temporal)) {
            *sum += bytes as u64;
        }
    }

    fn rate(&self) -> u64 {
        match &self.rate {
            Some(rate) => rate.iter().flatten().sum(),
            None => self.window.1.iter().flatten().sum::<u64>() * 8,
        }
    }

    /// Its own layers in size, with the rate of each and those below it; empty where there is but one.
    pub(super) fn own_layers(&self) -> Vec<(Option<(u16, u16)>, u64)> {
        let points = self.points();
        let most = points.iter().map(|point| point.spatial).max().filter(|most| *most > 0);
        let Some(most) = most else { return Vec::new() };
        let rate = |spatial: u8| points.iter().filter(|point| point.spatial <= spatial).map(|point| point.rate).max();
        (0..=most)
            .map(|spatial| (self.sizes.get(usize::from(spatial)).copied(), rate(spatial).unwrap_or_default()))
            .collect()
    }

    /// What of its layers can go out, from the least to all of them; empty before that is known.
    pub(super) fn points(&self) -> Vec<Point> {
        let Some(rates) = &self.rate else { return Vec::new() };
        let mut points = Vec::new();
        for (spatial, of_size) in rates.iter().enumerate() {
            for (temporal, rate) in of_size.iter().enumerate().filter(|(_, rate)| **rate > 0) {
                let below = rates.iter().take(spatial).flat_map(|of_size| of_size.iter().take(temporal + 1));
                let rate = below.sum::<u64>() + of_size.iter().take(temporal).sum::<u64>() + rate;
                points.push(Point { spatial: spatial as u8, temporal: temporal as u8, rate });
            }
        }
        points
    }
}

/// The instant of an RTP time by a point nearby.
fn at(clock: ClockPoint, timestamp: u32, clock_rate: u32) -> Instant {
    let ticks = timestamp.wrapping_sub(clock.rtp_time).cast_signed();
    let by = Duration::from_nanos(u64::from(ticks.unsigned_abs()) * 1_000_000_000 / u64::from(clock_rate.max(1)));
    if ticks < 0 { clock.at.checked_sub(by).unwrap_or(clock.at) } else { clock.at + by }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence_number: u16, payload: &'static [u8], arrival: Instant) -> RtpPacket {
        let payload = Bytes::from_static(payload);
        RtpPacket {
            dependencies: None,
            marker: true,
            payload_type: 96,
            sequence_number,
            timestamp: 0,
            ssrc,
            payload,
            arrival,
        }
    }

    #[test]
    fn numbers_go_on_over_wrap_arounds_and_back() {
        let (mut streams, mut id, now) = (Streams::new(Codec::Vp8), 0, Instant::now());
        let mut number =
            |sequence| streams.take(packet(1, sequence, &[0x10, 1], now), &mut id, |_| 0).map(|p| p.number);
        assert_eq!([number(65_534), number(1), number(65_535), number(2)], [65_534, 65_537, 65_535, 65_538].map(Some));
    }

    #[test]
    fn layers_are_in_the_order_of_their_rates_and_go_when_they_are_silent() {
        let (mut streams, mut id, start) = (Streams::new(Codec::H264), 0, Instant::now());
        for step in 0..150_u16 {
            let now = start + Duration::from_millis(10) * u32::from(step);
            streams.take(packet(1, step, &[1; 100], now), &mut id, |_| 0);
            streams.take(packet(2, step, &[1; 20], now), &mut id, |_| 0);
        }
        let now = start + Duration::from_millis(1500);
        let layers = streams.live(now);
        assert_eq!(layers.iter().map(|layer| layer.ssrc).collect::<Vec<_>>(), [2, 1]);
        assert!((70_000..90_000).contains(&layers[1].rate), "{layers:?}");
        streams.take(packet(2, 200, &[1; 20], now + SILENCE), &mut id, |_| 0);
        assert_eq!(streams.live(now + SILENCE).len(), 1);
    }

    #[test]
    fn streams_are_bounded() {
        let (mut streams, mut id, now) = (Streams::new(Codec::Vp8), 0, Instant::now());
        let taken = (0..100).filter(|ssrc| streams.take(packet(*ssrc, 0, &[0x10, 1], now), &mut id, |_| 0).is_some());
        assert_eq!(taken.count(), MOST_STREAMS);
        assert!(streams.take(packet(7000, 0, &[0x10, 1], now + SILENCE), &mut id, |_| 0).is_some());
    }
}
