//! Where a keyframe starts: what the first bytes of an RTP payload tell, without depayloading.
//!
//! A keyframe here is one that a decoder can begin with, which for H.264 and H.265 takes parameter sets in front of it:
//! WebRTC senders repeat them with every keyframe. Whether a whole keyframe has come is for others to find out.

use super::{Codec, vp9::Vp9Descriptor};

/// Whether this payload is the first of a keyframe. Every audio packet is one.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264(payload),
        Codec::Vp8 => vp8(payload),
        Codec::Vp9 => vp9(payload),
        Codec::Av1 => av1(payload),
        Codec::H265 => h265(payload),
        Codec::Opus | Codec::Pcmu | Codec::Pcma => true,
    }
}

/// H.264 (RFC 6184): a sequence parameter set, alone or first in an aggregate.
fn h264(payload: &[u8]) -> bool {
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    match payload {
        [first, ..] if first & 0x1F == SPS => true,
        // A size of two bytes, then the first unit (section 5.7.1); an access unit delimiter may go before.
        [first, rest @ ..] if first & 0x1F == STAP_A => aggregated(rest).any(|unit| unit & 0x1F == SPS),
        _ => false,
    }
}

/// H.265 (RFC 7798): a video or sequence parameter set, alone or in an aggregate.
fn h265(payload: &[u8]) -> bool {
    const AGGREGATION: u8 = 48;
    let kind = |first: u8| first >> 1 & 0x3F;
    let is_set = |first: u8| matches!(kind(first), 32 | 33);
    match payload {
        [first, ..] if is_set(*first) => true,
        [first, _, rest @ ..] if kind(*first) == AGGREGATION => aggregated(rest).any(is_set),
        _ => false,
    }
}

/// Whether this payload begins with an access unit delimiter, in front of which nothing of its picture can stand: of H.264 (section
/// 7.4.1.2.3) or H.265 (section 7.4.2.4.4).
pub fn begins_with_delimiter(codec: Codec, payload: &[u8]) -> bool {
    let first = |rest| aggregated(rest).next();
    match (codec, payload) {
        (Codec::H264, [kind, rest @ ..]) => {
            let kind = if kind & 0x1F == 24 { first(rest) } else { Some(*kind) };
            kind.is_some_and(|kind| kind & 0x1F == 9)
        }
        (Codec::H265, [kind, _, rest @ ..]) => {
            let kind = if kind >> 1 & 0x3F == 48 { first(rest) } else { Some(*kind) };
            kind.is_some_and(|kind| kind >> 1 & 0x3F == 35)
        }
        _ => false,
    }
}

/// Whether the first slice in this payload is the first of its picture; `None` if there is none, or for other codecs than H.264
/// (first_mb_in_slice, section 7.4.3) and H.265 (first_slice_segment_in_pic_flag, section 7.4.7.1).
pub fn begins_with_first_slice(codec: Codec, payload: &[u8]) -> Option<bool> {
    match codec {
        Codec::H264 => first_slice_of_h264(payload),
        Codec::H265 => first_slice_of_h265(payload),
        _ => None,
    }
}

fn first_slice_of_h264(payload: &[u8]) -> Option<bool> {
    // Coded slices, whole or their partition A.
    let is_slice = |kind: u8| matches!(kind & 0x1F, 1 | 2 | 5);
    let of_unit = |unit: &[u8]| Some(is_slice(*unit.first()?) && unit.get(1)? & 0x80 != 0);
    match payload {
        [first, ..] if is_slice(*first) => of_unit(payload),
        [first, rest @ ..] if first & 0x1F == 24 => units(rest).find(|unit| is_slice(unit[0])).and_then(of_unit),
        // Fragments (RFC 6184 section 5.8): the S bit is with the first one.
        [first, header, rest @ ..] if first & 0x1F == 28 && is_slice(*header) => {
            Some(header & 0x80 != 0 && rest.first()? & 0x80 != 0)
        }
        _ => None,
    }
}

fn first_slice_of_h265(payload: &[u8]) -> Option<bool> {
    let is_slice = |first: u8| first >> 1 & 0x3F < 32;
    let of_unit = |unit: &[u8]| Some(unit.get(2)? & 0x80 != 0);
    match payload {
        [first, ..] if is_slice(*first) => of_unit(payload),
        [first, _, rest @ ..] if first >> 1 & 0x3F == 48 => {
            units(rest).find(|unit| is_slice(unit[0])).and_then(of_unit)
        }
        // Fragments (RFC 7798 section 4.4.3).
        [first, _, header, rest @ ..] if first >> 1 & 0x3F == 49 && header & 0x3F < 32 => {
            Some(header & 0x80 != 0 && rest.first()? & 0x80 != 0)
        }
        _ => None,
    }
}

/// AV1 (its RTP payload format, section 4.4): the first packet of a coded video sequence, by the N bit.
fn av1(payload: &[u8]) -> bool {
    const Z: u8 = 0x80;
    const N: u8 = 0x08;
    payload.first().is_some_and(|header| header & N != 0 && header & Z == 0)
}

/// VP8 (RFC 7741): the start of partition 0 of a frame without the P bit.
fn vp8(payload: &[u8]) -> bool {
    vp8_frame(payload).and_then(<[u8]>::first).is_some_and(|tag| tag & 1 == 0)
}

/// VP9 (RFC 9628): the beginning of a frame of the lowest spatial layer that is predicted from none before it.
fn vp9(payload: &[u8]) -> bool {
    Vp9Descriptor::parse(payload).is_some_and(|descriptor| {
        let is_lowest = descriptor.layer.is_none_or(|(_, spatial)| spatial == 0);
        descriptor.begins && !descriptor.is_predicted && is_lowest && !descriptor.is_all(payload)
    })
}

/// The VP8 frame header in the first packet of a frame; `None` in others (RFC 7741 section 4.2).
pub(super) fn vp8_frame(payload: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = payload.split_first()?;
    let (has_extensions, starts, partition) = (first & 0x80 != 0, first & 0x10 != 0, first & 0x07);
    if has_extensions {
        let (&bits, after) = rest.split_first()?;
        rest = after;
        if bits & 0x80 != 0 {
            let long = rest.first()? & 0x80 != 0;
            rest = rest.get(1 + usize::from(long)..)?;
        }
        rest = rest.get(usize::from(bits & 0x40 != 0) + usize::from(bits & 0x30 != 0)..)?;
    }
    (starts && partition == 0).then_some(rest)
}

/// The first byte of each unit of an aggregate.
fn aggregated(rest: &[u8]) -> impl Iterator<Item = u8> {
    units(rest).map(|unit| unit[0])
}

/// The units of an aggregate, none of them empty: a size of two bytes stands before each.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (size, units) = rest.split_at_checked(2)?;
        let size = usize::from(u16::from_be_bytes([*size.first()?, *size.get(1)?]));
        rest = units.get(size..).unwrap_or_default();
        units.get(..size.min(units.len())).filter(|unit| !unit.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h264_starts_with_parameter_sets_and_not_with_a_slice() {
        assert!(h264(&[0x67, 0x42]), "a parameter set alone");
        assert!(h264(&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68]), "aggregated");
        assert!(h264(&[0x78, 0, 2, 0x09, 0xF0, 0, 2, 0x67, 0x42]), "behind a delimiter");
        assert!(!h264(&[0x7C, 0x85, 0]), "the start of a fragmented IDR slice");
        assert!(!h264(&[0x41, 0x9A]), "another slice");
        assert!(!h264(&[0x78, 0, 2, 0x41, 0x9A]), "an aggregate of slices");
    }

    #[test]
    fn h265_starts_with_parameter_sets() {
        assert!(h265(&[32 << 1, 1]));
        assert!(h265(&[48 << 1, 1, 0, 2, 32 << 1, 1, 0, 2, 33 << 1, 1]));
        assert!(!h265(&[49 << 1, 1, 0x80 | 19]), "a fragmented IDR slice");
        assert!(!h265(&[1 << 1, 1]));
    }

    #[test]
    fn delimiters_are_seen_alone_and_first_in_an_aggregate() {
        let h264 = |payload: &[u8]| begins_with_delimiter(Codec::H264, payload);
        assert!(h264(&[0x09, 0xF0]) && h264(&[0x78, 0, 2, 0x09, 0xF0, 0, 1, 0x67]));
        assert!(!h264(&[0x78, 0, 1, 0x67, 0, 2, 0x09, 0xF0]) && !h264(&[0x67]) && !h264(&[0x7C, 0x89]) && !h264(&[]));
        let h265 = |payload: &[u8]| begins_with_delimiter(Codec::H265, payload);
        assert!(h265(&[70, 1, 0x50]) && h265(&[96, 1, 0, 3, 70, 1, 0x50]));
        assert!(!h265(&[64, 1]) && !h265(&[96, 1, 0, 2, 64, 1]) && !h265(&[70]) && !h265(&[]));
        assert!(!begins_with_delimiter(Codec::Vp8, &[0x09, 0xF0]));
    }

    #[test]
    fn the_first_slice_of_a_picture_is_told_from_the_others() {
        let h264 = |payload: &[u8]| begins_with_first_slice(Codec::H264, payload);
        assert_eq!((h264(&[0x65, 0xB8]), h264(&[0x65, 0x11])), (Some(true), Some(false)));
        assert_eq!(h264(&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x65, 0xB8]), Some(true), "behind parameter sets");
        assert_eq!(h264(&[0x78, 0, 2, 0x67, 0x42]), None);
        assert_eq!((h264(&[0x7C, 0x85, 0xB8]), h264(&[0x7C, 0x85, 0x11])), (Some(true), Some(false)));
        assert_eq!(h264(&[0x7C, 0x45, 0xB8]), Some(false), "the end of one");
        assert_eq!((h264(&[0x67, 0xC2]), h264(&[0x65]), h264(&[])), (None, None, None));

        let h265 = |payload: &[u8]| begins_with_first_slice(Codec::H265, payload);
        assert_eq!((h265(&[19 << 1, 1, 0x80]), h265(&[19 << 1, 1, 0x40])), (Some(true), Some(false)));
        assert_eq!(h265(&[48 << 1, 1, 0, 3, 33 << 1, 1, 0xFF, 0, 3, 19 << 1, 1, 0x80]), Some(true));
        assert_eq!(h265(&[49 << 1, 1, 0x80 | 19, 0x80]), Some(true));
        assert_eq!((h265(&[49 << 1, 1, 19, 0x80]), h265(&[32 << 1, 1, 0x80])), (Some(false), None));
    }

    #[test]
    fn av1_tells_by_the_n_bit() {
        assert!(av1(&[0x18, 0x0A]));
        assert!(!av1(&[0x10, 0x32]));
    }

    #[test]
    fn vp8_tells_by_the_p_bit_behind_its_descriptor() {
        assert!(vp8(&[0x10, 0x50]));
        assert!(!vp8(&[0x10, 0x51]), "an inter frame");
        assert!(vp8(&[0x90, 0x80, 0x81, 0x23, 0x50]), "a picture id of 15 bits");
        assert!(vp8(&[0x90, 0xE0, 0x01, 0x02, 0x03, 0x50]), "picture id, TL0PICIDX, TID");
        assert!(!vp8(&[0x80, 0x80, 0x81, 0x23, 0x50]), "not the start");
        assert!(!vp8(&[0x11, 0x50]), "another partition");
    }

    #[test]
    fn vp9_tells_by_its_descriptor() {
        assert!(vp9(&[0x88, 0x01, 0x82]), "B, not P");
        assert!(!vp9(&[0xC8, 0x01, 0x82]), "P");
        assert!(!vp9(&[0x80, 0x01, 0x82]), "not the beginning");
        let with_structure = [0x8A, 0x01, 0x10, 0x02, 0x80, 0x01, 0x68, 0x82];
        assert!(vp9(&with_structure));
        assert_eq!(Vp9Descriptor::parse(&with_structure).and_then(|d| d.size), Some((640, 360)));
    }

    #[test]
    fn no_truncation_is_a_keyframe_that_the_whole_is_not_and_none_panics() {
        let whole = [0x9A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        for length in 0..whole.len() {
            for first in 0..=255 {
                let mut payload = whole[..length].to_vec();
                if let Some(byte) = payload.first_mut() {
                    *byte = first;
                }
                for codec in Codec::ALL {
                    let _ = starts_keyframe(codec, &payload);
                }
                let _ = (h265(&payload), av1(&payload));
            }
        }
        assert!(!starts_keyframe(Codec::H264, &[]) && !starts_keyframe(Codec::Vp8, &[]));
    }
}
