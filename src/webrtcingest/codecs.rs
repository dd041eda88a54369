//! Which codecs an answer may name: those that this machine can receive, and that what is linked can take.

use gst::prelude::*;

use super::imp::CAT;
use crate::{
    rtp::{self, announced_caps},
    session::CodecPreferences,
};

/// The codecs that this machine has the elements for. A missing one is an error only if nothing of its kind is left.
pub(super) fn receivable(mut codecs: CodecPreferences) -> Result<CodecPreferences, String> {
    for list in [&mut codecs.video, &mut codecs.audio] {
        let mut missing = None;
        list.retain(|codec| match rtp::missing(*codec) {
            None => true,
            Some(error) => {
                gst::warning!(CAT, "{codec} cannot be received: {error}");
                missing = Some(error);
                false
            }
        });
        if let (true, Some(error)) = (list.is_empty(), missing) {
            return Err(error.to_string());
        }
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
