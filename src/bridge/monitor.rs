//! What the server's API and metrics are told of the sessions and viewers: `SessionView`s as plain numbers.

use std::collections::BTreeMap;

use super::{
    report::SessionView,
    sessions::Sessions,
    viewers::{ViewerView, Viewers},
};
use crate::{
    codec,
    session::{self, MuxStats, TrackStats},
    signaling::{
        ConnectionState, DestinationReport, DestinationState, Dropped, MediaKind, Monitor, PortReport, Report,
        SessionReport, Totals, TrackReport, ViewersReport, abbreviate,
    },
};

/// Looks at everybody on a server.
pub(super) struct Everybody {
    pub(super) sessions: Sessions,
    pub(super) viewers: Viewers,
}

impl Monitor for Everybody {
    fn report(&self) -> Report {
        let totals = self.sessions.totals();
        let sessions = self.sessions.list();
        Report {
            sessions: sessions.iter().map(of_session).collect(),
            totals: Totals {
                sessions_started: totals.started,
                sessions_ended: totals.ended,
                sessions_failed: totals.failed,
            },
            ports: vec![of_port(self.sessions.port(), self.sessions.port_stats())],
            viewers: of_viewers(&self.viewers),
        }
    }

    fn is_draining(&self) -> bool {
        self.sessions.is_draining()
    }

    fn takes_offers(&self) -> bool {
        self.sessions.takes_offers()
    }
}

fn of_viewers(viewers: &Viewers) -> ViewersReport {
    let (sent, started) = (viewers.sent(), viewers.started());
    let present = viewers.list();
    let mut estimates = BTreeMap::<String, Vec<u64>>::new();
    for ViewerView { channel, sent, .. } in &present {
        if let (Some(channel), Some(estimate)) = (channel, sent.as_ref().and_then(|sent| sent.estimate)) {
            estimates.entry(channel.to_string()).or_default().push(estimate);
        }
    }
    estimates.values_mut().for_each(|estimates| estimates.sort_unstable());
    ViewersReport {
        present: present.iter().map(|viewer| of_state(viewer.connection)).collect(),
        started,
        sent,
        estimates: estimates.into_iter().collect(),
    }
}

fn of_session(session: &SessionView) -> SessionReport {
    let of = |factory: &str| session.elements.iter().find(|(_, kind, _)| *kind == factory).map(|(_, _, stats)| stats);
    let (ingest, sink) = (of("webrtcingest"), of("rtmpbridgesink"));
    let count = |name: &str| ingest.and_then(|stats| stats.get::<u64>(name).ok()).unwrap_or(0);
    let received = session.received.as_ref();
    SessionReport {
        channel: session.channel.to_string(),
        id: abbreviate(session.id.as_str()).to_owned(),
        state: of_state(session.connection),
        age_seconds: session.since.elapsed().as_secs_f64(),
        round_trip_seconds: received.and_then(|received| received.round_trip).map(|time| time.as_secs_f64()),
        tracks: received.iter().flat_map(|received| received.tracks.iter().enumerate()).map(of_track).collect(),
        dropped: Dropped {
            packets_ignored: received.map_or(0, |received| received.ignored),
            packets_not_taken: count("dropped-packets") + session.discarded,
            packets_backlog: count("dropped-backlog"),
            frames_waiting_for_keyframe: count("dropped-waiting-for-keyframe"),
            frames_unlinked: count("dropped-unlinked"),
        },
        video_encoder: sink.and_then(|stats| stats.get("video-encoder").ok()),
        audio_encoder: sink.and_then(|stats| stats.get("audio-encoder").ok()),
        destinations: destinations(session),
    }
}

fn of_state(state: session::ConnectionState) -> ConnectionState {
    use session::ConnectionState as S;
    match state {
        S::New => ConnectionState::New,
        S::Connecting => ConnectionState::Connecting,
        S::Connected => ConnectionState::Connected,
        S::Disconnected => ConnectionState::Disconnected,
        S::Failed => ConnectionState::Failed,
        S::Closed => ConnectionState::Closed,
    }
}

fn of_track((index, track): (usize, &TrackStats)) -> TrackReport {
    TrackReport {
        index,
        kind: match track.codec.kind() {
            codec::MediaKind::Audio => MediaKind::Audio,
            codec::MediaKind::Video => MediaKind::Video,
        },
        codec: track.codec.name().to_owned(),
        packets: track.packets,
        bytes: track.bytes,
        bitrate: track.bitrate,
        lost: track.lost,
        recovered: track.recovered,
        duplicates: track.duplicates,
        nacks: track.nacks,
        plis: track.plis,
        firs: track.firs,
        jitter_seconds: track.jitter.as_secs_f64(),
        frames_per_second: match track.codec.kind() {
            codec::MediaKind::Audio => 0,
            codec::MediaKind::Video => track.frame_rate,
        },
        waiting_for_keyframe: track.waiting_for_keyframe,
    }
}

/// Of all sinks of the session, numbered through.
fn destinations(session: &SessionView) -> Vec<DestinationReport> {
    let sinks = session.elements.iter().filter(|(_, kind, _)| *kind == "rtmpbridgesink");
    let lists = sinks.filter_map(|(_, _, stats)| stats.get::<gst::Array>("destinations").ok());
    let all: Vec<gst::Structure> =
        lists.flat_map(|list| list.iter().filter_map(|one| one.get().ok()).collect::<Vec<_>>()).collect();
    all.iter().enumerate().map(of_destination).collect()
}

fn of_destination((index, stats): (usize, &gst::Structure)) -> DestinationReport {
    let count = |name: &str| stats.get::<u64>(name).unwrap_or(0);
    DestinationReport {
        index,
        url: stats.get("url").unwrap_or_default(),
        state: match stats.get::<&str>("state").unwrap_or_default() {
            "live" => DestinationState::Live,
            "retrying" => DestinationState::Retrying,
            "refused" => DestinationState::Refused,
            "stopped" => DestinationState::Stopped,
            _ => DestinationState::Connecting,
        },
        bytes: count("bytes"),
        frames: count("frames"),
        dropped: count("dropped"),
        reconnects: count("reconnects"),
        lag_seconds: f64::from(stats.get::<u32>("lag").unwrap_or(0)) / 1000.0,
        failures: stats
            .get::<gst::Structure>("failures")
            .map_or_else(|_| Default::default(), |failures| counts(&failures)),
        last_failure: stats.get("last-failure").ok(),
    }
}

fn counts(structure: &gst::StructureRef) -> BTreeMap<String, u64> {
    structure.iter().filter_map(|(name, count)| Some((name.to_string(), count.get().ok()?))).collect()
}

fn of_port(port: u16, stats: MuxStats) -> PortReport {
    PortReport {
        port,
        received: stats.received,
        sent: stats.sent,
        dropped_unknown: stats.unknown,
        dropped_forged: stats.forged,
        dropped_overflow: stats.overflowed,
        dropped_unread: stats.unread,
        dropped_send: stats.send_dropped,
        checks_held: stats.checks_held,
        handshakes_repeated: stats.repeated,
        rebinds: stats.rebinds,
    }
}
