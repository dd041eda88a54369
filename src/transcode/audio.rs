//! Audio chains.

use gst::prelude::*;

use super::{
    Chain, ChainError, Settings,
    chain::Encoder,
    factory::{filter, make, set_if_present},
};

/// The AAC encoders, best first. fdkaacenc sounds best and is not in Debian's main section; voaacenc costs a third of
/// what avenc_aac does by default, half of what it does with its fast coder.
const ENCODERS: &[(&str, &[(&str, &str)])] =
    &[("fdkaacenc", &[]), ("voaacenc", &[]), ("avenc_aac", &[("aac-coder", "fast")])];

/// AAC as it comes: the parser strips ADTS headers.
pub(super) fn pass() -> Result<Chain, ChainError> {
    Ok(Chain { elements: vec![make("aacparse")?], output: output(), encoder: Encoder::None, bitrate: None })
}

/// Decodes what is not raw, and encodes AAC-LC, 48 kHz stereo: the one form that every platform takes.
pub(super) fn transcode(caps: &gst::CapsRef, media: &str, settings: &Settings) -> Result<Chain, ChainError> {
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
        "audio/x-alaw" => elements.push(make("alawdec")?),
        "audio/x-mulaw" => elements.push(make("mulawdec")?),
        _ => return Err(ChainError::Unsupported(media.to_owned())),
    }
    let rate = make("audiorate")?;
    // Otherwise it fills the time before a publisher came with silence, hours of it at once.
    set_if_present(&rate, "skip-to-first", "true");
    let caps = gst::Caps::builder("audio/x-raw")
        .field("rate", 48_000i32)
        .field("channels", 2i32)
        .field("layout", "interleaved")
        .build();
    let encoder = encoder(settings)?;
    elements.extend([convert, make("audioresample")?, rate, filter(&caps)?, encoder.clone()]);
    elements.push(make("aacparse")?);
    let (encoder, bitrate) = (Encoder::Audio(encoder), Some(settings.audio_bitrate));
    Ok(Chain { elements, output: output(), encoder, bitrate })
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

/// A configured AAC encoder.
fn encoder(settings: &Settings) -> Result<gst::Element, ChainError> {
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

fn output() -> gst::Caps {
    gst::Caps::builder("audio/mpeg").field("mpegversion", 4i32).field("stream-format", "raw").build()
}
