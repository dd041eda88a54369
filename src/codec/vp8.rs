//! The VP8 payload descriptor (RFC 7741 section 4.2): which picture and temporal layer a packet is of, and how that is told
//! anew where pictures were left out.

use bytes::{Bytes, BytesMut};

/// What a descriptor tells of its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// The picture's number, and whether it has 15 bits.
    pub picture: Option<(u16, bool)>,
    /// The running number of pictures of the lowest temporal layer (TL0PICIDX).
    pub layer_zero: Option<u8>,
    /// The temporal layer, and whether one may go up to it at this picture (Y).
    pub temporal: Option<(u8, bool)>,
}

/// Where its fields are.
struct Places {
    picture: Option<(usize, bool)>,
    layer_zero: Option<usize>,
    temporal: Option<usize>,
}

impl Vp8Descriptor {
    /// Reads the descriptor of a packet; `None` if it is cut off.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let places = places(payload)?;
        let at = |place: usize| payload.get(place).copied();
        let picture = match places.picture {
            Some((place, true)) => Some((u16::from(at(place)? & 0x7F) << 8 | u16::from(at(place + 1)?), true)),
            Some((place, false)) => Some((u16::from(at(place)?), false)),
            None => None,
        };
        let layer_zero = places.layer_zero.map(at).map_or(Some(None), |value| value.map(Some))?;
        let temporal = places.temporal.map(at).map_or(Some(None), |value| value.map(Some))?;
        Some(Self { picture, layer_zero, temporal: temporal.map(|byte| (byte >> 6, byte & 0x20 != 0)) })
    }
}

/// The packet with these numbers in the place of its own; unchanged where it has none.
pub(super) fn renumber_vp8(payload: &Bytes, picture: u16, layer_zero: u8) -> Bytes {
    let Some(places) = places(payload) else { return payload.clone() };
    let mut changed = BytesMut::from(&payload[..]);
    let mut put = |place: usize, value: u8| {
        if let Some(byte) = changed.get_mut(place) {
            *byte = value;
        }
    };
    let [high, low] = picture.to_be_bytes();
    match places.picture {
        Some((place, true)) => {
            put(place, 0x80 | high);
            put(place + 1, low);
        }
        Some((place, false)) => put(place, low & 0x7F),
        None => {}
    }
    if let Some(place) = places.layer_zero {
        put(place, layer_zero);
    }
    changed.freeze()
}

fn places(payload: &[u8]) -> Option<Places> {
    let mut places = Places { picture: None, layer_zero: None, temporal: None };
    let (&first, rest) = payload.split_first()?;
    if first & 0x80 == 0 {
        return Some(places);
    }
    let bits = *rest.first()?;
    let mut place = 2;
    if bits & 0x80 != 0 {
        let is_long = payload.get(place)? & 0x80 != 0;
        places.picture = Some((place, is_long));
        place += 1 + usize::from(is_long);
    }
    if bits & 0x40 != 0 {
        places.layer_zero = Some(place);
        place += 1;
    }
    if bits & 0x20 != 0 {
        places.temporal = Some(place);
    }
    if bits & 0x30 != 0 {
        place += 1;
    }
    (payload.len() >= place).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: [u8; 8] = [0x90, 0xF0, 0x81, 0x23, 0x07, 0x60, 0x50, 0x01];

    #[test]
    fn every_field_is_read_and_written_where_it_is() {
        let descriptor = Vp8Descriptor::parse(&FULL).unwrap();
        let temporal = Some((1, true));
        assert_eq!(descriptor, Vp8Descriptor { picture: Some((0x123, true)), layer_zero: Some(7), temporal });
        let changed = renumber_vp8(&Bytes::from_static(&FULL), 0x7FFE, 200);
        assert_eq!(changed[..], [0x90, 0xF0, 0xFF, 0xFE, 200, 0x60, 0x50, 0x01]);
        let short = Bytes::from_static(&[0x90, 0x80, 0x11, 0x50]);
        assert_eq!(Vp8Descriptor::parse(&short).unwrap().picture, Some((0x11, false)));
        assert_eq!(renumber_vp8(&short, 0x1FF, 0)[..], [0x90, 0x80, 0x7F, 0x50]);
        let none = Bytes::from_static(&[0x10, 0x50]);
        assert_eq!((Vp8Descriptor::parse(&none), renumber_vp8(&none, 1, 1)), (Some(Vp8Descriptor::default()), none));
    }

    #[test]
    fn what_is_cut_off_is_no_descriptor_and_is_left_alone() {
        for length in 0..6 {
            let cut = Bytes::copy_from_slice(&FULL[..length]);
            assert_eq!(Vp8Descriptor::parse(&cut), None, "{length}");
            assert_eq!(renumber_vp8(&cut, 5, 5), cut);
        }
    }
}
