//! The `stats` property.

use super::role::Role;
use crate::{rtp::Crossing, session::Mux};

/// Counters of a started element, and of the session that is there; nothing but the name when it is stopped.
pub(super) fn structure(started: Option<(&Role, &Mux, &Crossing)>) -> gst::Structure {
    let mut stats = gst::Structure::builder("webrtcingest-stats");
    let Some((role, mux, crossing)) = started else { return stats.build() };
    if let Some((attempts, sessions)) = role.client_counts() {
        stats = stats.field("connect-attempts", attempts).field("sessions", sessions);
    }
    let (sync, crossing, port) = (crossing.sync_stats(), crossing.stats(), mux.stats());
    stats = stats
        .field("url", role.url())
        .field("frames", crossing.frames)
        .field("dropped-packets", crossing.dropped_packets)
        .field("dropped-backlog", crossing.dropped_backlog)
        .field("lost-packets", crossing.lost_packets)
        .field("late-packets", crossing.late_packets)
        .field("duplicate-packets", crossing.duplicate_packets)
        .field("recovered-packets", crossing.recovered_packets)
        .field("padding-packets", crossing.padding_packets)
        .field("dropped-unlinked", crossing.dropped_unlinked)
        .field("dropped-waiting-for-keyframe", crossing.dropped_waiting)
        .field("udp-port", u32::from(mux.port()))
        .field("udp-dropped-unknown", port.unknown)
        .field("udp-dropped-forged", port.forged)
        .field("udp-dropped-overflow", port.overflowed)
        .field("udp-dropped-send", port.send_dropped)
        .field("udp-handshakes-repeated", port.repeated)
        .field("udp-rebinds", port.rebinds)
        .field("udp-checks-held", port.checks_held)
        .field("udp-sent", port.sent);
    stats = stats
        .field("in-sync", sync.in_sync)
        .field("sender-reports", sync.reports)
        .field("sender-reports-rejected", sync.rejected_reports)
        .field("sync-steps", sync.steps)
        .field("timestamp-restarts", sync.restarts)
        .field_if_some("sync-offset", sync.offset);
    for (kind, ppm) in &sync.drift {
        stats = stats.field_if_some(format!("{kind}-clock-drift"), *ppm);
    }
    if let Some(session) = role.current().map(|session| session.stats()) {
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
