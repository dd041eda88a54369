//! The `stats` property.

use crate::{
    rtp::Crossing,
    session::{Mux, Session},
    signaling::Mount,
};

/// Counters of a started element, and of the session that is there; nothing but the name when it is stopped.
pub(super) fn structure(started: Option<(&Mount, &Mux, &Crossing, Option<Session>)>) -> gst::Structure {
    let mut stats = gst::Structure::builder("webrtcingest-stats");
    let Some((mount, mux, crossing, session)) = started else { return stats.build() };
    let (crossing, port) = (crossing.stats(), mux.stats());
    stats = stats
        .field("url", mount.url())
        .field("frames", crossing.frames)
        .field("dropped-packets", crossing.dropped_packets)
        .field("dropped-backlog", crossing.dropped_backlog)
        .field("lost-packets", crossing.lost_packets)
        .field("dropped-unlinked", crossing.dropped_unlinked)
        .field("dropped-waiting-for-keyframe", crossing.dropped_waiting)
        .field("udp-port", u32::from(mux.port()))
        .field("udp-dropped-unknown", port.unknown)
        .field("udp-dropped-forged", port.forged)
        .field("udp-dropped-overflow", port.overflowed)
        .field("udp-dropped-send", port.send_dropped)
        .field("udp-handshakes-repeated", port.repeated);
    if let Some(session) = session.map(|session| session.stats()) {
        stats = stats
            .field("packets", session.packets)
            .field("bytes", session.bytes)
            .field("ignored-packets", session.ignored)
            .field("recovered-by-red", session.recovered_by_red)
            .field("malformed-red", session.malformed_red)
            .field("keyframe-requests", session.keyframe_requests)
            .field("waiting-for-keyframe", session.waiting_for_keyframe);
    }
    stats.build()
}
