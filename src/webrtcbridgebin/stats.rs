//! The `stats` property: a structure `webrtcbridgebin-stats`, which holds nothing before READY→PAUSED.
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `url` | string | where it is called |
//! | `sessions` | GstArray | a structure `webrtcbridgebin-session` for each that there is, the oldest first |
//! | `sessions-started`, `sessions-failed`, `offers-refused` | guint64 | since it was started: refused are those for which there was no room |
//! | `viewers` | GstArray | a structure `webrtcbridgebin-viewer` for each whom the server sends media to, the oldest first |
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
//!
//! A viewer has:
//!
//! | field | type | what |
//! | --- | --- | --- |
//! | `id`, `channel`, `age` | | as a session |
//! | `connection` | string | its connection's state |
//! | `packets`, `bytes` | guint64 | what it was sent |
//! | `retransmitted`, `dropped` | guint64 | packets sent again; left out because its network did not take them |
//! | `estimate` | guint64 | what its network carries, in bit/s, as far as it is of use to be known; 0: not known yet |

use std::time::Duration;

use crate::{
    bridge::{Server, SessionView, ViewerView},
    session::SendTrackStats,
    signaling::abbreviate,
};

pub(super) fn structure(server: Option<&Server>) -> gst::Structure {
    let stats = gst::Structure::builder("webrtcbridgebin-stats");
    let Some(server) = server else { return stats.build() };
    let totals = server.sessions().totals();
    stats
        .field("url", server.url())
        .field("sessions", gst::Array::new(server.sessions().list().iter().map(of_session)))
        .field("viewers", gst::Array::new(server.viewers().list().iter().map(of_viewer)))
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

fn of_viewer(viewer: &ViewerView) -> gst::Structure {
    let sent = viewer.sent.as_ref();
    let sum = |of: fn(&SendTrackStats) -> u64| -> u64 {
        sent.iter().flat_map(|sent| sent.tracks.iter().flatten()).map(of).sum()
    };
    gst::Structure::builder("webrtcbridgebin-viewer")
        .field("id", abbreviate(viewer.id.as_str()))
        .field("channel", viewer.channel.as_ref().map_or("", |channel| channel.as_str()))
        .field("connection", format!("{:?}", viewer.connection).to_lowercase())
        .field("age", milliseconds(viewer.since.elapsed()))
        .field("packets", sum(|track| track.packets))
        .field("bytes", sum(|track| track.bytes))
        .field("retransmitted", sum(|track| track.retransmitted))
        .field("dropped", sum(|track| track.dropped))
        .field("estimate", sent.and_then(|sent| sent.estimate).unwrap_or(0))
        .build()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
