//! What packets tell of their pictures where pictures can be left out: the layer, the numbers. One view of the codecs that
//! tell.

use bytes::Bytes;

use super::{
    Codec,
    vp8::{Vp8Descriptor, renumber_vp8},
    vp9::{Vp9Descriptor, renumber_vp9},
};

/// What a packet tells of its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureInfo {
    /// The picture's number, and whether it has 15 bits or more.
    pub picture: Option<(u16, bool)>,
    /// The running number of pictures of the lowest temporal layer (TL0PICIDX).
    pub layer_zero: Option<u8>,
    /// The picture's number says how many there were before it: it must not leave any out (VP8). VP9's pictures refer to each
    /// other by their distance in these numbers, so that they must stay as they are.
    pub counts_pictures: bool,
    /// Which layer it is of; the lowest where there are no layers.
    pub layer: LayerPlace,
}

/// The place of a packet in the layers of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerPlace {
    /// The layer in time: each higher one makes it smoother.
    pub temporal: u8,
    /// The layer in size.
    pub spatial: u8,
    /// Who has everything up to the layer below this in time can go up to this one with this picture.
    pub joins: bool,
    /// Who has this picture can go up to this layer in time from here on.
    pub opens: Option<u8>,
    /// The last packet of its layer's frame.
    pub ends: bool,
}

impl PictureInfo {
    /// Reads what a packet's payload of this codec tells; `None` for nothing. AV1's payload does not: its
    /// [`DependencyDescriptor`](super::DependencyDescriptor) does.
    pub fn parse(codec: Codec, payload: &[u8]) -> Option<Self> {
        match codec {
            Codec::Vp8 => Vp8Descriptor::parse(payload).map(Self::from),
            Codec::Vp9 => Vp9Descriptor::parse(payload).map(Self::from),
            _ => None,
        }
    }
}

impl From<Vp8Descriptor> for PictureInfo {
    fn from(descriptor: Vp8Descriptor) -> Self {
        let Vp8Descriptor { picture, layer_zero, temporal } = descriptor;
        let (temporal, joins) = temporal.unwrap_or_default();
        let layer = LayerPlace { temporal, joins, ..LayerPlace::default() };
        Self { picture, layer_zero, counts_pictures: true, layer }
    }
}

impl From<Vp9Descriptor> for PictureInfo {
    fn from(descriptor: Vp9Descriptor) -> Self {
        let Vp9Descriptor { picture, layer_zero, layer, is_switching_point, ends, .. } = descriptor;
        let (temporal, spatial) = layer.unwrap_or_default();
        let opens = is_switching_point.then_some(u8::MAX);
        let layer = LayerPlace { temporal, spatial, joins: false, opens, ends };
        Self { picture, layer_zero, counts_pictures: false, layer }
    }
}

/// What takes the place of a picture's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renumbered {
    /// Of these packets.
    pub codec: Codec,
    /// The picture.
    pub picture: u16,
    /// TL0PICIDX.
    pub layer_zero: u8,
}

impl Renumbered {
    /// The packet with these numbers; unchanged where it has none.
    pub fn apply(self, payload: &Bytes) -> Bytes {
        match self.codec {
            Codec::Vp8 => renumber_vp8(payload, self.picture, self.layer_zero),
            Codec::Vp9 => renumber_vp9(payload, self.picture, self.layer_zero),
            _ => payload.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_codec_tells_its_layer_and_how_to_go_up() {
        let vp8 = PictureInfo::parse(Codec::Vp8, &[0x90, 0xF0, 0x81, 0x23, 0x07, 0x60, 0x50, 0x01]).unwrap();
        assert_eq!(vp8.layer, LayerPlace { temporal: 1, joins: true, ..LayerPlace::default() });
        assert!(vp8.counts_pictures);
        let vp9 = PictureInfo::parse(Codec::Vp9, &[0xAC, 0x81, 0x23, 0x34, 0x07, 0x82]).unwrap();
        let opens = Some(u8::MAX);
        assert_eq!(vp9.layer, LayerPlace { temporal: 1, spatial: 2, joins: false, opens, ends: true });
        assert!(!vp9.counts_pictures);
        assert_eq!(PictureInfo::parse(Codec::H264, &[0x67, 1]), None);
        assert_eq!(PictureInfo::parse(Codec::Vp8, &[0x10, 1]).unwrap().layer, LayerPlace::default());
    }
}
