//! Which codecs an answer may name: those that this machine can receive, and that what is linked can take.

use gst::prelude::*;

use super::imp::CAT;
use crate::{bridge::properties, rtp::announced_caps, session::CodecPreferences};

/// The codecs that this machine has the elements for. A missing one is an error only if nothing of its kind is left.
pub(super) fn receivable(codecs: CodecPreferences) -> Result<CodecPreferences, String> {
    let (codecs, missing) = properties::receivable(codecs)?;
    for why in missing {
        gst::warning!(CAT, "{why}");
    }
    Ok(codecs)
}

/// The preferences without the codecs that a linked pad's downstream cannot take.
pub(super) fn usable(
    element: &gst::glib::WeakRef<super::WebrtcIngest>,
    mut codecs: CodecPreferences,
) -> CodecPreferences {
    let Some(element) = element.upgrade() else { return codecs };
    for pad in element.src_pads().iter().filter(|pad| pad.is_linked()) {
        let accepted = pad.peer_query_caps(None);
        let list = if pad.name().starts_with("video") { &mut codecs.video } else { &mut codecs.audio };
        list.retain(|codec| announced_caps(*codec).can_intersect(&accepted));
    }
    codecs
}
