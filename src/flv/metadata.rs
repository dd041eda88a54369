//! The onMetaData script tag (section E.5): what the stream holds, for servers and players that look before they decode.

use bytes::{Bytes, BytesMut};

use super::{AudioCodec, Tag, TagType, VideoCodec, amf0};

/// What is said of the video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoInfo {
    /// How it is encoded.
    pub codec: VideoCodec,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second, where the input says so.
    pub frame_rate: Option<f64>,
    /// Bit/s, where we encode and therefore know.
    pub bitrate: Option<u32>,
}

/// What is said of the audio.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AudioInfo {
    /// How it is encoded.
    pub codec: AudioCodec,
    /// Samples a second.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u32,
    /// Bit/s, where we encode and therefore know.
    pub bitrate: Option<u32>,
}

/// What the stream holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The video track, if there is one.
    pub video: Option<VideoInfo>,
    /// The audio track, if there is one.
    pub audio: Option<AudioInfo>,
}

impl Metadata {
    /// The tag; `encoder` names this software.
    pub fn tag(&self, timestamp: u32, encoder: &str) -> Option<Bytes> {
        let mut entries = 1;
        let mut array = BytesMut::new();
        let mut number = |name: &str, value: f64| {
            amf0::put_key(&mut array, name);
            amf0::put_number(&mut array, value);
            entries += 1;
        };
        if let Some(video) = &self.video {
            number("width", f64::from(video.width));
            number("height", f64::from(video.height));
            number("videocodecid", video.codec.metadata_id());
            if let Some(frame_rate) = video.frame_rate {
                number("framerate", frame_rate);
            }
            if let Some(bitrate) = video.bitrate {
                number("videodatarate", f64::from(bitrate) / 1000.0);
            }
        }
        if let Some(audio) = &self.audio {
            number("audiocodecid", audio.codec.metadata_id());
            number("audiosamplerate", f64::from(audio.sample_rate));
            number("audiosamplesize", 16.0);
            if let Some(bitrate) = audio.bitrate {
                number("audiodatarate", f64::from(bitrate) / 1000.0);
            }
        }
        if let Some(audio) = &self.audio {
            amf0::put_key(&mut array, "stereo");
            amf0::put_boolean(&mut array, audio.channels > 1);
            entries += 1;
        }
        amf0::put_key(&mut array, "encoder");
        amf0::put_string(&mut array, encoder);
        amf0::end_array(&mut array);

        let mut body = BytesMut::new();
        amf0::put_string(&mut body, "onMetaData");
        amf0::begin_array(&mut body, entries);
        Tag::new(TagType::Script, timestamp, body.len() + array.len()).put(&body).put(&array).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_tag_opens_with_the_name_and_counts_its_entries() {
        let video = VideoInfo { width: 640, height: 360, frame_rate: Some(30.0), ..VideoInfo::default() };
        let tag = Metadata { video: Some(video), audio: None }.tag(0, "x").unwrap_or_default();
        assert_eq!(tag[0], 18);
        let mut expected = vec![2, 0, 10];
        expected.extend_from_slice(b"onMetaData");
        expected.extend_from_slice(&[8, 0, 0, 0, 5, 0, 5]);
        expected.extend_from_slice(b"width");
        expected.extend_from_slice(&[0, 0x40, 0x84, 0, 0, 0, 0, 0, 0]); // 640.0
        assert_eq!(tag[11..11 + expected.len()], expected);
        assert_eq!(tag[tag.len() - 7..tag.len() - 4], [0, 0, 9]);
    }

    #[test]
    fn audio_only_names_no_video() {
        let audio = AudioInfo { sample_rate: 48000, channels: 2, bitrate: Some(128_000), ..AudioInfo::default() };
        let tag = Metadata { video: None, audio: Some(audio) }.tag(0, "x").unwrap_or_default();
        let text = String::from_utf8_lossy(&tag).into_owned();
        assert!(text.contains("audiodatarate") && text.contains("stereo") && !text.contains("width"), "{text}");
    }
}
