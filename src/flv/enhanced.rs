//! Enhanced RTMP's tags (Veovera "Enhanced RTMP" v1: ExVideoTagHeader, v2: ExAudioTagHeader), and one function for each
//! kind of tag whatever the codec: H.264 and AAC stay in the legacy ones.

use bytes::Bytes;

use super::{AudioCodec, SharedTag, Tag, TagType, VideoCodec, audio, video};

/// IsExHeader: the low nibble is a packet type, no codec, and a FourCC follows.
const EX_VIDEO: u8 = 1 << 7;
/// FrameType 1 and 2, as in legacy tags.
const KEY: u8 = 1 << 4;
const INTER: u8 = 2 << 4;
/// SoundFormat 9: ExHeader. The low nibble is a packet type.
const EX_AUDIO: u8 = 9 << 4;

/// PacketTypes.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
/// CodedFrames without a composition time, which is then 0.
const CODED_FRAMES_X: u8 = 3;

/// The tag with a video track's decoder configuration: AVC's or HEVC's record (ISO/IEC 14496-15), AV1's (the AV1 codec ISO
/// media file format binding, section 2.3) or VP9's box content ("VP Codec ISO Media File Format Binding", with version
/// and flags, as FFmpeg and MediaMTX write and read it).
pub fn video_sequence_header(codec: VideoCodec, timestamp: u32, configuration: &[u8]) -> Option<Bytes> {
    let Some(four_cc) = codec.four_cc() else { return video::avc_sequence_header(timestamp, configuration) };
    Tag::new(TagType::Video, timestamp, configuration.len() + 5)
        .put(&[EX_VIDEO | KEY | SEQUENCE_START])
        .put(&four_cc)
        .put(configuration)
        .finish()
}

/// The tag with one access unit: NAL units behind length fields, a temporal unit without its delimiter, or a superframe.
/// `timestamp` is the decoding time and `composition` what presentation comes later, both in milliseconds.
pub fn video_access_unit(
    codec: VideoCodec,
    timestamp: u32,
    composition: i32,
    keyframe: bool,
    access_unit: &Bytes,
) -> Option<SharedTag> {
    let Some(four_cc) = codec.four_cc() else {
        return video::avc_access_unit(timestamp, composition, keyframe, access_unit);
    };
    let frame = EX_VIDEO | if keyframe { KEY } else { INTER };
    let tag = Tag::new(TagType::Video, timestamp, 8);
    // AV1 and VP9 have no composition time, whichever the packet type; players that know one know both.
    let tag = match (codec, composition) {
        (VideoCodec::H265, 0) => tag.put(&[frame | CODED_FRAMES_X]).put(&four_cc),
        (VideoCodec::H265, _) => tag.put(&[frame | CODED_FRAMES]).put(&four_cc).put(&video::si24(composition)),
        _ => tag.put(&[frame | CODED_FRAMES]).put(&four_cc),
    };
    tag.finish_around(access_unit)
}

/// The tag with an audio track's decoder configuration: AAC's AudioSpecificConfig or Opus' identification header.
pub fn audio_sequence_header(codec: AudioCodec, timestamp: u32, configuration: &[u8]) -> Option<Bytes> {
    let Some(four_cc) = codec.four_cc() else { return audio::aac_sequence_header(timestamp, configuration) };
    Tag::new(TagType::Audio, timestamp, configuration.len() + 5)
        .put(&[EX_AUDIO | SEQUENCE_START])
        .put(&four_cc)
        .put(configuration)
        .finish()
}

/// The tag with one raw audio frame or packet.
pub fn audio_frame(codec: AudioCodec, timestamp: u32, frame: &Bytes) -> Option<SharedTag> {
    let Some(four_cc) = codec.four_cc() else { return audio::aac_raw(timestamp, frame) };
    Tag::new(TagType::Audio, timestamp, 5).put(&[EX_AUDIO | CODED_FRAMES]).put(&four_cc).finish_around(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a tag: without the header of 11 and the size of 4 bytes.
    fn body(tag: Option<Bytes>) -> Vec<u8> {
        let tag = tag.unwrap_or_default();
        tag[11..tag.len() - 4].to_vec()
    }

    fn whole(tag: Option<SharedTag>) -> Bytes {
        tag.unwrap_or_default().pieces().collect::<Vec<_>>().concat().into()
    }

    #[test]
    fn whole_tag_is_as_in_e_4_1() {
        let tag = video_sequence_header(VideoCodec::H265, 5, &[1, 2]).unwrap_or_default();
        let golden = [9, 0, 0, 7, 0, 0, 5, 0, 0, 0, 0, 0x90, b'h', b'v', b'c', b'1', 1, 2, 0, 0, 0, 18];
        assert_eq!(tag[..], golden);
        let tag = whole(audio_frame(AudioCodec::Opus, 5, &Bytes::from_static(&[0xfc])));
        let golden = [8, 0, 0, 6, 0, 0, 5, 0, 0, 0, 0, 0x91, b'O', b'p', b'u', b's', 0xfc, 0, 0, 0, 17];
        assert_eq!(tag[..], golden);
    }

    #[test]
    fn every_video_codec_starts_its_sequence_with_its_four_cc() {
        for (codec, golden) in [
            (VideoCodec::H264, b"\x17\0\0\0\0\xc0".as_slice()),
            (VideoCodec::H265, b"\x90hvc1\xc0"),
            (VideoCodec::Av1, b"\x90av01\xc0"),
            (VideoCodec::Vp9, b"\x90vp09\xc0"),
        ] {
            assert_eq!(body(video_sequence_header(codec, 0, &[0xc0])), golden, "{codec:?}");
        }
    }

    #[test]
    fn composition_time_is_only_where_the_codec_reorders_and_it_is_not_zero() {
        let data = Bytes::from_static(&[0xde]);
        let unit = |codec, composition, keyframe| {
            body(Some(whole(video_access_unit(codec, 40, composition, keyframe, &data))))
        };
        assert_eq!(unit(VideoCodec::H264, 80, true), b"\x17\x01\0\0\x50\xde");
        assert_eq!(unit(VideoCodec::H265, 0, true), b"\x93hvc1\xde");
        assert_eq!(unit(VideoCodec::H265, 80, false), b"\xa1hvc1\0\0\x50\xde");
        assert_eq!(unit(VideoCodec::H265, -1, false), b"\xa1hvc1\xff\xff\xff\xde");
        assert_eq!(unit(VideoCodec::Av1, 80, true), b"\x91av01\xde");
        assert_eq!(unit(VideoCodec::Vp9, 0, false), b"\xa1vp09\xde");
    }

    #[test]
    fn audio_is_legacy_for_aac_and_enhanced_for_opus() {
        assert_eq!(body(audio_sequence_header(AudioCodec::Aac, 0, &[0x11, 0x90])), [0xaf, 0, 0x11, 0x90]);
        assert_eq!(body(Some(whole(audio_frame(AudioCodec::Aac, 0, &Bytes::from_static(&[0x21]))))), [0xaf, 1, 0x21]);
        assert_eq!(body(audio_sequence_header(AudioCodec::Opus, 0, b"OpusHead")), b"\x90OpusOpusHead");
    }
}
