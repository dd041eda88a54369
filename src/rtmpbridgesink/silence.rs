//! Silent AAC and Opus, ready-made: no encoder is needed to say nothing. Pure.

use bytes::Bytes;

use crate::{
    flv::{self, AudioCodec, AudioInfo},
    rtmp::Format,
};

/// One channel element and the end (ISO/IEC 14496-3, 4.4.2.1). It codes no scale factor band (max_sfb 0), so that it is
/// silent at every sample rate.
const MONO: &[u8] = &[0x01, 0x18, 0x20, 0x07];
/// A channel pair with a common window, likewise.
const STEREO: &[u8] = &[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c];

/// One frame of 20 ms that says nothing, in a mode that every packet may choose anew (RFC 6716, section 3.1): stereo streams
/// may have mono packets.
const OPUS: &[u8] = &[0xf8, 0xff, 0xfe];
const OPUS_NS: i64 = 20_000_000;

/// AudioSpecificConfig of what every platform takes: AAC-LC, 48 kHz, stereo.
const CONFIGURATION: &[u8] = &[0x11, 0x90];
const RATE: u32 = 48_000;
const SAMPLES: i64 = 1024;

/// Sample rates by their index (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// A silent frame that can be repeated.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Silence {
    /// The format of the stream it continues, where there is a frame for that.
    pub(super) format: Format,
    pub(super) frame: Bytes,
    pub(super) duration_ns: i64,
}

impl Silence {
    /// Silence where there was no audio: that of the codec which is asked for.
    pub(super) fn of(codec: AudioCodec) -> Self {
        let info = AudioInfo { codec, sample_rate: RATE, channels: 2, bitrate: None };
        match codec {
            AudioCodec::Aac => Self::aac(Format::Audio(Bytes::from_static(CONFIGURATION), info), RATE, STEREO),
            AudioCodec::Opus => Self::opus(Format::Audio(flv::opus_head(2, RATE), info)),
        }
    }

    /// Silence behind audio of some format.
    pub(super) fn after(format: &Format) -> Self {
        let Format::Audio(configuration, info) = format else { return Self::of(AudioCodec::Aac) };
        match (info.codec, plain(configuration)) {
            (AudioCodec::Opus, _) => Self::opus(format.clone()),
            (AudioCodec::Aac, Some((rate, frame))) => Self::aac(format.clone(), rate, frame),
            (AudioCodec::Aac, None) => Self::of(AudioCodec::Aac),
        }
    }

    fn aac(format: Format, rate: u32, frame: &'static [u8]) -> Self {
        let duration_ns = SAMPLES * 1_000_000_000 / i64::from(rate);
        Self { format, frame: Bytes::from_static(frame), duration_ns }
    }

    fn opus(format: Format) -> Self {
        Self { format, frame: Bytes::from_static(OPUS), duration_ns: OPUS_NS }
    }
}

/// The rate of an AAC-LC stream of 1024 samples a frame, and its silent frame; `None` for every other kind.
fn plain(configuration: &[u8]) -> Option<(u32, &'static [u8])> {
    let [first, second] = *configuration.first_chunk()?;
    let object_type = first >> 3;
    let rate = RATES.get(usize::from((first & 7) << 1 | second >> 7))?;
    let channels = second >> 3 & 0xf;
    // What follows says 960 samples a frame, a core coder or an extension; and more bytes may say SBR.
    let extended = second & 7 != 0 || configuration.get(2..).is_some_and(|more| more.first() == Some(&0x56));
    match (object_type, channels, extended) {
        (2, 1, false) => Some((*rate, MONO)),
        (2, 2, false) => Some((*rate, STEREO)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(configuration: &'static [u8]) -> Silence {
        Silence::after(&Format::Audio(Bytes::from_static(configuration), AudioInfo::default()))
    }

    fn configuration(silence: &Silence) -> &[u8] {
        match &silence.format {
            Format::Audio(configuration, _) => configuration,
            Format::Video(configuration, _) => panic!("{configuration:?}"),
        }
    }

    #[test]
    fn silence_continues_the_format_of_plain_aac() {
        let mono = after(&[0x12, 0x08]); // 44.1 kHz, one channel
        assert_eq!((configuration(&mono), &mono.frame[..]), (&[0x12, 0x08][..], MONO));
        assert_eq!(mono.duration_ns, 23_219_954);
        let stereo = after(&[0x11, 0x90]);
        assert_eq!((stereo.duration_ns, &stereo.frame[..]), (21_333_333, STEREO));
    }

    #[test]
    fn silence_has_its_own_format_after_anything_else() {
        for other in [&[0x2b, 0x11, 0x88, 0x00][..], &[0x11, 0xb0], &[0x11, 0x94], &[0x11, 0x90, 0x56, 0xe5, 0xa0], &[]]
        {
            assert_eq!(configuration(&after(other)), CONFIGURATION, "{other:?}");
        }
        assert_eq!(configuration(&Silence::of(AudioCodec::Aac)), CONFIGURATION);
    }

    #[test]
    fn silence_of_opus_keeps_the_streams_own_header() {
        let info = AudioInfo { codec: AudioCodec::Opus, ..AudioInfo::default() };
        let mono = Format::Audio(flv::opus_head(1, 24_000), info);
        let silence = Silence::after(&mono);
        assert_eq!((&silence.format, &silence.frame[..], silence.duration_ns), (&mono, OPUS, 20_000_000));
        assert!(configuration(&Silence::of(AudioCodec::Opus)).starts_with(b"OpusHead\x01\x02"));
    }
}
