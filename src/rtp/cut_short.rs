//! Notices pictures that were cut short by who sends them: the number of what follows is the next one, so that nothing seems to be
//! missing, and depayloaders make one picture of the beginning of the old one and the next. Chromium does that when packets wait for
//! its pacer and a keyframe comes: the rest of the picture before it is thrown away before its packets have numbers. Pure.

use crate::{
    codec::{Codec, begins_with_first_slice},
    session::RtpPacket,
};

/// What was last of a stream of pictures, in the order of sending.
#[derive(Debug)]
pub(super) struct CutShort {
    codec: Codec,
    last: Option<Last>,
    /// The SSRC and whether it marks the ends of pictures, as not all senders do.
    marks: Option<(u32, bool)>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    ssrc: u32,
    time: u32,
    marker: bool,
    /// It holds some of the picture, and not only what is written in front of one.
    is_picture: bool,
    /// A unit has begun, and goes on in the next packet.
    is_open: bool,
}

impl CutShort {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, last: None, marks: None }
    }

    /// Packets are missing in front of the next one, or it begins a stream.
    pub(super) fn gap(&mut self) {
        self.last = None;
    }

    /// The next packet; whether the picture in front of it lacks its end.
    pub(super) fn before(&mut self, packet: &RtpPacket) -> bool {
        let RtpPacket { ssrc, timestamp, marker, .. } = *packet;
        let fragment = fragment(self.codec, &packet.payload);
        let is_picture = match self.codec {
            Codec::H264 | Codec::H265 => begins_with_first_slice(self.codec, &packet.payload).is_some(),
            _ => true,
        };
        let last = self.last.filter(|last| last.ssrc == ssrc);
        let marks = self.marks.is_some_and(|(of, marks)| of == ssrc && marks);
        let goes_on = |last: Last| last.time == timestamp && matches!(fragment, Some(Fragment { is_first: false, .. }));
        let is_unmarked = last.is_some_and(|last| last.time != timestamp && !last.marker && last.is_picture);
        let is_cut = last.is_some_and(|last| last.is_open && !goes_on(last)) || is_unmarked && marks;
        // Who forwards a lower layer may leave the marker with the higher one: once it was missing, it may be missing again.
        self.marks = Some((ssrc, marks && !is_unmarked || marker));
        let is_open = fragment.is_some_and(|fragment| !fragment.is_last);
        self.last = Some(Last { ssrc, time: timestamp, marker, is_picture, is_open });
        is_cut
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
        (0..packets.len()).filter(|index| pictures.before(&packets[*index])).collect()
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
        let begins = [0x62, 1, 0x81, 0x88];
        let packets = [packet(0, false, &begins), packet(1, true, &[0x26, 1, 0x88])];
        assert_eq!(cuts(Codec::H265, &packets), [1]);
    }

    #[test]
    fn a_picture_without_its_last_slices_is_noticed_where_ends_are_marked() {
        let slices = [packet(0, false, &[0x41, 0x88]), packet(0, true, &[0x41, 0x08]), packet(1, false, &[0x41, 0x88])];
        let next = packet(2, true, &[0x65, 0x88]);
        let packets: Vec<_> = slices.iter().cloned().chain([next]).collect();
        assert_eq!(cuts(Codec::H264, &packets), [3]);
        let unmarked: Vec<_> = packets.into_iter().map(|packet| RtpPacket { marker: false, ..packet }).collect();
        assert_eq!(cuts(Codec::H264, &unmarked), [0; 0], "it may be that this sender never does");
        // Sets may have a time of their own, and belong to what follows.
        let sets = [packet(0, true, &[0x41, 0x88]), packet(1, false, SETS), packet(2, true, &[0x65, 0x88])];
        assert_eq!(cuts(Codec::H264, &sets), [0; 0]);
        let vp8 = [packet(0, true, &[0x10, 0]), packet(1, false, &[0x10, 1]), packet(2, true, &[0x10, 0])];
        assert_eq!(cuts(Codec::Vp8, &vp8), [2]);
    }

    /// As a forwarder does that leaves out a layer, and the ends of pictures with it.
    #[test]
    fn markers_that_are_not_set_any_more_are_missed_once() {
        let pictures = |from: u32, marker: bool| (from..from + 5).map(move |time| packet(time, marker, &[0x8C, 1]));
        let packets: Vec<_> = pictures(0, true).chain(pictures(5, false)).chain(pictures(10, true)).collect();
        assert_eq!(cuts(Codec::Vp9, &packets), [6]);
    }

    #[test]
    fn what_is_missing_is_known_already_and_another_stream_is_another() {
        let mut pictures = CutShort::new(Codec::H264);
        assert!(!pictures.before(&packet(0, false, DELTA[0])));
        pictures.gap();
        assert!(!pictures.before(&packet(1, false, DELTA[0])));
        assert!(!pictures.before(&RtpPacket { ssrc: 2, ..packet(2, true, &[0x65, 0x88]) }));
    }
}
