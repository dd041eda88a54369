//! Audio chains, to AAC or to the Opus that enhanced RTMP was asked to carry.

use gst::prelude::*;

use super::{
    Chain, ChainError, Settings,
    chain::Encoder,
    factory::{filter, make, set_if_present},
};
use crate::flv::AudioCodec;

/// The AAC encoders, best first. fdkaacenc sounds best and is not in Debian's main section; voaacenc costs a third of
/// what avenc_aac does by default, half of what it does with its fast coder.
const ENCODERS: &[(&str, &[(&str, &str)])] =
    &[("fdkaacenc", &[]), ("voaacenc", &[]), ("avenc_aac", &[("aac-coder", "fast")])];

/// The media type that passes through.
pub(super) fn media(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Aac => "audio/mpeg",
        AudioCodec::Opus => "audio/x-opus",
    }
}

/// Audio as it comes: AAC's parser strips ADTS headers; of Opus nothing has to be parsed, but a chain has an element.
pub(super) fn pass(codec: AudioCodec) -> Result<Chain, ChainError> {
    let element = match codec {
        AudioCodec::Aac => make("aacparse")?,
        AudioCodec::Opus => make("identity")?,
    };
    Ok(Chain { elements: vec![element], output: output(codec), encoder: Encoder::None, bitrate: None })
}

/// What makes raw audio, its channels ready to be converted, of what comes.
pub(super) fn raw(caps: &gst::CapsRef, media: &str) -> Result<Vec<gst::Element>, ChainError> {
    let mut elements = Vec::new();
    let convert = make("audioconvert")?;
    match media {
        "audio/x-raw" => {
            if let Some(channels) = unplaced_channels(caps) {
                convert.set_property("mix-matrix", first_two_of(channels));
            }
        }
        "audio/x-opus" => {
            let decoder = make("opusdec")?;
            decoder.set_property("plc", true);
            decoder.set_property("use-inband-fec", true);
            elements.push(decoder);
        }
        "audio/mpeg" => elements.extend([make("aacparse")?, make("avdec_aac")?]),
        "audio/x-alaw" => elements.push(make("alawdec")?),
        "audio/x-mulaw" => elements.push(make("mulawdec")?),
        _ => return Err(ChainError::Unsupported(media.to_owned())),
    }
    elements.push(convert);
    Ok(elements)
}

/// Decodes what is not raw, and encodes it, 48 kHz stereo: AAC-LC is the one form that every platform takes.
pub(super) fn transcode(caps: &gst::CapsRef, media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = raw(caps, media)?;
    let rate = make("audiorate")?;
    // Otherwise it fills the time before a publisher came with silence, hours of it at once.
    set_if_present(&rate, "skip-to-first", "true");
    let caps = gst::Caps::builder("audio/x-raw")
        .field("rate", 48_000i32)
        .field("channels", 2i32)
        .field("layout", "interleaved")
        .build();
    let encoder = match settings.audio_codec {
        AudioCodec::Aac => aac(settings)?,
        AudioCodec::Opus => opus(settings)?,
    };
    elements.extend([make("audioresample")?, rate, filter(&caps)?, encoder.clone()]);
    if settings.audio_codec == AudioCodec::Aac {
        elements.push(make("aacparse")?);
    }
    let (encoder, bitrate) = (Encoder::Audio(encoder), Some(settings.audio_bitrate));
    Ok(Chain { elements, output: output(settings.audio_codec), encoder, bitrate })
}

/// How many channels raw audio has whose places nobody knows, such as those of a capture card: more than two of them
/// cannot be mixed by the rules.
pub(super) fn unplaced_channels(caps: &gst::CapsRef) -> Option<i32> {
    let structure = caps.structure(0)?;
    let channels = structure.get::<i32>("channels").ok().filter(|channels| *channels > 2)?;
    let mask = structure.get::<gst::Bitmask>("channel-mask").map_or(0, |mask| mask.0);
    (mask == 0).then_some(channels)
}

/// Stereo is by convention in the first two.
fn first_two_of(channels: i32) -> gst::Array {
    gst::Array::new((0..2).map(|to| gst::Array::new((0..channels).map(|from| if from == to { 1f32 } else { 0f32 }))))
}

/// A configured Opus encoder.
fn opus(settings: &Settings) -> Result<gst::Element, ChainError> {
    let encoder = make("opusenc")?;
    set_if_present(&encoder, "bitrate", &settings.audio_bitrate.to_string());
    Ok(encoder)
}

/// A configured AAC encoder.
fn aac(settings: &Settings) -> Result<gst::Element, ChainError> {
    let (encoder, extra) = ENCODERS
        .iter()
        .find_map(|(factory, extra)| Some((working(factory)?, extra)))
        .ok_or(ChainError::NoEncoder { kind: "AAC", package: "gstreamer1.0-plugins-bad" })?;
    for (name, value) in *extra {
        set_if_present(&encoder, name, value);
    }
    set_if_present(&encoder, "bitrate", &settings.audio_bitrate.to_string());
    Ok(encoder)
}

/// Makes an encoder if it exists and starts.
fn working(factory: &str) -> Option<gst::Element> {
    let encoder = gst::ElementFactory::make(factory).build().ok()?;
    let starts = encoder.set_state(gst::State::Ready).is_ok();
    let _ = encoder.set_state(gst::State::Null);
    starts.then_some(encoder)
}

fn output(codec: AudioCodec) -> gst::Caps {
    let caps = gst::Caps::builder(media(codec));
    match codec {
        AudioCodec::Aac => caps.field("mpegversion", 4i32).field("stream-format", "raw").build(),
        AudioCodec::Opus => caps.build(),
    }
}
