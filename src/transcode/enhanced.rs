//! Chains to what only enhanced RTMP carries: H.265, AV1, VP9 and Opus, when they are asked for.

use gst::prelude::*;

use super::{
    Chain, ChainError, Route, Settings,
    factory::{filter, make, set_if_present},
    gop, video,
};
use crate::flv::{AudioCodec, VideoCodec};

/// What is known of an encoder for one of them.
struct Encoder {
    factory: &'static str,
    codec: VideoCodec,
    /// Its bitrate property and the bits in its unit.
    bitrate: (&'static str, u32),
    /// Its longest-GOP property, in frames.
    gop: &'static str,
    extra: &'static [(&'static str, &'static str)],
}

/// Best first for each codec. What differs between versions is left out where an encoder does not have it.
const ENCODERS: &[Encoder] = &[
    Encoder {
        factory: "x265enc",
        codec: VideoCodec::H265,
        bitrate: ("bitrate", 1000),
        gop: "key-int-max",
        extra: &[
            ("tune", "zerolatency"),
            ("speed-preset", "ultrafast"),
            ("log-level", "error"),
            ("option-string", "scenecut=0:bframes=0:open-gop=0"),
        ],
    },
    Encoder {
        factory: "svtav1enc",
        codec: VideoCodec::Av1,
        bitrate: ("target-bitrate", 1000),
        gop: "intra-period-length",
        // Constant bitrate, which it has only with low-delay prediction.
        extra: &[("preset", "10"), ("parameters-string", "rc=2:pred-struct=1")],
    },
    Encoder {
        factory: "av1enc",
        codec: VideoCodec::Av1,
        bitrate: ("target-bitrate", 1000),
        gop: "keyframe-max-dist",
        extra: &[
            ("usage-profile", "realtime"),
            ("end-usage", "cbr"),
            ("cpu-used", "10"),
            ("lag-in-frames", "0"),
            ("row-mt", "true"),
            ("buf-sz", "1000"),
            // Its own defaults leave constant bitrate no choice, and libaom ends the process over that.
            ("min-quantizer", "2"),
            ("max-quantizer", "63"),
        ],
    },
    Encoder {
        factory: "rav1enc",
        codec: VideoCodec::Av1,
        bitrate: ("bitrate", 1),
        gop: "max-key-frame-interval",
        extra: &[("speed-preset", "10"), ("low-latency", "true")],
    },
    Encoder {
        factory: "vp9enc",
        codec: VideoCodec::Vp9,
        bitrate: ("target-bitrate", 1),
        gop: "keyframe-max-dist",
        extra: &[
            ("deadline", "1"),
            ("cpu-used", "8"),
            ("end-usage", "cbr"),
            ("lag-in-frames", "0"),
            ("row-mt", "true"),
            ("buffer-size", "1000"),
            // Otherwise it puts invisible frames in, which few RTMP servers expect.
            ("auto-alt-ref", "false"),
        ],
    },
];

/// As in the legacy chains: keyframes are asked for by time, and this only keeps the encoder from making its own.
const FRAMES_A_SECOND_AT_MOST: u128 = 240;
const QUEUE_FRAMES: u32 = 3;

/// The media type that passes through as video.
pub(super) fn video_media(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "video/x-h264",
        VideoCodec::H265 => "video/x-h265",
        VideoCodec::Av1 => "video/x-av1",
        VideoCodec::Vp9 => "video/x-vp9",
    }
}

/// The media type that passes through as audio.
pub(super) fn audio_media(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Aac => "audio/mpeg",
        AudioCodec::Opus => "audio/x-opus",
    }
}

/// The chain, if what is asked for needs one of these.
pub(super) fn chain(caps: &gst::CapsRef, route: &Route, settings: &Settings) -> Option<Result<Chain, ChainError>> {
    let is_video = route.media.starts_with("video/");
    let legacy =
        if is_video { settings.video_codec == VideoCodec::H264 } else { settings.audio_codec == AudioCodec::Aac };
    (!legacy).then(|| match (is_video, route.passthrough) {
        (true, true) => pass_video(settings.video_codec),
        (true, false) => transcode_video(caps, &route.media, settings),
        (false, true) => pass_opus(),
        (false, false) => transcode_to_opus(&route.media, settings),
    })
}

/// Changes the bitrate of an encoder that is one of these; whether it is.
pub(super) fn set_bitrate(encoder: &gst::Element, bitrate: u32) -> bool {
    let name = encoder.factory().map(|factory| factory.name().to_string());
    let Some(known) = ENCODERS.iter().find(|known| Some(known.factory) == name.as_deref()) else { return false };
    let (name, unit) = known.bitrate;
    set_if_present(encoder, name, &(bitrate / unit).max(1).to_string());
    true
}

fn pass_video(codec: VideoCodec) -> Result<Chain, ChainError> {
    Ok(Chain { elements: vec![parser(codec)?], output: output(codec), encoder: None, bitrate: None, queue: None })
}

/// Packets as they come. Nothing has to be parsed, but a chain has an element.
fn pass_opus() -> Result<Chain, ChainError> {
    Ok(Chain { elements: vec![make("identity")?], output: opus(), encoder: None, bitrate: None, queue: None })
}

fn transcode_video(caps: &gst::CapsRef, media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = video::decode(caps, media)?;
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", QUEUE_FRAMES);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    let encoder = video_encoder(settings)?;
    gop::keep(&encoder, settings.keyframe_interval);
    let even = gst::IntRange::with_step(2, 16_384, 2);
    let raw = gst::Caps::builder("video/x-raw").field("format", "I420").field("width", even).field("height", even);
    elements.extend([queue.clone(), make("videoconvert")?, make("videoscale")?, filter(&raw.build())?]);
    elements.extend([encoder.clone(), parser(settings.video_codec)?]);
    let (encoder, bitrate, queue) = (Some(encoder), Some(settings.video_bitrate), Some(queue));
    Ok(Chain { elements, output: output(settings.video_codec), encoder, bitrate, queue })
}

/// Opus at 48 kHz, stereo, in frames of 20 ms.
fn transcode_to_opus(media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = match media {
        "audio/x-raw" => Vec::new(),
        "audio/mpeg" => vec![make("aacparse")?, make("avdec_aac")?],
        "audio/x-alaw" => vec![make("alawdec")?],
        "audio/x-mulaw" => vec![make("mulawdec")?],
        _ => return Err(ChainError::Unsupported(media.to_owned())),
    };
    let rate = make("audiorate")?;
    // Otherwise it fills the time before a publisher came with silence, hours of it at once.
    set_if_present(&rate, "skip-to-first", "true");
    let caps = gst::Caps::builder("audio/x-raw").field("rate", 48_000i32).field("channels", 2i32).build();
    let encoder = make("opusenc")?;
    set_if_present(&encoder, "bitrate", &settings.audio_bitrate.to_string());
    elements.extend([make("audioconvert")?, make("audioresample")?, rate, filter(&caps)?, encoder.clone()]);
    let (encoder, bitrate) = (Some(encoder), Some(settings.audio_bitrate));
    Ok(Chain { elements, output: opus(), encoder, bitrate, queue: None })
}

/// A configured encoder: the first in the table that is here, or the one that was named.
fn video_encoder(settings: &Settings) -> Result<gst::Element, ChainError> {
    let codec = settings.video_codec;
    let of_codec = || ENCODERS.iter().filter(|known| known.codec == codec);
    let encoder = match settings.encoder.as_str() {
        "auto" | "software" => of_codec()
            .find_map(|known| gst::ElementFactory::make(known.factory).build().ok())
            .ok_or(ChainError::NoEncoder { kind: codec.name(), package: "gstreamer1.0-plugins-bad" })?,
        name => {
            let caps = gst::Caps::new_empty_simple(video_media(codec));
            gst::ElementFactory::find(name)
                .filter(|factory| factory.has_type(gst::ElementFactoryType::ENCODER) && factory.can_src_any_caps(&caps))
                .and_then(|factory| factory.create().build().ok())
                .ok_or_else(|| ChainError::OtherEncoder { encoder: name.to_owned(), codec: codec.name() })?
        }
    };
    let name = encoder.factory().map(|factory| factory.name().to_string());
    if let Some(known) = of_codec().find(|known| Some(known.factory) == name.as_deref()) {
        for (name, value) in known.extra {
            set_if_present(&encoder, name, value);
        }
        let frames = settings.keyframe_interval.as_millis().max(1) * FRAMES_A_SECOND_AT_MOST / 1000 + 1;
        set_if_present(&encoder, known.gop, &frames.min(100_000).to_string());
        set_bitrate(&encoder, settings.video_bitrate);
    } else {
        super::encoders::set_bitrate(&encoder, settings.video_bitrate);
    }
    Ok(encoder)
}

fn parser(codec: VideoCodec) -> Result<gst::Element, ChainError> {
    match codec {
        VideoCodec::H264 => make("h264parse"),
        VideoCodec::H265 => make("h265parse"),
        VideoCodec::Av1 => make("av1parse"),
        VideoCodec::Vp9 => make("vp9parse"),
    }
}

/// One access unit a buffer, as `flv` puts it into a tag.
fn output(codec: VideoCodec) -> gst::Caps {
    let caps = gst::Caps::builder(video_media(codec));
    match codec {
        VideoCodec::H264 => caps.field("stream-format", "avc").field("alignment", "au"),
        VideoCodec::H265 => caps.field("stream-format", "hvc1").field("alignment", "au"),
        VideoCodec::Av1 => caps.field("stream-format", "obu-stream").field("alignment", "tu"),
        VideoCodec::Vp9 => caps.field("alignment", "super-frame"),
    }
    .build()
}

fn opus() -> gst::Caps {
    gst::Caps::new_empty_simple("audio/x-opus")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(encoder: &str, video_codec: VideoCodec) -> Settings {
        gst::init().unwrap();
        Settings {
            encoder: encoder.into(),
            video_codec,
            audio_codec: AudioCodec::Aac,
            video_bitrate: 1_500_000,
            audio_bitrate: 96_000,
            keyframe_interval: Duration::from_secs(2),
        }
    }

    #[test]
    fn bitrates_are_set_in_each_encoders_unit() {
        let bitrate = |codec, name: &str| {
            let encoder = video_encoder(&settings("auto", codec)).unwrap();
            encoder.property_value(name).transform::<u64>().unwrap().get::<u64>().unwrap()
        };
        assert_eq!(bitrate(VideoCodec::H265, "bitrate"), 1500);
        assert_eq!(bitrate(VideoCodec::Vp9, "target-bitrate"), 1_500_000);
        assert_eq!(bitrate(VideoCodec::Av1, "target-bitrate"), 1500);
    }

    #[test]
    fn an_encoder_of_another_codec_is_named_with_what_was_asked_for() {
        for name in ["x264enc", "nosuchenc", "identity"] {
            let error = video_encoder(&settings(name, VideoCodec::H265)).map_err(|error| error.to_string());
            let error = error.expect_err("not an H.265 encoder");
            assert!(error.contains(name) && error.contains("H.265"), "{error}");
        }
        assert!(video_encoder(&settings("x265enc", VideoCodec::H265)).is_ok());
    }

    #[test]
    fn only_what_was_asked_for_passes() {
        let route = |caps: &str, codec| {
            let settings = settings("auto", codec);
            Route::of(&caps.parse::<gst::Caps>().unwrap(), &settings).unwrap()
        };
        assert!(route("video/x-h264", VideoCodec::H264).passthrough);
        assert!(!route("video/x-h265", VideoCodec::H264).passthrough);
        assert!(route("video/x-h265", VideoCodec::H265).passthrough);
        assert!(!route("video/x-h264", VideoCodec::H265).passthrough);
        assert!(route("audio/mpeg", VideoCodec::H265).passthrough);
        assert!(!route("audio/x-opus", VideoCodec::H265).passthrough);
    }
}
