//! The decoder for some caps, as decodebin3 would choose it.

use gst::prelude::*;

use super::{
    CAT, ChainError,
    factory::{make, set_if_present},
};

/// The parser that has to stand in front of a decoder, and the decoder: the best-ranked one that takes the caps, gives
/// frames in system memory and starts; hardware where its rank says so.
pub(super) fn decoder(caps: &gst::CapsRef, media: &str) -> Result<Vec<gst::Element>, ChainError> {
    let parser = match media {
        "video/x-h264" => Some("h264parse"),
        "video/x-h265" => Some("h265parse"),
        "video/x-av1" => Some("av1parse"),
        _ => None,
    };
    let raw = gst::Caps::new_empty_simple("video/x-raw");
    // Only the media type counts: a parser in front makes the rest fit.
    let wanted = if parser.is_some() { gst::Caps::new_empty_simple(media) } else { caps.to_owned() };
    let mut factories: Vec<_> = gst::ElementFactory::factories_with_type(
        gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO,
        gst::Rank::MARGINAL,
    )
    .into_iter()
    .filter(|factory| factory.can_sink_any_caps(&wanted) && factory.can_src_any_caps(&raw))
    // Those for streams with an alpha channel rank above the plain ones and take nothing else.
    .filter(|factory| !factory.name().contains("alpha"))
    .collect();
    factories.sort_by_key(|factory| (std::cmp::Reverse(factory.rank()), factory.name()));
    let decoder = factories.iter().find_map(|factory| {
        let decoder = factory.create().build().ok()?;
        let starts = decoder.set_state(gst::State::Ready).is_ok();
        let _ = decoder.set_state(gst::State::Null);
        if !starts {
            gst::info!(CAT, "{} does not start, the next decoder has to do", factory.name());
        }
        starts.then_some(decoder)
    });
    let decoder = decoder.ok_or_else(|| ChainError::NoDecoder { media: media.to_owned() })?;
    // Loss is repaired by asking for a keyframe, never by giving up.
    set_if_present(&decoder, "max-errors", "-1");
    set_if_present(&decoder, "automatic-request-sync-points", "true");
    set_if_present(&decoder, "min-force-key-unit-interval", &gst::ClockTime::from_mseconds(500).nseconds().to_string());
    let mut elements = Vec::new();
    if let Some(parser) = parser {
        elements.push(make(parser)?);
    }
    elements.push(decoder);
    Ok(elements)
}
