//! Audio chains.

use gst::prelude::*;

use super::{
    Chain, ChainError, Settings, encoders,
    factory::{filter, make, set_if_present},
};

/// AAC as it comes: the parser strips ADTS headers.
pub(super) fn pass() -> Result<Chain, ChainError> {
    Ok(Chain { elements: vec![make("aacparse")?], output: output(), encoder: None, bitrate: None, queue: None })
}

/// Decodes what is not raw, and encodes AAC-LC, 48 kHz stereo: the one form that every platform takes.
pub(super) fn transcode(media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = Vec::new();
    match media {
        "audio/x-raw" => {}
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
    let encoder = encoders::audio(settings)?;
    elements.extend([make("audioconvert")?, make("audioresample")?, rate, filter(&caps)?, encoder.clone()]);
    elements.push(make("aacparse")?);
    let (encoder, bitrate) = (Some(encoder), Some(settings.audio_bitrate));
    Ok(Chain { elements, output: output(), encoder, bitrate, queue: None })
}

fn output() -> gst::Caps {
    gst::Caps::builder("audio/mpeg").field("mpegversion", 4i32).field("stream-format", "raw").build()
}
