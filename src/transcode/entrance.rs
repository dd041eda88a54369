//! The sink pad of a bin in which one codec takes over from another: every buffer and event comes by here. What becomes of
//! them is the bin's business.

use gst::{PadBuilder, subclass::prelude::*};

/// A bin with such a pad.
pub(super) trait Entrance: BinImpl {
    /// Takes a buffer, on the streaming thread.
    fn chain(&self, pad: &gst::GhostPad, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError>;

    /// Takes an event.
    fn event(&self, pad: &gst::GhostPad, event: gst::Event) -> bool;
}

/// The pad, called `sink`. Buffers of a list come one by one, so that a codec may be replaced between any two.
pub(super) fn sink_pad<E: Entrance>() -> PadBuilder<gst::GhostPad> {
    let failed = || Err(gst::FlowError::Error);
    gst::GhostPad::builder(gst::PadDirection::Sink)
        .name("sink")
        .chain_function(move |pad, parent, buffer| {
            E::catch_panic_pad_function(parent, failed, |entrance| entrance.chain(pad, buffer))
        })
        .chain_list_function(move |pad, parent, list| {
            E::catch_panic_pad_function(parent, failed, |entrance| {
                list.iter_owned().try_fold(gst::FlowSuccess::Ok, |_, buffer| entrance.chain(pad, buffer))
            })
        })
        .event_function(|pad, parent, event| {
            E::catch_panic_pad_function(parent, || false, |entrance| entrance.event(pad, event))
        })
}
