//! Notices pictures that were cut short by who sends them: the number of what follows is the next one, so that nothing seems to be
//! missing, and depayloaders make one picture of the beginning of the old one and the next. Chromium does that when packets wait for
//! its pacer and a keyframe comes: the rest of the picture before it is thrown away before its packets have numbers. Pure.

use crate::{
    codec::{Codec, begins_with_first_slice, starts_keyframe},
    session::RtpPacket,
};

/// What was last of a stream of pictures, in the order of sending.
#[derive(Debug)]
pub(super) struct CutShort {
    codec: Codec,
    last: Option<Last>,
    tells: Option<Tells>,
}

/// What a sender tells of ends, as not all do.
#[derive(Clone, Copy, Debug)]
struct Tells {
    ssrc: u32,
    /// The marker, of pictures.
    marks: bool,
    /// The marker was missing where nothing was cut short.
    is_erratic: bool,
    /// The E bit, of units in fragments.
    ends: bool,
}

/// A picture lacks its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// What follows is a keyframe, so that none has to be asked for.
    pub(super) begins_keyframe: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    ssrc: u32,
    time: u32,
    marker: bool,
    /// Some of the picture has come, and not only what is written in front of one.
    is_picture: bool,
    /// A unit has begun, and goes on in the next packet.
    is_open: bool,
}

impl CutShort {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, last: None, tells: None }
    }

    /// Packets are missing in front of the next one, or it begins a stream.
    pub(super) fn gap(&mut self) {
        self.last = None;
    }

    /// The next packet; what there is to say if the picture in front of it lacks its end.
    pub(super) fn before(&mut self, packet: &RtpPacket) -> Option<Cut> {
        let RtpPacket { ssrc, timestamp, marker, .. } = *packet;
        let fragment = fragment(self.codec, &packet.payload);
        let first_slice = begins_with_first_slice(self.codec, &packet.payload);
        let is_picture = match self.codec {
            Codec::H264 | Codec::H265 => first_slice.is_some(),
            _ => true,
        };
        let last = self.last.filter(|last| last.ssrc == ssrc);
        let tells = self.tells.filter(|tells| tells.ssrc == ssrc);
        let Tells { marks, is_erratic, ends, .. } =
            tells.unwrap_or(Tells { ssrc, marks: false, is_erratic: false, ends: false });
        let goes_on = |last: Last| last.time == timestamp && matches!(fragment, Some(Fragment { is_first: false, .. }));
        let is_unmarked = last.is_some_and(|last| last.time != timestamp && !last.marker && last.is_picture);
        let is_open = last.is_some_and(|last| last.is_open && !goes_on(last));
        let begins_keyframe = starts_keyframe(self.codec, &packet.payload);
        let is_cut = is_open && ends || is_unmarked && marks && !is_erratic && begins_keyframe;
        // Who forwards a lower layer may leave the marker with the higher one: once it was missing, it may be missing again.
        self.tells = Some(Tells {
            ssrc,
            marks: marks && !is_unmarked || marker,
            is_erratic: is_erratic || marks && is_unmarked && !begins_keyframe,
            ends: ends || fragment.as_ref().is_some_and(|fragment| fragment.is_last),
        });
        // Senders that catch up may give several pictures one time.
        let begins_another = |last: Last| last.marker && last.is_picture && first_slice == Some(true);
        let of_same = last.filter(|last| last.time == timestamp && !begins_another(*last));
        self.last = Some(Last {
            ssrc,
            time: timestamp,
            marker: marker || of_same.is_some_and(|last| last.marker),
            is_picture: is_picture || of_same.is_some_and(|last| last.is_picture),
            is_open: !marker && fragment.is_some_and(|fragment| !fragment.is_last),
        });
        is_cut.then_some(Cut { begins_keyframe })
    }
}

/// A part of a unit that is too long for one packet.
struct Fragment {
    is_first: bool,
    is_last: bool,
}

/// Of H.264 (FU-A and FU-B, RFC 6184 section 5.8) and H.265 (RFC 7798 section 4.4.3); the others tell nothing that the marker does not.
fn fragment(codec: Codec, payload: &[u8]) -> Option<Fragment> {
    let header = match (codec, payload) {
        (Codec::H264, [first, header, ..]) if matches!(first & 0x1F, 28 | 29) => header,
        (Codec::H265, [first, _, header, ..]) if first >> 1 & 0x3F == 49 => header,
        _ => return None,
    };
    Some(Fragment { is_first: header & 0x80 != 0, is_last: header & 0x40 != 0 })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;

    fn packet(time: u32, marker: bool, payload: &[u8]) -> RtpPacket {
        RtpPacket {
            dependencies: None,
            marker,
            payload_type: 96,
            sequence_number: 0,
            timestamp: time,
            ssrc: 1,
            payload: Bytes::copy_from_slice(payload),
            arrival: Instant::now(),
        }
    }

    /// In front of which of these packets a picture lacks its end.
    fn cuts(codec: Codec, packets: &[RtpPacket]) -> Vec<usize> {
        let mut pictures = CutShort::new(codec);
        (0..packets.len()).filter(|index| pictures.before(&packets[*index]).is_some()).collect()
    }

    const SETS: &[u8] = &[24, 0, 2, 0x67, 1, 0, 2, 0x68, 1];
    const KEY: [&[u8]; 3] = [&[0x7C, 0x85, 0x88], &[0x7C, 0x05, 1], &[0x7C, 0x45, 1]];
    const DELTA: [&[u8]; 3] = [&[0x7C, 0x81, 0x88], &[0x7C, 0x01, 1], &[0x7C, 0x41, 1]];

    fn whole(time: u32, fragments: &[&[u8]]) -> Vec<RtpPacket> {
        let last = fragments.len() - 1;
        fragments.iter().enumerate().map(|(index, payload)| packet(time, index == last, payload)).collect()
    }

    #[test]
    fn whole_pictures_are_whole() {
        let mut packets = whole(0, &[SETS, KEY[0], KEY[1], KEY[2]]);
        packets.extend(whole(1, &DELTA));
        packets.extend(whole(2, &[&[0x41, 0x88]]));
        packets.extend(whole(3, &[SETS, KEY[0], KEY[2]]));
        assert_eq!(cuts(Codec::H264, &packets), [0; 0]);
    }

    #[test]
    fn a_unit_that_does_not_come_to_its_end_is_noticed_whoever_marks_ends() {
        for kept in [1, 2] {
            let mut packets = whole(0, &[SETS, KEY[0], KEY[2]]);
            packets.extend(DELTA[..kept].iter().map(|payload| packet(1, false, payload)));
            packets.extend(whole(2, &[SETS, KEY[0], KEY[2]]));
            assert_eq!(cuts(Codec::H264, &packets), [3 + kept], "behind sets");
            packets.remove(3 + kept);
            assert_eq!(cuts(Codec::H264, &packets), [3 + kept], "without sets");
            packets.iter_mut().for_each(|packet| packet.marker = false);
            assert_eq!(cuts(Codec::H264, &packets), [3 + kept], "without markers");
        }
        let fragments = [[0x62, 1, 0x81, 0x88], [0x62, 1, 0x41, 0x88]];
        let [begins, ends] = [0, 1].map(|index| packet(0, index == 1, &fragments[index]));
        let packets = [begins, ends, packet(1, false, &fragments[0]), packet(2, true, &[0x26, 1, 0x88])];
        assert_eq!(cuts(Codec::H265, &packets), [3]);
    }

    #[test]
    fn a_picture_that_bears_the_time_of_the_one_before_is_known_by_its_unit() {
        let mut packets = whole(0, &KEY);
        packets.push(packet(0, false, DELTA[0]));
        packets.extend(whole(1, &[SETS, KEY[0], KEY[2]]));
        assert_eq!(cuts(Codec::H264, &packets), [4]);
        let slices = [packet(0, true, &[0x41, 0x88]), packet(0, false, &[0x41, 0x88]), packet(1, false, SETS)];
        assert_eq!(cuts(Codec::H264, &slices), [2]);
        let behind = [packet(0, true, &[0x41, 0x88]), packet(0, false, &[0x41, 0x08]), packet(1, false, SETS)];
        assert_eq!(cuts(Codec::H264, &behind), [0; 0], "more of the picture that was marked");
        let sets = [packet(0, true, SETS), packet(0, false, &[0x65, 0x88]), packet(1, true, SETS)];
        assert_eq!(cuts(Codec::H264, &sets), [0; 0], "what was marked was no picture");
    }

    #[test]
    fn who_never_tells_the_end_of_a_unit_is_let_be() {
        let mut packets = Vec::new();
        for time in 0..3 {
            packets.extend(whole(time, &[SETS, KEY[0], KEY[1], KEY[0], KEY[1]]));
        }
        assert_eq!(cuts(Codec::H264, &packets), [0; 0]);
    }

    #[test]
    fn a_picture_without_its_last_slices_is_noticed_where_ends_are_marked() {
        let slices = [packet(0, false, &[0x41, 0x88]), packet(0, true, &[0x41, 0x08]), packet(1, false, &[0x41, 0x88])];
        let next = [packet(2, false, SETS), packet(2, true, &[0x65, 0x88])];
        let packets: Vec<_> = slices.iter().cloned().chain(next).collect();
        assert_eq!(cuts(Codec::H264, &packets), [3]);
        let unmarked: Vec<_> = packets.into_iter().map(|packet| RtpPacket { marker: false, ..packet }).collect();
        assert_eq!(cuts(Codec::H264, &unmarked), [0; 0], "it may be that this sender never does");
        // Sets may have a time of their own, and belong to what follows.
        let sets = [packet(0, true, &[0x41, 0x88]), packet(1, false, SETS), packet(2, true, &[0x65, 0x88])];
        assert_eq!(cuts(Codec::H264, &sets), [0; 0]);
        let vp8 = [packet(0, true, &[0x10, 0]), packet(1, false, &[0x10, 1]), packet(2, true, &[0x10, 0])];
        assert_eq!(cuts(Codec::Vp8, &vp8), [2]);
        let behind = [packet(0, true, &[0x10, 0]), packet(0, false, &[0x10, 1]), packet(2, true, &[0x10, 0])];
        assert_eq!(cuts(Codec::Vp8, &behind), [0; 0], "the marker was there");
    }

    /// As a forwarder does that leaves out a layer, and the ends of pictures with it; or who marks one field of two.
    #[test]
    fn markers_that_are_not_always_set_cost_no_picture() {
        let pictures = |from: u32, marker: bool| (from..from + 5).map(move |time| packet(time, marker, &[0x10, 1]));
        let packets: Vec<_> = pictures(0, true).chain(pictures(5, false)).chain(pictures(10, true)).collect();
        assert_eq!(cuts(Codec::Vp8, &packets), [0; 0]);
        let fields: Vec<_> = (0..6).map(|time| packet(time, time % 2 == 1, &[0x41, 0x88])).collect();
        assert_eq!(cuts(Codec::H264, &fields), [0; 0]);
        // Two of one time, then a keyframe.
        let mut fields: Vec<_> = (0..6).map(|field| packet(field / 2, field % 2 == 0, &[0x41, 0x88])).collect();
        fields.push(packet(3, false, SETS));
        assert_eq!(cuts(Codec::H264, &fields), [0; 0]);
    }

    #[test]
    fn what_is_missing_is_known_already_and_another_stream_is_another() {
        let mut pictures = CutShort::new(Codec::H264);
        for payload in KEY {
            assert_eq!(pictures.before(&packet(0, false, payload)), None);
        }
        assert_eq!(pictures.before(&packet(1, false, DELTA[0])), None);
        pictures.gap();
        assert_eq!(pictures.before(&packet(2, false, DELTA[0])), None);
        assert_eq!(pictures.before(&RtpPacket { ssrc: 2, ..packet(3, true, &[0x65, 0x88]) }), None);
    }

    #[test]
    fn a_keyframe_that_follows_is_told_of() {
        for (next, begins_keyframe) in [(SETS, true), (DELTA[0], false)] {
            let mut pictures = CutShort::new(Codec::H264);
            for whole in whole(0, &KEY) {
                pictures.before(&whole);
            }
            pictures.before(&packet(1, false, DELTA[0]));
            assert_eq!(pictures.before(&packet(2, false, next)), Some(Cut { begins_keyframe }));
        }
    }
}
