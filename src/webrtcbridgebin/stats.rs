//! The `stats` property: a structure `webrtcbridgebin-stats`, which holds nothing before READY→PAUSED.
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `url` | string | where it is called |
//! | `sessions` | GstArray | a structure `webrtcbridgebin-session` for each that there is, the oldest first |
//! | `sessions-started`, `sessions-failed`, `offers-refused` | guint64 | since it was started: refused are those for which there was no room |
//! | `half-open` | guint | sessions that nobody has connected to yet |
//! | `udp-port` | guint | the UDP port for media |
//!
//! A session has:
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `id` | string | the beginning of its id: the whole protects its URL |
//! | `channel`, `state` | string | as in `webrtcbridge-session` |
//! | `age` | guint64 | how long it has been there, in ms |
//! | `packets`, `bytes` | guint64 | what its connection has received |
//! | `discarded-packets` | guint64 | of these, what nothing in its pipeline takes |
//! | `elements` | GstArray | the `stats` of each webrtcingest, webrtcegress and rtmpbridgesink in it, with a field `element` for its name |

use std::time::Duration;

use crate::{
    bridge::{Server, SessionView},
    signaling::abbreviate,
};

pub(super) fn structure(server: Option<&Server>) -> gst::Structure {
    let stats = gst::Structure::builder("webrtcbridgebin-stats");
    let Some(server) = server else { return stats.build() };
    let totals = server.sessions().totals();
    stats
        .field("url", server.url())
        .field("sessions", gst::Array::new(server.sessions().list().iter().map(of_session)))
        .field("sessions-started", totals.started)
        .field("sessions-failed", totals.failed)
        .field("offers-refused", totals.refused)
        .field("half-open", u32::try_from(totals.half_open).unwrap_or(u32::MAX))
        .field("udp-port", u32::from(server.sessions().port()))
        .build()
}

fn of_session(session: &SessionView) -> gst::Structure {
    let elements = session.elements.iter().map(|(name, _, stats)| {
        let mut stats = stats.clone();
        stats.set("element", name);
        stats
    });
    let (packets, bytes) = session.received.as_ref().map_or((0, 0), |received| (received.packets, received.bytes));
    gst::Structure::builder("webrtcbridgebin-session")
        .field("id", abbreviate(session.id.as_str()))
        .field("channel", session.channel.as_str())
        .field("state", session.state.as_str())
        .field("age", milliseconds(session.since.elapsed()))
        .field("packets", packets)
        .field("bytes", bytes)
        .field("discarded-packets", session.discarded)
        .field("elements", gst::Array::new(elements))
        .build()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
