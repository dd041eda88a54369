//! H.264 that no decoder has to show, but every parser takes: parameter sets and slices with headers as they should be, and
//! chance behind these.

use bytes::Bytes;

use crate::session::simulation::dice::Dice;

/// The largest RTP payload, as `rtp/payload` makes them.
const LARGEST: usize = 1200 - 12;
/// From this size on a slice goes in fragments.
const FU_A: u8 = 28;
const STAP_A: u8 = 24;

/// A picture on its way.
#[derive(Debug)]
pub(in crate::rtp) struct Picture {
    pub(in crate::rtp) is_keyframe: bool,
    /// Its slices, as NAL units.
    pub(in crate::rtp) slices: Vec<Vec<u8>>,
}

impl Picture {
    /// The picture with this number, of about so many bytes.
    pub(in crate::rtp) fn new(
        number: u32,
        is_keyframe: bool,
        slices: u32,
        bytes: u32,
        since_keyframe: u32,
        dice: &mut Dice,
    ) -> Self {
        let slice = |index: u32, dice: &mut Dice| {
            let mut bits = Bits::default();
            bits.ue(index * (40 * 30 / slices)); // first_mb_in_slice
            bits.ue(if is_keyframe { 7 } else { 5 }); // slice_type
            bits.ue(0);
            bits.put(since_keyframe & 0xFF, 8); // frame_num
            if is_keyframe {
                bits.ue(number & 1); // idr_pic_id: another than the last
                bits.put(0, 2); // dec_ref_pic_marking
            } else {
                bits.put(0, 3); // as many references as usual, in the usual order, marked as usual
            }
            bits.ue(0); // slice_qp_delta
            let mut nal = vec![if is_keyframe { 0x65 } else { 0x41 }];
            nal.extend(escaped(&bits.finish()));
            // None is 0, so that nothing looks like a start code.
            nal.extend((0..bytes / slices).map(|_| dice.between(1, 255) as u8));
            nal
        };
        Self { is_keyframe, slices: (0..slices).map(|index| slice(index, dice)).collect() }
    }

    /// Its RTP payloads (RFC 6184), the last of which has the marker.
    pub(in crate::rtp) fn payloads(&self) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        if self.is_keyframe {
            let sets = [sequence_parameters(), picture_parameters()];
            let units =
                sets.iter().flat_map(|set| (set.len() as u16).to_be_bytes().into_iter().chain(set.iter().copied()));
            payloads.push([STAP_A | 0x60].into_iter().chain(units).collect());
        }
        for slice in &self.slices {
            if slice.len() <= LARGEST {
                payloads.push(slice.clone().into());
                continue;
            }
            let (header, body) = (slice[0], &slice[1..]);
            let count = body.len().div_ceil(LARGEST - 2);
            for (index, part) in body.chunks(LARGEST - 2).enumerate() {
                let (first, last) = (u8::from(index == 0) << 7, u8::from(index + 1 == count) << 6);
                payloads.push([&[header & 0xE0 | FU_A, first | last | header & 0x1F][..], part].concat().into());
            }
        }
        payloads
    }
}

/// Slices of a unit as the pads have it: each NAL unit behind its length.
pub(in crate::rtp) fn slices_of(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut slices = Vec::new();
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        if matches!(nal[0] & 0x1F, 1 | 5) {
            slices.push(nal.to_vec());
        }
        unit = rest;
    }
    assert!(unit.is_empty(), "something stands behind the NAL units");
    slices
}

/// Constrained baseline, 640 × 480, one reference, output in the order of decoding.
fn sequence_parameters() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x42_C0_1F, 24);
    bits.ue(0);
    bits.ue(4); // frame_num has 8 bits
    bits.ue(2); // pic_order_cnt_type
    bits.ue(1);
    bits.put(0, 1);
    bits.ue(40 - 1);
    bits.ue(30 - 1);
    bits.put(0b1100, 4); // frames only, direct_8x8, no cropping, no VUI
    [&[0x67][..], &escaped(&bits.finish())].concat()
}

fn picture_parameters() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.ue(0);
    bits.ue(0);
    bits.put(0, 2);
    bits.ue(0);
    bits.ue(0);
    bits.ue(0);
    bits.put(0, 3);
    bits.ue(0);
    bits.ue(0);
    bits.ue(0);
    bits.put(0, 3);
    [&[0x68][..], &escaped(&bits.finish())].concat()
}

/// With what keeps zeros from looking like a start code (H.264 section 7.4.1.1).
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut zeros) = (Vec::new(), 0);
    for byte in bytes {
        if zeros == 2 && *byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    /// Exp-Golomb (H.264 section 9.1).
    fn ue(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.put(0, length - 1);
        self.put(value + 1, length);
    }

    /// With the stop bit, up to a whole byte.
    fn finish(mut self) -> Vec<u8> {
        self.put(1, 1);
        self.0
            .chunks(8)
            .map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at)))
            .collect()
    }
}
