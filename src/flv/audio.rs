//! AAC in audio tags (section E.4.2, AUDIODATA and AACAUDIODATA).

use bytes::Bytes;

use super::{SharedTag, Tag, TagType};

/// SoundFormat 10 (AAC), and 44 kHz, 16 bit, stereo: fixed for AAC, whose real values stand in its configuration.
const AAC: u8 = 0xaf;

/// AACPacketType 0: the AudioSpecificConfig (ISO/IEC 14496-3, `codec_data` of GStreamer's raw AAC caps).
pub fn aac_sequence_header(timestamp: u32, configuration: &[u8]) -> Option<Bytes> {
    Tag::new(TagType::Audio, timestamp, configuration.len() + 2).put(&[AAC, 0]).put(configuration).finish()
}

/// AACPacketType 1: one raw frame, without ADTS header.
pub fn aac_raw(timestamp: u32, frame: &Bytes) -> Option<SharedTag> {
    Tag::new(TagType::Audio, timestamp, 2).put(&[AAC, 1]).finish_around(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_header_is_packet_type_0() {
        let tag = aac_sequence_header(5, &[0x11, 0x90]).unwrap_or_default();
        assert_eq!(tag[..], [8, 0, 0, 4, 0, 0, 5, 0, 0, 0, 0, 0xaf, 0, 0x11, 0x90, 0, 0, 0, 15]);
    }

    #[test]
    fn raw_frame_is_packet_type_1() {
        let tag = aac_raw(5, &Bytes::from_static(&[0x21])).unwrap_or_default();
        assert_eq!((&tag.head[11..], &tag.data[..]), (&[0xaf, 1][..], &[0x21][..]));
    }
}
