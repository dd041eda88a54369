//! Video chains.

use gst::prelude::*;

use super::{
    Chain, ChainError, Settings, encoders,
    factory::{filter, make, set_if_present},
    gop,
};

/// Raw frames between decoder and encoder: enough to let both run at once, few enough to add no latency worth naming.
const QUEUE_FRAMES: u32 = 3;

/// H.264 as it comes: the parser only changes the framing.
pub(super) fn pass() -> Result<Chain, ChainError> {
    let output = output();
    Ok(Chain { elements: vec![parser()?], output, encoder: None, bitrate: None, queue: None })
}

/// Decodes what is not raw, and encodes H.264.
pub(super) fn transcode(caps: &gst::CapsRef, media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = decode(caps, media)?;
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", QUEUE_FRAMES);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    let encoder = encoders::video(settings)?;
    gop::keep(&encoder, settings.keyframe_interval);
    elements.extend([queue.clone(), make("videoconvert")?]);
    if encoders::is_software(&encoder) {
        // 4:2:0 is what players decode; x264enc would take 4:4:4 and make a stream that they refuse. It halves both sides,
        // so that they have to be even, which those of a shared window seldom are.
        let even = gst::IntRange::with_step(2, 16_384, 2);
        let caps = gst::Caps::builder("video/x-raw").field("format", "I420").field("width", even).field("height", even);
        elements.extend([make("videoscale")?, filter(&caps.build())?]);
    }
    elements.push(encoder.clone());
    if encoders::is_x264(&encoder) {
        elements.push(filter(&gst::Caps::builder("video/x-h264").field("profile", "main").build())?);
    }
    elements.push(parser()?);
    let (encoder, bitrate, queue) = (Some(encoder), Some(settings.video_bitrate), Some(queue));
    Ok(Chain { elements, output: output(), encoder, bitrate, queue })
}

/// What makes raw frames of it: nothing where they are raw.
pub(super) fn decode(caps: &gst::CapsRef, media: &str) -> Result<Vec<gst::Element>, ChainError> {
    let mut elements = Vec::new();
    if media != "video/x-raw" {
        match media {
            "video/x-h265" => elements.push(make("h265parse")?),
            "video/x-av1" => elements.push(make("av1parse")?),
            _ => {}
        }
        elements.push(decoder(caps, media)?);
    }
    Ok(elements)
}

fn output() -> gst::Caps {
    gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build()
}

fn parser() -> Result<gst::Element, ChainError> {
    let parser = make("h264parse")?;
    parser.set_property("config-interval", 0i32);
    Ok(parser)
}

/// The best-ranked decoder that takes the caps, gives frames in system memory and starts.
fn decoder(caps: &gst::CapsRef, media: &str) -> Result<gst::Element, ChainError> {
    let raw = gst::Caps::new_empty_simple("video/x-raw");
    // Only the media type counts: a parser in front makes the rest fit.
    let wanted = match media {
        "video/x-h265" | "video/x-av1" => gst::Caps::new_empty_simple(media),
        _ => caps.to_owned(),
    };
    let mut factories: Vec<_> = gst::ElementFactory::factories_with_type(
        gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO,
        gst::Rank::MARGINAL,
    )
    .into_iter()
    .filter(|factory| factory.can_sink_any_caps(&wanted) && factory.can_src_any_caps(&raw))
    // Those for streams with an alpha channel rank above the plain ones and take nothing else.
    .filter(|factory| !factory.name().contains("alpha") && !factory.has_type(gst::ElementFactoryType::HARDWARE))
    .collect();
    factories.sort_by_key(|factory| std::cmp::Reverse(factory.rank()));
    let decoder = factories.iter().find_map(|factory| {
        let decoder = factory.create().build().ok()?;
        if decoder.set_state(gst::State::Ready).is_err() {
            let _ = decoder.set_state(gst::State::Null);
            return None;
        }
        let _ = decoder.set_state(gst::State::Null);
        Some(decoder)
    });
    let decoder = decoder.ok_or_else(|| ChainError::NoDecoder { media: media.to_owned() })?;
    // Loss is repaired by asking for a keyframe, never by giving up.
    set_if_present(&decoder, "max-errors", "-1");
    set_if_present(&decoder, "automatic-request-sync-points", "true");
    set_if_present(&decoder, "min-force-key-unit-interval", &gst::ClockTime::from_mseconds(500).nseconds().to_string());
    Ok(decoder)
}
