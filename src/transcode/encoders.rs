//! Encoders: which there are, in which unit each counts bits, and how each is told what live streaming needs.

use gst::prelude::*;

use super::{ChainError, Settings, factory::set_if_present};

/// What is known of a video encoder.
struct VideoEncoder {
    factory: &'static str,
    /// Its bitrate property and the bits in its unit.
    bitrate: (&'static str, u32),
    /// Its longest-GOP property, in frames.
    gop: &'static str,
    extra: &'static [(&'static str, &'static str)],
}

/// The software encoders, best first, then those that `encoder` may name. Those in bit/s are the exceptions.
const VIDEO: &[VideoEncoder] = &[
    VideoEncoder {
        factory: "x264enc",
        bitrate: ("bitrate", 1000),
        gop: "key-int-max",
        extra: &[
            ("tune", "zerolatency"),
            ("speed-preset", "superfast"),
            ("pass", "cbr"),
            ("vbv-buf-capacity", "1000"),
            ("bframes", "0"),
            ("byte-stream", "false"),
            ("option-string", "scenecut=0"),
        ],
    },
    VideoEncoder {
        factory: "openh264enc",
        bitrate: ("bitrate", 1),
        gop: "gop-size",
        extra: &[("rate-control", "bitrate"), ("complexity", "low"), ("scene-change-detection", "false")],
    },
    VideoEncoder { factory: "v4l2h264enc", bitrate: ("bitrate", 1), gop: "", extra: &[] },
    VideoEncoder { factory: "nvv4l2h264enc", bitrate: ("bitrate", 1), gop: "idrinterval", extra: &[] },
    VideoEncoder { factory: "mpph264enc", bitrate: ("bps", 1), gop: "gop", extra: &[] },
    VideoEncoder { factory: "omxh264enc", bitrate: ("target-bitrate", 1), gop: "", extra: &[] },
    VideoEncoder { factory: "vaapih264enc", bitrate: ("bitrate", 1000), gop: "keyframe-period", extra: &[] },
    VideoEncoder { factory: "vah264enc", bitrate: ("bitrate", 1000), gop: "key-int-max", extra: &[("b-frames", "0")] },
    VideoEncoder { factory: "vah264lpenc", bitrate: ("bitrate", 1000), gop: "key-int-max", extra: &[] },
    VideoEncoder { factory: "vtenc_h264", bitrate: ("bitrate", 1000), gop: "max-keyframe-interval", extra: &[] },
];
/// How many of them `auto` and `software` choose from.
const SOFTWARE: usize = 2;
/// Every other encoder that we know of counts in kbit/s.
const OTHER: VideoEncoder = VideoEncoder { factory: "", bitrate: ("bitrate", 1000), gop: "gop-size", extra: &[] };

/// The AAC encoders, best first.
const AUDIO: &[(&str, &[(&str, &str)])] =
    &[("fdkaacenc", &[]), ("voaacenc", &[]), ("avenc_aac", &[("aac-coder", "fast")])];

/// More frames than a group of pictures can have. Keyframes are asked for by time; this only keeps the encoder from
/// making its own.
const FRAMES_A_SECOND_AT_MOST: u128 = 240;

/// A configured H.264 encoder.
pub(super) fn video(settings: &Settings) -> Result<gst::Element, ChainError> {
    let encoder = match settings.encoder.as_str() {
        "auto" | "software" => VIDEO[..SOFTWARE]
            .iter()
            .find_map(|known| working(known.factory))
            .ok_or(ChainError::NoEncoder { kind: "H.264", package: "gstreamer1.0-plugins-ugly" })?,
        name => {
            let h264 = gst::Caps::new_empty_simple("video/x-h264");
            let factory = gst::ElementFactory::find(name).filter(|factory| {
                factory.has_type(gst::ElementFactoryType::ENCODER) && factory.can_src_any_caps(&h264)
            });
            factory.and_then(|_| working(name)).ok_or_else(|| ChainError::NotAnEncoder(name.to_owned()))?
        }
    };
    let known = known(&encoder);
    for (name, value) in known.extra {
        set_if_present(&encoder, name, value);
    }
    let frames = settings.keyframe_interval.as_millis().max(1) * FRAMES_A_SECOND_AT_MOST / 1000 + 1;
    set_if_present(&encoder, known.gop, &frames.min(100_000).to_string());
    set_bitrate(&encoder, settings.video_bitrate);
    Ok(encoder)
}

/// A configured AAC encoder.
pub(super) fn audio(settings: &Settings) -> Result<gst::Element, ChainError> {
    let (encoder, extra) = AUDIO
        .iter()
        .find_map(|(factory, extra)| Some((working(factory)?, extra)))
        .ok_or(ChainError::NoEncoder { kind: "AAC", package: "gstreamer1.0-plugins-bad" })?;
    for (name, value) in *extra {
        set_if_present(&encoder, name, value);
    }
    set_if_present(&encoder, "bitrate", &settings.audio_bitrate.to_string());
    Ok(encoder)
}

/// Sets a video encoder's bitrate, given in bit/s.
pub(super) fn set_bitrate(encoder: &gst::Element, bitrate: u32) {
    let (name, unit) = known(encoder).bitrate;
    set_if_present(encoder, name, &(bitrate / unit).max(1).to_string());
}

/// Whether it takes frames from system memory, in formats that we choose.
pub(super) fn is_software(encoder: &gst::Element) -> bool {
    VIDEO[..SOFTWARE].iter().any(|known| is_called(encoder, known.factory))
}

/// Whether it is x264enc, whose profile has to be chosen by caps.
pub(super) fn is_x264(encoder: &gst::Element) -> bool {
    is_called(encoder, VIDEO[0].factory)
}

fn known(encoder: &gst::Element) -> &'static VideoEncoder {
    VIDEO.iter().find(|known| is_called(encoder, known.factory)).unwrap_or(&OTHER)
}

fn is_called(element: &gst::Element, name: &str) -> bool {
    element.factory().is_some_and(|factory| factory.name() == name)
}

/// Makes an encoder if it exists and starts.
fn working(factory: &str) -> Option<gst::Element> {
    let encoder = gst::ElementFactory::make(factory).build().ok()?;
    let starts = encoder.set_state(gst::State::Ready).is_ok();
    let _ = encoder.set_state(gst::State::Null);
    starts.then_some(encoder)
}
