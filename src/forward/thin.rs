//! Which of a stream's own layers (SVC) a viewer gets: fewer pictures a second, or smaller ones, where its network carries no
//! more or it wants no more. Pure.
//!
//! It goes down with the next picture. In time it goes up where a picture says that nothing is missing then (a layer sync or
//! switching point), in size with a keyframe.

use std::{collections::VecDeque, time::Instant};

use super::{
    select::{KEEP, LayerLimits, Patience, ROOM},
    streams::{Point, SourcePacket},
};
use crate::codec::LayerPlace;

/// Pictures that are remembered for packets of them that come late: half a second and more.
const MOST_PICTURES: usize = 32;

/// The highest layers that go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Top {
    temporal: u8,
    spatial: u8,
}

const ALL: Top = Top { temporal: u8::MAX, spatial: u8::MAX };

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It goes out.
    pub(super) keeps: bool,
    /// With it the picture ends, as far as it goes out.
    pub(super) ends: bool,
}

/// The choice for one viewer.
#[derive(Debug)]
pub(super) struct Thinning {
    target: Top,
    current: Top,
    /// Its pictures by stream and time, and what goes out of them; the oldest first.
    pictures: VecDeque<(u64, u32, Top)>,
    patience: Patience,
    /// What the viewer wanted when it was decided last.
    limits: LayerLimits,
}

impl Default for Thinning {
    fn default() -> Self {
        let (pictures, patience, limits) = (VecDeque::new(), Patience::default(), LayerLimits::default());
        Self { target: ALL, current: ALL, pictures, patience, limits }
    }
}

impl Thinning {
    /// Decides what shall go out of a stream with these layers. `is_alone`: there is no other stream to choose, so that the
    /// limit of the picture's size is for the layers of this one.
    pub(super) fn decide(
        &mut self,
        points: &[Point],
        limits: &LayerLimits,
        is_alone: bool,
        estimate: Option<u64>,
        now: Instant,
    ) {
        let largest = points.iter().map(|point| point.spatial).max().unwrap_or(0);
        let most_spatial = limits.layer.filter(|_| is_alone).and_then(|most| u8::try_from(most).ok());
        let most_spatial = most_spatial.filter(|most| *most < largest).unwrap_or(u8::MAX);
        let most_temporal = limits.temporal.unwrap_or(u8::MAX);
        let is_allowed = |point: &&Point| {
            (point.spatial <= most_spatial || point.spatial == 0)
                && (point.temporal <= most_temporal || point.temporal == 0)
        };
        let allowed: Vec<Point> = points.iter().filter(is_allowed).copied().collect();
        let last = allowed.len().saturating_sub(1);
        let fits = |share: f64| {
            let Some(estimate) = estimate else { return last };
            let fitting = allowed.iter().rposition(|point| point.rate as f64 <= estimate as f64 * share);
            fitting.unwrap_or(0) // the least is better than nothing
        };
        let of_target = |point: &Point| point.spatial <= self.target.spatial && point.temporal <= self.target.temporal;
        let current = allowed.iter().rposition(of_target).unwrap_or(0);
        let key =
            |index: usize| allowed.get(index).map(|point| u64::from(point.spatial) << 8 | u64::from(point.temporal));
        let chosen = if std::mem::replace(&mut self.limits, *limits) == *limits {
            self.patience.choose(current, fits(KEEP), fits(ROOM), key, now)
        } else {
            fits(ROOM) // somebody waits for it
        };
        // All that there is, and may yet be, where nothing has to be left out.
        self.target = match allowed.get(chosen) {
            Some(&Point { temporal, spatial, .. }) if chosen < last => {
                Top { temporal, spatial: if spatial < largest { spatial } else { u8::MAX } }
            }
            _ => Top { temporal: most_temporal, spatial: most_spatial },
        };
    }

    /// The highest layers in time and size that go out of a packet's picture.
    pub(super) fn top(&self, packet: &SourcePacket) -> (u8, u8) {
        let of_it =
            |(stream, timestamp, _): &&(u64, u32, Top)| (*stream, *timestamp) == (packet.stream, packet.timestamp);
        let top = self.pictures.iter().rev().find(of_it).map_or(self.current, |(_, _, top)| *top);
        (top.temporal, top.spatial)
    }

    /// It can only go up with a keyframe.
    pub(super) fn needs_keyframe(&self) -> bool {
        self.target.spatial > self.current.spatial
    }

    /// What becomes of a packet of the stream that goes out, or of the one before it.
    pub(super) fn judge(&mut self, packet: &SourcePacket, is_current: bool) -> Verdict {
        let place = packet.info.map(|info| info.layer).unwrap_or_default();
        let known = self.pictures.iter().rev().find(|(stream, _, _)| *stream == packet.stream);
        let newest = known.map(|(_, timestamp, top)| (*timestamp, *top));
        let of_it =
            |(stream, timestamp, _): &&(u64, u32, Top)| (*stream, *timestamp) == (packet.stream, packet.timestamp);
        let top = match self.pictures.iter().rev().find(of_it) {
            Some((_, _, top)) => *top,
            None if packet.payload.is_empty() => self.current, // padding is no picture
            None if is_current && newest.is_none_or(|(newest, _)| is_later(packet.timestamp, newest)) => {
                self.begin_picture(&place, packet.starts_keyframe);
                self.pictures.push_back((packet.stream, packet.timestamp, self.current));
                if self.pictures.len() > MOST_PICTURES {
                    self.pictures.pop_front();
                }
                self.current
            }
            None => newest.map_or(self.current, |(_, top)| top),
        };
        let keeps = place.temporal <= top.temporal && place.spatial <= top.spatial;
        Verdict { keeps, ends: keeps && place.ends && place.spatial == top.spatial }
    }

    fn begin_picture(&mut self, place: &LayerPlace, starts_keyframe: bool) {
        let Top { temporal, spatial } = self.target;
        if starts_keyframe {
            self.current = self.target;
        }
        self.current.spatial = self.current.spatial.min(spatial);
        self.current.temporal = self.current.temporal.min(temporal);
        if self.current.temporal < temporal {
            if place.joins && self.current.temporal + 1 == place.temporal {
                self.current.temporal = place.temporal;
            }
            if let Some(opened) = place.opens
                && place.temporal <= self.current.temporal
            {
                self.current.temporal = self.current.temporal.max(opened.min(temporal));
            }
        }
    }
}

/// Whether an RTP time is after another one.
fn is_later(timestamp: u32, than: u32) -> bool {
    timestamp.wrapping_sub(than).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{codec::PictureInfo, forward::rewrite::tests::packet};

    const NONE: LayerLimits = LayerLimits { layer: None, temporal: None, width: None, height: None };

    /// Three layers in time: 100, 200 and 400 kbit/s.
    const POINTS: [Point; 3] = [
        Point { spatial: 0, temporal: 0, rate: 100_000 },
        Point { spatial: 0, temporal: 1, rate: 200_000 },
        Point { spatial: 0, temporal: 2, rate: 400_000 },
    ];

    struct Stream {
        thinning: Thinning,
        start: Instant,
        timestamp: u32,
    }

    impl Stream {
        fn new() -> Self {
            Self { thinning: Thinning::default(), start: Instant::now(), timestamp: 0 }
        }

        /// A picture; whether it goes out.
        fn picture(&mut self, layer: LayerPlace, starts_keyframe: bool) -> bool {
            self.timestamp += 3000;
            self.packet(layer, starts_keyframe).keeps
        }

        /// One more packet of it.
        fn packet(&mut self, layer: LayerPlace, starts_keyframe: bool) -> Verdict {
            let info = Some(PictureInfo { layer, ..PictureInfo::default() });
            let timestamp = self.timestamp;
            let packet = SourcePacket { info, timestamp, starts_keyframe, ..packet(1, 0, self.start) };
            self.thinning.judge(&packet, true)
        }

        fn wants(&mut self, temporal: u8) {
            self.decide(&POINTS, LayerLimits { temporal: Some(temporal), ..NONE }, None);
        }

        fn decide(&mut self, points: &[Point], limits: LayerLimits, estimate: Option<u64>) {
            self.start += Duration::from_secs(1);
            self.thinning.decide(points, &limits, true, estimate, self.start);
        }
    }

    fn vp8(temporal: u8, joins: bool) -> LayerPlace {
        LayerPlace { temporal, joins, ..LayerPlace::default() }
    }

    #[test]
    fn upper_layers_are_left_out_from_the_next_picture_on() {
        let mut stream = Stream::new();
        assert!(stream.picture(vp8(0, false), true));
        assert!(stream.picture(vp8(2, true), false));
        stream.wants(1);
        assert!(stream.packet(vp8(2, true), false).keeps, "the picture that has begun is finished");
        assert!(stream.picture(vp8(1, true), false));
        assert!(!stream.picture(vp8(2, false), false));
        assert!(stream.picture(vp8(0, false), false));
        stream.wants(0);
        assert!(!stream.picture(vp8(1, false), false));
        assert!(stream.picture(vp8(0, false), false), "better than nothing");
    }

    #[test]
    fn up_one_layer_at_a_time_where_a_picture_needs_only_the_layers_below() {
        let mut stream = Stream::new();
        stream.wants(0);
        stream.picture(vp8(0, false), true);
        stream.wants(2);
        assert!(!stream.picture(vp8(2, true), false), "layer 1 is not there yet");
        assert!(!stream.picture(vp8(1, false), false), "no sync");
        assert!(stream.picture(vp8(1, true), false));
        assert!(!stream.picture(vp8(2, false), false));
        assert!(stream.picture(vp8(0, false), false));
        assert!(stream.picture(vp8(2, true), false));
        assert!(stream.picture(vp8(2, false), false));
    }

    #[test]
    fn a_switching_point_that_goes_out_opens_everything_behind_it() {
        let mut stream = Stream::new();
        stream.wants(0);
        let (base, open) = (LayerPlace::default(), LayerPlace { opens: Some(u8::MAX), ..LayerPlace::default() });
        stream.picture(base, true);
        stream.wants(2);
        assert!(!stream.picture(LayerPlace { temporal: 2, ..open }, false), "one that does not go out opens nothing");
        assert!(stream.picture(base, false));
        assert!(!stream.picture(LayerPlace { temporal: 1, ..base }, false));
        assert!(stream.picture(open, false));
        assert!(stream.picture(LayerPlace { temporal: 2, ..base }, false));
    }

    #[test]
    fn a_keyframe_opens_everything() {
        let mut stream = Stream::new();
        stream.wants(0);
        stream.picture(vp8(0, false), true);
        stream.wants(2);
        assert!(stream.picture(vp8(0, false), true));
        assert!(stream.picture(vp8(2, false), false));
    }

    #[test]
    fn what_the_network_carries_decides_and_up_takes_a_while() {
        let mut stream = Stream::new();
        stream.decide(&POINTS, NONE, Some(1_000_000));
        assert_eq!(stream.thinning.target, ALL);
        stream.decide(&POINTS, NONE, Some(250_000));
        assert_eq!(stream.thinning.target.temporal, 1);
        stream.decide(&POINTS, NONE, Some(50_000));
        assert_eq!(stream.thinning.target.temporal, 0);
        stream.decide(&POINTS, NONE, Some(1_000_000));
        assert_eq!(stream.thinning.target.temporal, 0, "not at once");
        stream.decide(&POINTS, NONE, Some(1_000_000));
        assert_eq!(stream.thinning.target, ALL);
        stream.decide(&[], NONE, Some(10));
        assert_eq!(stream.thinning.target, ALL, "nothing is known of its layers");
    }

    #[test]
    fn layers_in_size_go_up_with_a_keyframe_only_and_end_the_picture_early() {
        let points: Vec<Point> =
            (0..3).map(|spatial| Point { spatial, temporal: 0, rate: 100_000 << (2 * spatial) }).collect();
        let mut stream = Stream::new();
        let layer = |spatial| LayerPlace { spatial, ends: true, ..LayerPlace::default() };
        stream.decide(&points, NONE, None);
        stream.picture(layer(0), true);
        assert_eq!(stream.packet(layer(2), false), Verdict { keeps: true, ends: false }, "the packet says so itself");
        stream.decide(&points, LayerLimits { layer: Some(1), ..NONE }, None);
        stream.picture(layer(0), false);
        assert_eq!(stream.packet(layer(1), false), Verdict { keeps: true, ends: true });
        assert!(!stream.packet(layer(2), false).keeps);
        stream.decide(&points, NONE, None);
        stream.decide(&points, NONE, None);
        assert!(stream.thinning.needs_keyframe());
        stream.picture(layer(0), false);
        assert!(!stream.packet(layer(2), false).keeps);
        stream.picture(layer(0), true);
        assert!(stream.packet(layer(2), false).keeps && !stream.thinning.needs_keyframe());
        stream.decide(&points, NONE, Some(500_000));
        stream.picture(layer(0), false);
        assert!(stream.packet(layer(1), false).keeps && !stream.packet(layer(2), false).keeps);
    }
}
