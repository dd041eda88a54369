//! What a pad says of its caps, whatever chain stands behind it.

use gst::prelude::*;

/// Whether these are caps that promise a decoder configuration and do not have it yet.
pub(super) fn lacks_configuration(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|structure| {
        let format = structure.get::<&str>("stream-format").unwrap_or_default();
        let wants = matches!(
            (structure.name().as_str(), format),
            ("video/x-h264", "avc" | "avc3") | ("video/x-h265", "hvc1" | "hev1") | ("audio/mpeg", "raw")
        );
        wants && !structure.has_field("codec_data")
    })
}

/// Caps are those of the template whatever chain stands behind the pad: another codec makes another chain.
pub(super) fn query(pad: &gst::GhostPad, parent: Option<&gst::Object>, query: &mut gst::QueryRef) -> bool {
    match query.view_mut() {
        gst::QueryViewMut::Caps(query) => {
            let caps = pad.pad_template_caps();
            let caps = query
                .filter()
                .map(|filter| caps.intersect_with_mode(filter, gst::CapsIntersectMode::First))
                .unwrap_or(caps);
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
