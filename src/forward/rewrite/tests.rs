//! Tests of what viewers are told.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::codec::PictureInfo;

/// What has no reason to be left out.
const KEPT: Verdict = Verdict { keeps: true, ends: false };

/// A packet of a picture of three.
pub(in crate::forward) fn packet(stream: u64, number: i64, start: Instant) -> SourcePacket {
    // Every 33 ms.
    let picture = number.div_euclid(3);
    let at = start + Duration::from_millis(33) * u32::try_from(picture.rem_euclid(1 << 20)).unwrap();
    SourcePacket {
        stream,
        number,
        timestamp: (picture as u32).wrapping_mul(2970).wrapping_add(stream as u32 * 1_000_000),
        marker: number.rem_euclid(3) == 2,
        starts_keyframe: false,
        payload: Bytes::from_static(&[1]),
        dependencies: None,
        stored: 0,
        info: Some(PictureInfo {
            picture: Some(((picture as u16).wrapping_add(100 * stream as u16) & 0x7FFF, true)),
            layer_zero: Some((picture as u8).wrapping_add(50)),
            counts_pictures: true,
            ..PictureInfo::default()
        }),
        at,
        arrival: at,
    }
}

#[test]
fn a_viewer_begins_with_the_keyframe_and_gets_nothing_from_before() {
    let (mut rewrite, start) = (Rewrite::new(Codec::Vp8), Instant::now());
    assert_eq!(rewrite.rewrite(&packet(1, 9, start), KEPT), None);
    rewrite.begin(&packet(1, 12, start), true);
    let first = rewrite.rewrite(&packet(1, 12, start), KEPT).unwrap();
    assert_eq!((first.number, first.renumbered), (FIRST as u64, None));
    assert_eq!(rewrite.rewrite(&packet(1, 11, start), KEPT), None);
    assert_eq!(rewrite.rewrite(&packet(1, 15, start), KEPT).unwrap().number, first.number + 3);
    assert_eq!(rewrite.rewrite(&packet(1, 13, start), KEPT).unwrap().number, first.number + 1, "late, in its place");
}

#[test]
fn another_layer_goes_on_in_number_time_and_picture() {
    let (mut rewrite, start) = (Rewrite::new(Codec::Vp8), Instant::now());
    rewrite.begin(&packet(1, 0, start), true);
    let last = (0..6).map(|number| rewrite.rewrite(&packet(1, number, start), KEPT).unwrap()).last().unwrap();
    rewrite.begin(&packet(2, 6, start), true);
    let next = rewrite.rewrite(&packet(2, 6, start), KEPT).unwrap();
    assert_eq!((next.number, next.timestamp), (last.number + 1, last.timestamp + 2970));
    let Renumbered { picture, layer_zero, .. } = next.renumbered.unwrap();
    assert_eq!((picture, layer_zero), (102, 52), "100 and 101 were the first layer's");
    assert_eq!(rewrite.rewrite(&packet(1, 6, start), KEPT), None, "the layer that was left");
    assert!(rewrite.rewrite(&packet(1, 4, start), KEPT).is_some(), "but not what it still owes");
}

#[test]
fn a_picture_that_was_cut_off_leaves_a_gap() {
    let (mut rewrite, start) = (Rewrite::new(Codec::Vp8), Instant::now());
    rewrite.begin(&packet(1, 0, start), true);
    let last = rewrite.rewrite(&packet(1, 1, start), KEPT).unwrap();
    rewrite.begin(&packet(2, 3, start), true);
    assert_eq!(rewrite.rewrite(&packet(2, 3, start), KEPT).unwrap().number, last.number + 2);
}

#[test]
fn another_publisher_goes_on_by_when_it_comes() {
    let (mut rewrite, start) = (Rewrite::new(Codec::Vp8), Instant::now());
    rewrite.begin(&packet(1, 2, start), true);
    let last = rewrite.rewrite(&packet(1, 2, start), KEPT).unwrap();
    let mut first = packet(9, 30_000, start);
    (first.arrival, first.at) = (start + Duration::from_secs(5), start);
    rewrite.begin(&first, false);
    let next = rewrite.rewrite(&first, KEPT).unwrap();
    assert_eq!((next.number, next.timestamp.wrapping_sub(last.timestamp)), (last.number + 1, 450_000));
}

/// What comes of some streams, one after the other: in disorder, with losses and repetitions, and with layers that the viewer
/// does not get.
#[derive(Clone, Debug)]
struct Coming {
    /// The first number of each stream.
    from: i64,
    /// By how many places each packet is late, whether it is lost, and whether it comes twice.
    packets: Vec<(usize, bool, bool)>,
    /// Whether the pictures of the upper layer go out, by the number of the picture.
    upper: Vec<bool>,
    by_capture: bool,
}

fn coming() -> impl Strategy<Value = Vec<Coming>> {
    let from = prop_oneof![-70_000..70_000_i64, 65_500..65_540_i64];
    let packets = prop::collection::vec((0..6_usize, prop::bool::weighted(0.1), prop::bool::weighted(0.1)), 1..80);
    let upper = prop::collection::vec(any::<bool>(), 30);
    let stream = (from, packets, upper, any::<bool>());
    let stream = stream.prop_map(|(from, packets, upper, by_capture)| Coming { from, packets, upper, by_capture });
    prop::collection::vec(stream, 1..6)
}

impl Coming {
    /// The numbers as they come.
    fn numbers(&self) -> Vec<i64> {
        // A picture begins with the first.
        let from = self.from.div_euclid(3) * 3;
        let mut order: Vec<(usize, i64)> = Vec::new();
        for (place, (late, is_lost, is_twice)) in self.packets.iter().enumerate() {
            let number = from + place as i64;
            if !is_lost || place == 0 {
                order.push((place + if place == 0 { 0 } else { *late }, number));
            }
            if *is_twice {
                order.push((place + late + 3, number));
            }
        }
        order.sort_by_key(|(at, _)| *at);
        order.into_iter().map(|(_, number)| number).collect()
    }

    fn lost(&self) -> Vec<i64> {
        let come: HashSet<i64> = self.numbers().into_iter().collect();
        let first = self.numbers()[0];
        (first..first + self.packets.len() as i64).filter(|number| !come.contains(number)).collect()
    }

    fn packet(&self, stream: u64, number: i64, start: Instant) -> SourcePacket {
        let picture = number.div_euclid(3) - self.from.div_euclid(3);
        let at = start + Duration::from_secs(2 * stream) + Duration::from_millis(33) * picture as u32;
        SourcePacket { at, arrival: at, ..packet(stream, number, start) }
    }

    /// Every second picture is of the upper layer.
    fn keeps(&self, number: i64) -> bool {
        let picture = (number.div_euclid(3) - self.from.div_euclid(3)) as usize;
        picture.is_multiple_of(2) || self.upper[picture % self.upper.len()]
    }
}

/// What went out for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Out {
    stream: u64,
    source: i64,
    rewritten: Rewritten,
}

/// All that goes out, in the order in which it does. What is lost of a stream comes after all, when the next one has begun.
fn out(streams: &[Coming]) -> Vec<Out> {
    let (mut rewrite, start) = (Rewrite::new(Codec::Vp8), Instant::now());
    let mut out = Vec::new();
    let mut take = |rewrite: &mut Rewrite, coming: &Coming, stream: u64, source: i64| {
        let verdict = Verdict { keeps: coming.keeps(source), ends: false };
        let rewritten = rewrite.rewrite(&coming.packet(stream, source, start), verdict);
        out.extend(rewritten.map(|rewritten| Out { stream, source, rewritten }));
    };
    let mut before: Option<(u64, &Coming)> = None;
    for (stream, coming) in (1..).zip(streams) {
        let numbers = coming.numbers();
        rewrite.begin(&coming.packet(stream, numbers[0], start), coming.by_capture);
        take(&mut rewrite, coming, stream, numbers[0]);
        if let Some((stream, coming)) = before.replace((stream, coming)) {
            for number in coming.lost() {
                take(&mut rewrite, coming, stream, number);
            }
        }
        for &source in &numbers[1..] {
            take(&mut rewrite, coming, stream, source);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_packets_have_one_number_and_no_packet_has_two(streams in coming()) {
        let (mut by_number, mut by_packet) = (HashMap::new(), HashMap::new());
        for Out { stream, source, rewritten } in out(&streams) {
            prop_assert_eq!(*by_number.entry(rewritten.number).or_insert((stream, source)), (stream, source));
            prop_assert_eq!(*by_packet.entry((stream, source)).or_insert(rewritten), rewritten);
        }
    }

    #[test]
    fn numbers_are_in_the_order_of_the_packets_and_streams_one_after_the_other(streams in coming()) {
        let mut out = out(&streams);
        out.sort_by_key(|out| (out.stream, out.source));
        out.dedup();
        for pair in out.windows(2) {
            prop_assert!(pair[0].rewritten.number < pair[1].rewritten.number, "{pair:?}");
            let later = pair[1].rewritten.timestamp.wrapping_sub(pair[0].rewritten.timestamp).cast_signed();
            let is_same_stream = pair[0].stream == pair[1].stream;
            prop_assert!(if is_same_stream { later >= 0 } else { later > 0 }, "{pair:?}");
        }
    }

    /// A number is left out for what was lost and, once a stream, for a picture that was cut off; for nothing else.
    #[test]
    fn numbers_are_left_out_for_losses_only(streams in coming()) {
        let numbers: BTreeSet<u64> = out(&streams).iter().map(|out| out.rewritten.number).collect();
        let left_out = numbers.last().unwrap() - numbers.first().unwrap() + 1 - numbers.len() as u64;
        let lost: usize = streams.iter().map(|coming| coming.lost().len()).sum();
        // What comes after the next stream has begun is lost as well.
        let late: usize = streams.iter().map(|coming| coming.packets.len().min(6)).sum();
        prop_assert!(left_out <= (lost + streams.len() + late) as u64, "{left_out} of {lost} lost");
        if let [coming] = &streams[..] && lost == 0 {
            prop_assert_eq!(left_out, 0, "{:?}", coming);
        }
    }

    #[test]
    fn what_goes_out_is_what_the_viewer_gets_and_an_empty_packet_only_fills_a_number(streams in coming()) {
        for Out { stream, source, rewritten } in out(&streams) {
            let coming = &streams[stream as usize - 1];
            prop_assert_eq!(rewritten.is_void, !coming.keeps(source));
        }
    }

    /// Whatever was left out, a VP8 picture's number is the one after that of the picture before it, in a stream in order.
    #[test]
    fn pictures_are_counted_without_those_that_are_left_out(mut streams in coming()) {
        for (late, is_lost, is_twice) in streams.iter_mut().flat_map(|coming| &mut coming.packets) {
            (*late, *is_lost, *is_twice) = (0, false, false);
        }
        let bits = |number: u16| number & 0x7FFF;
        let own = |out: &Out| packet(out.stream, out.source, Instant::now()).info.and_then(|info| info.picture).map(|p| p.0);
        let number = |out: &Out| out.rewritten.renumbered.map(|renumbered| bits(renumbered.picture)).or_else(|| own(out));
        let mut pictures: Vec<u16> = out(&streams).iter().filter_map(number).collect();
        pictures.dedup();
        for pair in pictures.windows(2) {
            prop_assert_eq!(pair[1], pair[0].wrapping_add(1) & 0x7FFF, "{:?}", &pictures);
        }
    }
}
