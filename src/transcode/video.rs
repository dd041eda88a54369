//! Video chains, to H.264 or to what enhanced RTMP was asked to carry instead.

use gst::prelude::*;

use super::{
    CAT, Canvas, Chain, ChainError, Settings,
    canvas::Picture,
    chain::Encoder,
    decoder,
    factory::{filter, make, set_if_present},
    memory,
    slot::{Encode, Slot},
    unit::{Style, Tuning},
};
use crate::{codec::Codec, flv::VideoCodec};

/// A longer silence than this is not filled with copies of the last frame: they would all be encoded at once.
const LONGEST_FILLED_GAP: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// The codec of an FLV stream.
pub(super) fn codec(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Av1 => Codec::Av1,
        VideoCodec::Vp9 => Codec::Vp9,
    }
}

/// The media type that passes through.
pub(super) fn media(codec: VideoCodec) -> &'static str {
    self::codec(codec).caps_name()
}

/// Video as it comes: the parser only changes the framing.
pub(super) fn pass(codec: VideoCodec) -> Result<Chain, ChainError> {
    let codec = self::codec(codec);
    let elements = parser(codec)?.into_iter().collect();
    Ok(Chain { elements, output: output(codec), encoder: Encoder::None, bitrate: None })
}

/// Decodes what is not raw, fits it to the canvas, and encodes it.
pub(super) fn transcode(caps: &gst::CapsRef, media: &str, settings: &Settings) -> Result<Chain, ChainError> {
    let mut elements = raw(caps, media)?;
    if settings.canvas.framerate.is_some() {
        elements.push(rate()?);
    }
    elements.extend(scaler(settings.canvas)?);
    let frame_rate = settings.canvas.framerate.or_else(|| frame_rate(caps)).map(|(n, d)| f64::from(n) / f64::from(d));
    let codec = codec(settings.video_codec);
    let encode = Encode {
        choice: &settings.encoder,
        codec,
        tuning: Tuning {
            bitrate: settings.video_bitrate,
            keyframe_interval: settings.keyframe_interval,
            frame_rate,
            style: Style::Broadcast,
        },
    };
    let slot = Slot::build(encode)?;
    elements.push(slot.clone().upcast());
    let encoder = Encoder::Video(slot);
    Ok(Chain { elements, output: output(codec), encoder, bitrate: Some(settings.video_bitrate) })
}

/// What makes raw video in memory that the CPU reads of what comes.
pub(super) fn raw(caps: &gst::CapsRef, media: &str) -> Result<Vec<gst::Element>, ChainError> {
    match media {
        "video/x-raw" => Ok(memory::way_out_of(caps).map_err(ChainError::Memory)?.into_iter().collect()),
        _ => decoder::decoder(caps, media),
    }
}

/// Makes one framing of any other, that of [`output`] with parameter sets in the caps alone; VP8 has but one.
pub(super) fn parser(codec: Codec) -> Result<Option<gst::Element>, ChainError> {
    let parser = make(match codec {
        Codec::H264 => "h264parse",
        Codec::H265 => "h265parse",
        Codec::Av1 => "av1parse",
        Codec::Vp9 => "vp9parse",
        Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => return Ok(None),
    })?;
    set_if_present(&parser, "config-interval", "0");
    Ok(Some(parser))
}

/// A frame rate that caps tell.
pub(super) fn frame_rate(caps: &gst::CapsRef) -> Option<(i32, i32)> {
    let rate = caps.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
    (rate.numer() > 0 && rate.denom() > 0).then(|| (rate.numer(), rate.denom()))
}

/// One access unit a buffer, as `flv` puts it into a tag and payloaders take it.
pub(super) fn output(codec: Codec) -> gst::Caps {
    let caps = gst::Caps::builder(codec.caps_name());
    match codec {
        Codec::H264 => caps.field("stream-format", "avc").field("alignment", "au"),
        Codec::H265 => caps.field("stream-format", "hvc1").field("alignment", "au"),
        Codec::Av1 => caps.field("stream-format", "obu-stream").field("alignment", "tu"),
        Codec::Vp9 => caps.field("alignment", "super-frame"),
        Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => caps,
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
pub(super) fn scaler(canvas: Canvas) -> Result<[gst::Element; 2], ChainError> {
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
