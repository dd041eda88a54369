//! The size of the picture, from the first payload of a keyframe: enough to tell which of several layers is the largest.

use super::{Codec, keyframe::vp8_frame, vp9::Vp9Descriptor};

/// Width and height, where the payload tells; codecs that hide them deeper give `None`.
pub fn picture_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    match codec {
        Codec::H264 => sequence_parameter_set(payload).and_then(h264),
        Codec::Vp8 => vp8(vp8_frame(payload)?),
        Codec::Vp9 => Vp9Descriptor::parse(payload)?.size,
        _ => None,
    }
}

/// The sizes of a stream's own layers (SVC), the smallest first, where the first payload of a keyframe tells.
pub fn layer_sizes(codec: Codec, payload: &[u8]) -> Vec<(u16, u16)> {
    match codec {
        Codec::Vp9 => Vp9Descriptor::parse(payload).map(|descriptor| descriptor.sizes(payload)).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// RFC 6386 section 9.1: tag, start code, 14 bits of width and of height.
fn vp8(frame: &[u8]) -> Option<(u16, u16)> {
    match frame {
        [tag, _, _, 0x9D, 0x01, 0x2A, w1, w2, h1, h2, ..] if tag & 1 == 0 => {
            Some((u16::from_le_bytes([*w1, *w2]) & 0x3FFF, u16::from_le_bytes([*h1, *h2]) & 0x3FFF))
        }
        _ => None,
    }
}

/// The parameter set in a packet, alone or aggregated (RFC 6184 sections 5.6 and 5.7.1).
fn sequence_parameter_set(payload: &[u8]) -> Option<&[u8]> {
    let (first, mut rest) = payload.split_first()?;
    match first & 0x1F {
        7 => Some(rest),
        24 => loop {
            let (size, units) = rest.split_at_checked(2)?;
            let size = usize::from(u16::from_be_bytes([*size.first()?, *size.get(1)?]));
            let (unit, after) = units.split_at_checked(size)?;
            if let Some((first, set)) = unit.split_first()
                && first & 0x1F == 7
            {
                return Some(set);
            }
            rest = after;
        },
        _ => None,
    }
}

/// ITU-T H.264 section 7.3.2.1.1, as far as the cropping rectangle.
fn h264(set: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits { bytes: without_emulation_prevention(set), position: 0 };
    let profile = bits.take(8)?;
    bits.take(16)?; // constraints, level
    bits.golomb()?; // id
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.golomb()?;
        if chroma == 3 {
            bits.take(1)?;
        }
        bits.golomb()?; // bit depths
        bits.golomb()?;
        bits.take(1)?;
        if bits.take(1)? == 1 {
            bits.skip_scaling_lists(if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.golomb()?; // log2_max_frame_num
    match bits.golomb()? {
        0 => drop(bits.golomb()?),
        1 => {
            bits.take(1)?;
            bits.golomb()?;
            bits.golomb()?;
            for _ in 0..bits.golomb()?.min(255) {
                bits.golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?; // reference frames
    bits.take(1)?;
    let (width, height) = (bits.golomb()?.checked_add(1)?, bits.golomb()?.checked_add(1)?);
    let frames_only = bits.take(1)?;
    if frames_only == 0 {
        bits.take(1)?;
    }
    bits.take(1)?;
    let mut crop = [0; 4];
    if bits.take(1)? == 1 {
        for side in &mut crop {
            *side = bits.golomb()?;
        }
    }
    let [left, right, top, bottom] = crop;
    let fields = 2 - frames_only;
    let (unit_x, unit_y) = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 } else { 1 } * fields);
    let cropped = |blocks: u32, scale: u32, unit: u32, one: u32, other: u32| {
        let all = blocks.checked_mul(16)?.checked_mul(scale)?;
        u16::try_from(all.checked_sub(one.checked_add(other)?.checked_mul(unit)?)?).ok()
    };
    Some((cropped(width, 1, unit_x, left, right)?, cropped(height, fields, unit_y, top, bottom)?))
}

/// Section 7.4.1: after two zero bytes, a 3 is no part of the content. More than a set's head is not needed.
fn without_emulation_prevention(set: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(set.len().min(128));
    for &byte in set.iter().take(256) {
        if !(byte == 3 && out.ends_with(&[0, 0])) {
            out.push(byte);
        }
    }
    out
}

struct Bits {
    bytes: Vec<u8>,
    position: usize,
}

impl Bits {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.position / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Some(value)
    }

    /// An Exp-Golomb code (section 9.1).
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
        }
        (zeros < 32).then_some(())?;
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    fn skip_scaling_lists(&mut self, count: u32) -> Option<()> {
        for index in 0..count {
            if self.take(1)? == 0 {
                continue;
            }
            let (mut last, mut next) = (8_i64, 8_i64);
            for _ in 0..if index < 6 { 16 } else { 64 } {
                if next != 0 {
                    let code = i64::from(self.golomb()?);
                    let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
                    next = (last + delta).rem_euclid(256);
                }
                last = if next == 0 { last } else { next };
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x264's for constrained baseline, 320x180: cropped from 192 lines, with emulation prevention.
    const SMALL: &[u8] = &[
        0x67, 0x42, 0xC0, 0x15, 0xDA, 0x05, 0x06, 0x7E, 0x7C, 0x05, 0xA8, 0x30, 0x30, 0x35, 0x28, 0x00, 0x00, 0x03,
        0x00, 0x08, 0x00, 0x00, 0x03, 0x01, 0xE4, 0x78, 0xB1, 0x75,
    ];

    #[test]
    fn a_cropped_h264_picture_has_its_visible_size() {
        assert_eq!(picture_size(Codec::H264, SMALL), Some((320, 180)));
        let mut aggregate = vec![0x78, 0, SMALL.len() as u8];
        aggregate.extend(SMALL);
        assert_eq!(picture_size(Codec::H264, &aggregate), Some((320, 180)));
    }

    #[test]
    fn vp8_has_it_behind_its_start_code() {
        let payload = [0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01];
        assert_eq!(picture_size(Codec::Vp8, &payload), Some((640, 360)));
    }

    #[test]
    fn vp9_tells_the_size_of_each_layer() {
        // Two layers with sizes.
        let payload = [0x8A, 0x01, 0x30, 0x01, 0x40, 0x00, 0xB4, 0x02, 0x80, 0x01, 0x68, 0x82];
        assert_eq!(layer_sizes(Codec::Vp9, &payload), [(320, 180), (640, 360)]);
        assert_eq!(picture_size(Codec::Vp9, &payload), Some((640, 360)));
        assert!(layer_sizes(Codec::Vp9, &payload[..10]).is_empty() && layer_sizes(Codec::Vp8, &payload).is_empty());
    }

    #[test]
    fn what_is_cut_short_or_nonsense_has_no_size() {
        for length in 0..SMALL.len() {
            let _ = picture_size(Codec::H264, &SMALL[..length]);
        }
        assert_eq!(picture_size(Codec::H264, &[0x67]), None);
        for (profile, filling) in [(100, 0xFF), (66, 0xFF), (100, 0x55), (244, 0xAA)] {
            let _ = picture_size(Codec::H264, &[&[0x67, profile, 0, 0][..], &[filling; 200]].concat());
        }
        assert_eq!(picture_size(Codec::H264, &[&[0x67, 66, 0, 0][..], &[0; 200]].concat()), None);
    }
}
