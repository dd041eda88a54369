//! From a chain's caps, and its first keyframe where caps are not enough, to the format that destinations are told.

use bytes::Bytes;

use crate::{
    flv::{self, AudioCodec, AudioInfo, VideoCodec, VideoInfo, Vp9Chroma, Vp9Info},
    rtmp::{Format, Track},
};

/// Reads the format of what comes out of a chain. `None` without a decoder configuration: nobody could decode it, and
/// parsers give one with the first keyframe.
pub(super) fn read(track: Track, caps: &gst::CapsRef, bitrate: Option<u32>, data: &[u8]) -> Option<Format> {
    let structure = caps.structure(0)?;
    match track {
        Track::Video => video(structure, bitrate, data),
        Track::Audio => audio(structure, bitrate),
    }
}

/// Whether the format may change without the caps: AV1's is in the stream.
pub(super) fn is_in_band(format: &Format) -> bool {
    matches!(format, Format::Video(_, info) if info.codec == VideoCodec::Av1)
}

/// The part of a buffer that goes into a tag.
pub(super) fn body<'a>(format: &Format, data: &'a [u8]) -> &'a [u8] {
    if is_in_band(format) { flv::av1_without_delimiter(data) } else { data }
}

fn video(structure: &gst::StructureRef, bitrate: Option<u32>, data: &[u8]) -> Option<Format> {
    let codec = match structure.name().as_str() {
        "video/x-h264" => VideoCodec::H264,
        "video/x-h265" => VideoCodec::H265,
        "video/x-av1" => VideoCodec::Av1,
        "video/x-vp9" => VideoCodec::Vp9,
        _ => return None,
    };
    let frame_rate = structure.get::<gst::Fraction>("framerate").ok();
    let frame_rate = frame_rate.filter(|rate| rate.numer() > 0 && rate.denom() > 0);
    let info = VideoInfo {
        codec,
        width: number(structure, "width").unwrap_or_default(),
        height: number(structure, "height").unwrap_or_default(),
        frame_rate: frame_rate.map(|rate| f64::from(rate.numer()) / f64::from(rate.denom())),
        bitrate,
    };
    let configuration = match codec {
        VideoCodec::H264 | VideoCodec::H265 => codec_data(structure)?,
        VideoCodec::Av1 => flv::av1_configuration(data)?,
        VideoCodec::Vp9 => vp9(structure, &info)?.configuration(),
    };
    Some(Format::Video(configuration, info))
}

fn audio(structure: &gst::StructureRef, bitrate: Option<u32>) -> Option<Format> {
    let codec = match structure.name().as_str() {
        "audio/mpeg" => AudioCodec::Aac,
        "audio/x-opus" => AudioCodec::Opus,
        _ => return None,
    };
    let sample_rate = number(structure, "rate");
    let info = AudioInfo {
        codec,
        // Opus always plays at 48 kHz (RFC 7845), and caps of RTP may leave it out, as they may the stereo that it signals
        // in each packet.
        sample_rate: sample_rate.unwrap_or(if codec == AudioCodec::Opus { 48_000 } else { 0 }),
        channels: number(structure, "channels").unwrap_or(if codec == AudioCodec::Opus { 2 } else { 0 }),
        bitrate,
    };
    let configuration = match codec {
        AudioCodec::Aac => codec_data(structure)?,
        AudioCodec::Opus => match opus_header(structure) {
            Some(header) => header,
            None => flv::opus_head(u8::try_from(info.channels).ok()?, info.sample_rate),
        },
    };
    Some(Format::Audio(configuration, info))
}

/// The identification header that Ogg and encoders put into the caps.
fn opus_header(structure: &gst::StructureRef) -> Option<Bytes> {
    let headers = structure.get::<gst::Array>("streamheader").ok()?;
    let header = headers.first()?.get::<gst::Buffer>().ok()?;
    let header = Bytes::copy_from_slice(&header.map_readable().ok()?);
    header.starts_with(b"OpusHead").then_some(header)
}

/// Only profiles 1 and 3 have other than 4:2:0, only 2 and 3 other than 8 bit; what the parser does not say is that.
fn vp9(structure: &gst::StructureRef, info: &VideoInfo) -> Option<Vp9Info> {
    let profile = structure.get::<&str>("profile").ok().and_then(|profile| profile.parse().ok()).unwrap_or(0);
    let depth = structure.get::<u32>("bit-depth-luma").ok().and_then(|depth| u8::try_from(depth).ok());
    let chroma = match structure.get::<&str>("chroma-format") {
        Ok("4:2:2") => Vp9Chroma::Yuv422,
        Ok("4:4:4") => Vp9Chroma::Yuv444,
        _ => Vp9Chroma::Yuv420,
    };
    let bit_depth = depth.unwrap_or(if profile >= 2 { 10 } else { 8 });
    (info.width > 0).then_some(Vp9Info {
        profile,
        bit_depth,
        chroma,
        size: (info.width, info.height),
        frame_rate: info.frame_rate,
    })
}

fn codec_data(structure: &gst::StructureRef) -> Option<Bytes> {
    let configuration = structure.get::<gst::Buffer>("codec_data").ok()?;
    Some(Bytes::copy_from_slice(&configuration.map_readable().ok()?))
}

fn number(structure: &gst::StructureRef, name: &str) -> Option<u32> {
    structure.get::<i32>(name).ok().and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(caps: &str, track: Track, data: &[u8]) -> Option<Format> {
        gst::init().unwrap();
        read(track, &caps.parse::<gst::Caps>().unwrap(), None, data)
    }

    #[test]
    fn nothing_is_sent_before_there_is_a_decoder_configuration() {
        assert_eq!(format("video/x-h265,width=320,height=180", Track::Video, &[]), None);
        assert_eq!(format("video/x-av1,width=320,height=180", Track::Video, &[0x12, 0]), None);
        assert_eq!(format("video/x-vp9", Track::Video, &[]), None);
        assert_eq!(format("audio/mpeg,rate=48000,channels=2", Track::Audio, &[]), None);
    }

    #[test]
    fn vp9_is_described_by_its_caps() {
        let caps = "video/x-vp9,width=320,height=180,profile=(string)1,chroma-format=(string)4:4:4";
        let Some(Format::Video(configuration, info)) = format(caps, Track::Video, &[]) else { panic!() };
        assert_eq!(configuration[4..7], [1, 11, 0x86]);
        assert_eq!(info.codec, VideoCodec::Vp9);
    }

    #[test]
    fn opus_without_a_header_has_one_made() {
        let Some(Format::Audio(head, _)) = format("audio/x-opus,channels=1", Track::Audio, &[]) else { panic!() };
        assert_eq!(head, flv::opus_head(1, 48_000));
        let caps = "audio/x-opus,channels=1,rate=48000,streamheader=(buffer)<4f7075734865616401013801>";
        let Some(Format::Audio(head, _)) = format(caps, Track::Audio, &[]) else { panic!() };
        assert_eq!(head[..], *b"OpusHead\x01\x01\x38\x01");
    }
}
