//! The VP9 payload descriptor (RFC 9628 section 4.2): which picture and layer a packet is of, and how that is told anew where
//! one stream takes the place of another.

use bytes::{Bytes, BytesMut};

/// What a descriptor tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// The first packet of a layer's frame.
    pub begins: bool,
    /// The last one.
    pub ends: bool,
    /// Predicted from pictures before it.
    pub is_predicted: bool,
    /// The picture's number, and whether it has 15 bits.
    pub picture: Option<(u16, bool)>,
    /// The running number of pictures of the lowest temporal layer (TL0PICIDX), which there is in the non-flexible mode only.
    pub layer_zero: Option<u8>,
    /// The temporal and the spatial layer, where there are such.
    pub layer: Option<(u8, u8)>,
    /// No later picture of a higher temporal layer than this needs one of before this (U).
    pub is_switching_point: bool,
    /// The size of the largest spatial layer, where there is a scalability structure with sizes.
    pub size: Option<(u16, u16)>,
    /// How long it is.
    length: usize,
    places: Places,
}

/// Where the fields are that can be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Places {
    picture: Option<usize>,
    layer_zero: Option<usize>,
    /// The first layer's size, and how many there are.
    sizes: Option<(usize, usize)>,
}

impl Vp9Descriptor {
    /// Reads the descriptor of a packet; `None` if it is cut off.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let flags = *payload.first()?;
        let has = |bit: u8| flags & bit != 0;
        let mut at = 1;
        let mut take = |count: usize| -> Option<(usize, &[u8])> {
            let taken = payload.get(at..at + count)?;
            at += count;
            Some((at - count, taken))
        };
        let mut descriptor = Self { begins: has(0x08), ends: has(0x04), is_predicted: has(0x40), ..Self::default() };
        if has(0x80) {
            let (place, first) = take(1)?;
            let first = *first.first()?;
            descriptor.places.picture = Some(place);
            descriptor.picture = Some(match first & 0x80 != 0 {
                true => (u16::from(first & 0x7F) << 8 | u16::from(*take(1)?.1.first()?), true),
                false => (u16::from(first), false),
            });
        }
        if has(0x20) {
            let bits = *take(1)?.1.first()?;
            descriptor.layer = Some((bits >> 5, bits >> 1 & 0x07));
            descriptor.is_switching_point = bits & 0x10 != 0;
            if !has(0x10) {
                let (place, index) = take(1)?;
                descriptor.places.layer_zero = Some(place);
                descriptor.layer_zero = index.first().copied();
            }
        }
        if has(0x10) && has(0x40) {
            // At most three reference indices, each with a bit that says that another follows.
            let mut count = 0;
            while take(1)?.1.first()? & 1 != 0 && count < 2 {
                count += 1;
            }
        }
        if has(0x02) {
            let structure = *take(1)?.1.first()?;
            if structure & 0x10 != 0 {
                let count = usize::from(structure >> 5) + 1;
                for _ in 0..count {
                    let (place, size) = take(4)?;
                    let &[w1, w2, h1, h2] = size else { return None };
                    descriptor.size = Some((u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2])));
                    descriptor.places.sizes.get_or_insert((place, count));
                }
            }
        }
        descriptor.length = at;
        Some(descriptor)
    }

    /// The sizes of all spatial layers in this payload, the smallest first; empty where it does not tell.
    pub(super) fn sizes(&self, payload: &[u8]) -> Vec<(u16, u16)> {
        let Some((place, count)) = self.places.sizes else { return Vec::new() };
        let sizes = payload.get(place..place + 4 * count).unwrap_or_default();
        let size = |size: &[u8]| match size {
            &[w1, w2, h1, h2] => Some((u16::from_be_bytes([w1, w2]), u16::from_be_bytes([h1, h2]))),
            _ => None,
        };
        sizes.chunks_exact(4).filter_map(size).collect()
    }

    /// Whether there is nothing behind it.
    pub(super) fn is_all(&self, payload: &[u8]) -> bool {
        payload.len() <= self.length
    }
}

/// The packet with these numbers in the place of its own; unchanged where it has none.
pub(super) fn renumber_vp9(payload: &Bytes, picture: u16, layer_zero: u8) -> Bytes {
    let Some(descriptor) = Vp9Descriptor::parse(payload) else { return payload.clone() };
    let mut changed = BytesMut::from(&payload[..]);
    let mut put = |place: usize, value: u8| {
        if let Some(byte) = changed.get_mut(place) {
            *byte = value;
        }
    };
    let [high, low] = picture.to_be_bytes();
    match (descriptor.places.picture, descriptor.picture) {
        (Some(place), Some((_, true))) => {
            put(place, 0x80 | high);
            put(place + 1, low);
        }
        (Some(place), Some((_, false))) => put(place, low & 0x7F),
        _ => {}
    }
    if let Some(place) = descriptor.places.layer_zero {
        put(place, layer_zero);
    }
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I, L, B; a picture of 15 bits; TID 1, U, SID 2; TL0PICIDX.
    const NON_FLEXIBLE: [u8; 6] = [0xA8, 0x81, 0x23, 0x34, 0x07, 0x82];
    /// I, P, L, F, E; a picture of 7 bits; TID 2, SID 0; two references.
    const FLEXIBLE: [u8; 6] = [0xF4, 0x11, 0x40, 0x03, 0x04, 0x82];

    #[test]
    fn both_modes_are_read() {
        let parsed = Vp9Descriptor::parse(&NON_FLEXIBLE).unwrap();
        assert_eq!((parsed.picture, parsed.layer_zero, parsed.layer), (Some((0x123, true)), Some(7), Some((1, 2))));
        assert!(parsed.begins && !parsed.ends && !parsed.is_predicted && parsed.is_switching_point);
        assert!(!parsed.is_all(&NON_FLEXIBLE) && parsed.is_all(&NON_FLEXIBLE[..5]));
        let parsed = Vp9Descriptor::parse(&FLEXIBLE).unwrap();
        assert_eq!((parsed.picture, parsed.layer_zero, parsed.layer), (Some((0x11, false)), None, Some((2, 0))));
        assert!(!parsed.begins && parsed.ends && parsed.is_predicted && !parsed.is_switching_point);
    }

    #[test]
    fn numbers_are_written_where_they_are() {
        let changed = renumber_vp9(&Bytes::from_static(&NON_FLEXIBLE), 0x7FFE, 200);
        assert_eq!(changed[..], [0xA8, 0xFF, 0xFE, 0x34, 200, 0x82]);
        let changed = renumber_vp9(&Bytes::from_static(&FLEXIBLE), 0x1FF, 200);
        assert_eq!(changed[..], [0xF4, 0x7F, 0x40, 0x03, 0x04, 0x82]);
    }

    #[test]
    fn what_is_cut_off_is_no_descriptor_and_is_left_alone() {
        for whole in [NON_FLEXIBLE, FLEXIBLE] {
            for length in 0..5 {
                let cut = Bytes::copy_from_slice(&whole[..length]);
                assert_eq!(Vp9Descriptor::parse(&cut), None, "{length}");
                assert_eq!(renumber_vp9(&cut, 5, 5), cut);
            }
        }
    }
}
