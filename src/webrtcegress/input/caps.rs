//! What a pad says of the caps that it takes, and which of them are not complete yet.

use gst::prelude::*;

/// Whether these are caps that promise a decoder configuration and do not have it yet.
pub(super) fn lacks_configuration(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|structure| {
        let format = structure.get::<&str>("stream-format").unwrap_or_default();
        matches!(format, "avc" | "avc3" | "hvc1" | "hev1") && !structure.has_field("codec_data")
    })
}

/// Caps are those of the template whatever chain stands behind the pad.
pub(super) fn answer(pad: &gst::GhostPad, parent: Option<&gst::Object>, query: &mut gst::QueryRef) -> bool {
    match query.view_mut() {
        gst::QueryViewMut::Caps(query) => {
            let caps = pad.pad_template_caps();
            let caps =
                query.filter().map(|f| caps.intersect_with_mode(f, gst::CapsIntersectMode::First)).unwrap_or(caps);
            query.set_result(&caps);
            true
        }
        gst::QueryViewMut::AcceptCaps(query) => {
            let accepted = query.caps().can_intersect(&pad.pad_template_caps());
            query.set_result(accepted);
            true
        }
        _ => gst::Pad::query_default(pad, parent, query),
    }
}
