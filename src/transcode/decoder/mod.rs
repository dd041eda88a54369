//! The decoder for some caps, as decodebin3 would choose it, and the place where it works: when it fails, the next best
//! goes on from a keyframe, which upstream is asked for.
//!
//! Unlike an encoder's slot it has no thread between itself and upstream, so that a decoder which hangs holds upstream up:
//! another thread would cost every stream memory and latency for what only broken drivers do.

use std::{cmp::Reverse, collections::VecDeque};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    CAT, ChainError,
    factory::{make, set_if_present},
};

mod imp;

glib::wrapper! {
    /// A bin that no factory makes. Public for the macro only: the module is not.
    pub struct Decoder(ObjectSubclass<imp::Decoder>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy;
}

/// The parser that has to stand in front of a decoder, and the decoder: the best-ranked one that takes the caps, gives
/// frames in system memory and starts; hardware where its rank says so.
pub(super) fn decoder(caps: &gst::CapsRef, media: &str) -> Result<Vec<gst::Element>, ChainError> {
    let parser = match media {
        "video/x-h264" => Some("h264parse"),
        "video/x-h265" => Some("h265parse"),
        "video/x-av1" => Some("av1parse"),
        _ => None,
    };
    // Only the media type counts: a parser in front makes the rest fit.
    let wanted = if parser.is_some() { gst::Caps::new_empty_simple(media) } else { caps.to_owned() };
    let decoder: Decoder = glib::Object::new();
    if !decoder.imp().begin(candidates(&wanted)) {
        return Err(ChainError::NoDecoder { media: media.to_owned() });
    }
    let mut elements = Vec::new();
    if let Some(parser) = parser {
        elements.push(make(parser)?);
    }
    elements.push(decoder.upcast());
    Ok(elements)
}

/// Those that there are, best first.
fn candidates(caps: &gst::Caps) -> VecDeque<gst::ElementFactory> {
    let raw = gst::Caps::new_empty_simple("video/x-raw");
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    let mut factories: Vec<_> = gst::ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL)
        .into_iter()
        .filter(|factory| factory.can_sink_any_caps(caps) && factory.can_src_any_caps(&raw))
        // Those for streams with an alpha channel rank above the plain ones and take nothing else.
        .filter(|factory| !factory.name().contains("alpha"))
        .collect();
    factories.sort_by_key(|factory| (Reverse(factory.rank()), factory.name()));
    factories.into()
}

/// Makes one that starts.
fn working(factory: &gst::ElementFactory) -> Option<gst::Element> {
    let decoder = factory.create().build().ok()?;
    let starts = decoder.set_state(gst::State::Ready).is_ok();
    let _ = decoder.set_state(gst::State::Null);
    if !starts {
        gst::info!(CAT, "{} does not start, the next decoder has to do", factory.name());
        return None;
    }
    // Loss is repaired by asking for a keyframe, never by giving up.
    set_if_present(&decoder, "max-errors", "-1");
    set_if_present(&decoder, "automatic-request-sync-points", "true");
    set_if_present(&decoder, "min-force-key-unit-interval", &gst::ClockTime::from_mseconds(500).nseconds().to_string());
    Some(decoder)
}
