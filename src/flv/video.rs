//! H.264 in video tags (section E.4.3, VIDEODATA and AVCVIDEOPACKET).

use bytes::Bytes;

use super::{SharedTag, Tag, TagType};

/// FrameType 1 (key frame) and CodecID 7 (AVC).
const KEY_AVC: u8 = 0x17;
/// FrameType 2 (inter frame) and CodecID 7 (AVC).
const INTER_AVC: u8 = 0x27;

/// AVCPacketType 0: the decoder configuration record (ISO/IEC 14496-15, `codec_data` of GStreamer's avc caps).
pub fn avc_sequence_header(timestamp: u32, configuration: &[u8]) -> Option<Bytes> {
    Tag::new(TagType::Video, timestamp, configuration.len() + 5).put(&[KEY_AVC, 0, 0, 0, 0]).put(configuration).finish()
}

/// AVCPacketType 1: one access unit, its NAL units behind length fields. `timestamp` is the decoding time and
/// `composition` what presentation comes later, both in milliseconds.
pub fn avc_access_unit(timestamp: u32, composition: i32, keyframe: bool, access_unit: &Bytes) -> Option<SharedTag> {
    let frame = if keyframe { KEY_AVC } else { INTER_AVC };
    let [a, b, c] = si24(composition);
    Tag::new(TagType::Video, timestamp, 5).put(&[frame, 1, a, b, c]).finish_around(access_unit)
}

/// CompositionTime is SI24; what does not fit is hours away from anything a decoder could hold.
pub(super) fn si24(composition: i32) -> [u8; 3] {
    let [_, a, b, c] = composition.clamp(-(1 << 23), (1 << 23) - 1).to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_header_is_a_key_frame_of_packet_type_0() {
        let tag = avc_sequence_header(0, &[1, 0x42, 0xe0]).unwrap_or_default();
        assert_eq!(tag[..], [9, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x17, 0, 0, 0, 0, 1, 0x42, 0xe0, 0, 0, 0, 19]);
    }

    #[test]
    fn access_unit_carries_frame_type_and_composition_time() {
        let unit = Bytes::from_static(&[0xde]);
        let key = avc_access_unit(40, 80, true, &unit).unwrap_or_default();
        assert_eq!((&key.head[11..], &key.data), (&[0x17, 1, 0, 0, 80][..], &unit));
        let inter = avc_access_unit(40, -1, false, &unit).unwrap_or_default();
        assert_eq!((&inter.head[11..], &inter.data), (&[0x27, 1, 0xff, 0xff, 0xff][..], &unit));
    }
}
