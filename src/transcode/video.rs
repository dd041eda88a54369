//! Video chains, to H.264 or to what enhanced RTMP was asked to carry instead.

use gst::prelude::*;

use super::{
    CAT, Canvas, Chain, ChainError, Settings,
    canvas::Picture,
    chain::Encoder,
    decoder,
    factory::{filter, make, set_if_present},
    memory,
    slot::Slot,
};
use crate::flv::VideoCodec;

/// A longer silence than this is not filled with copies of the last frame: they would all be encoded at once.
const LONGEST_FILLED_GAP: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// The media type that passes through.
pub(super) fn media(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "video/x-h264",
        VideoCodec::H265 => "video/x-h265",
        VideoCodec::Av1 => "video/x-av1",
        VideoCodec::Vp9 => "video/x-vp9",
    }
}

/// Video as it comes: the parser only changes the framing.
pub(super) fn pass(codec: VideoCodec) -> Result<Chain, ChainError> {
    Ok(Chain { elements: vec![parser(codec)?], output: output(codec), encoder: Encoder::None, bitrate: None })
}

/// Decodes what is not raw, fits it to the canvas, and encodes it.
pub(super) fn transcode(caps: &gst::CapsRef, media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = Vec::new();
    if media == "video/x-raw" {
        elements.extend(memory::way_out_of(caps).map_err(ChainError::Memory)?);
    } else {
        elements.extend(decoder::decoder(caps, media)?);
    }
    if settings.canvas.framerate.is_some() {
        elements.push(rate()?);
    }
    elements.extend(scaler(settings.canvas)?);
    let frame_rate = settings.canvas.framerate.or_else(|| frame_rate(caps)).map(|(n, d)| f64::from(n) / f64::from(d));
    let slot = Slot::build(settings, frame_rate)?;
    elements.push(slot.clone().upcast());
    let output = output(settings.video_codec);
    Ok(Chain { elements, output, encoder: Encoder::Video(slot), bitrate: Some(settings.video_bitrate) })
}

/// Makes the framing that FLV tags have of any other, with parameter sets in the caps alone.
pub(super) fn parser(codec: VideoCodec) -> Result<gst::Element, ChainError> {
    let parser = make(match codec {
        VideoCodec::H264 => "h264parse",
        VideoCodec::H265 => "h265parse",
        VideoCodec::Av1 => "av1parse",
        VideoCodec::Vp9 => "vp9parse",
    })?;
    set_if_present(&parser, "config-interval", "0");
    Ok(parser)
}

/// A frame rate that caps tell.
pub(super) fn frame_rate(caps: &gst::CapsRef) -> Option<(i32, i32)> {
    let rate = caps.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
    (rate.numer() > 0 && rate.denom() > 0).then(|| (rate.numer(), rate.denom()))
}

/// One access unit a buffer, as `flv` puts it into a tag.
fn output(codec: VideoCodec) -> gst::Caps {
    let caps = gst::Caps::builder(media(codec));
    match codec {
        VideoCodec::H264 => caps.field("stream-format", "avc").field("alignment", "au"),
        VideoCodec::H265 => caps.field("stream-format", "hvc1").field("alignment", "au"),
        VideoCodec::Av1 => caps.field("stream-format", "obu-stream").field("alignment", "tu"),
        VideoCodec::Vp9 => caps.field("alignment", "super-frame"),
    }
    .build()
}

fn rate() -> Result<gst::Element, ChainError> {
    let rate = make("videorate")?;
    // Otherwise it fills the time before a publisher came.
    set_if_present(&rate, "skip-to-first", "true");
    set_if_present(&rate, "max-duplication-time", &LONGEST_FILLED_GAP.nseconds().to_string());
    Ok(rate)
}

/// Scales to the canvas, with borders where the shape differs. The first picture decides what the settings leave open;
/// later ones are fitted to that, because few players and no platform take a change of size well.
fn scaler(canvas: Canvas) -> Result<[gst::Element; 2], ChainError> {
    let (scaler, filter) = (make("videoconvertscale")?, filter(&gst::Caps::new_any())?);
    set_if_present(&scaler, "add-borders", "true");
    let sink = scaler.static_pad("sink").ok_or_else(|| ChainError::Unsupported("a scaler without a pad".to_owned()))?;
    let weak = filter.downgrade();
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let caps = info.event().and_then(|event| match event.view() {
            gst::EventView::Caps(caps) => Some(caps.caps_owned()),
            _ => None,
        });
        let Some(caps) = caps else { return gst::PadProbeReturn::Ok };
        let (Some(filter), Some(picture)) = (weak.upgrade(), picture(&caps)) else { return gst::PadProbeReturn::Ok };
        let wanted = canvas_caps(canvas, canvas.picture(picture));
        gst::info!(CAT, obj = filter, "{picture:?} makes the canvas {wanted}");
        // Before the scaler sees the event: what it negotiates is behind it already.
        filter.set_property("caps", wanted);
        gst::PadProbeReturn::Remove
    });
    Ok([scaler, filter])
}

fn picture(caps: &gst::CapsRef) -> Option<Picture> {
    let structure = caps.structure(0)?;
    let side = |name: &str| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    let pixel = structure.get::<gst::Fraction>("pixel-aspect-ratio").ok();
    let pixel = pixel.and_then(|pixel| Some((pixel.numer().try_into().ok()?, pixel.denom().try_into().ok()?)));
    Some(Picture { width: side("width")?, height: side("height")?, pixel: pixel.unwrap_or((1, 1)) })
}

fn canvas_caps(canvas: Canvas, picture: Picture) -> gst::Caps {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (wide, high) = picture.pixel;
    let rate = canvas.framerate.map(|(numer, denom)| gst::Fraction::new(numer, denom));
    gst::Caps::builder("video/x-raw")
        .field("width", int(picture.width))
        .field("height", int(picture.height))
        .field("pixel-aspect-ratio", gst::Fraction::new(int(wide), int(high)))
        .field_if_some("framerate", rate)
        .build()
}
