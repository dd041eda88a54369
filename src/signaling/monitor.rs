//! What a bridge server's owner tells of its sessions: plain numbers, for the API, the metrics and the status page.
//!
//! Durations are in seconds and bitrates in bit/s, as they are shown; nothing here knows how they were measured.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::Mutex, task};
use utoipa::ToSchema;

use super::{answerer::AnswerError, problem::Refusal};

/// Knows what a bridge server is doing. Implemented by who runs the sessions.
pub trait Monitor: Send + Sync + 'static {
    /// A snapshot. It may wait for locks: it is asked in a thread where that does no harm, and once at a time.
    fn report(&self) -> Report;

    /// Whether no new sessions are taken because the server is about to end. At once, and never waits.
    fn is_draining(&self) -> bool;

    /// Whether offers are taken now.
    fn takes_offers(&self) -> bool {
        !self.is_draining()
    }
}

/// Everything at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The sessions that are there, in order of their start.
    pub sessions: Vec<SessionReport>,
    /// What has happened since the server started.
    pub totals: Totals,
    /// The UDP ports that carry media.
    pub ports: Vec<PortReport>,
    /// What viewers are sent.
    pub viewers: ViewersReport,
}

/// All whom the server sends media to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewersReport {
    /// Those that are there, by the state of their connection.
    pub present: Vec<ConnectionState>,
    /// All that have come.
    pub started: u64,
    /// What was sent to all that have come.
    pub sent: Sent,
    /// What the networks of each channel's viewers carry, from the slowest to the fastest, in bit/s.
    pub estimates: Vec<(String, Vec<u64>)>,
}

/// What was sent to viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP packets, without repairs.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Packets that were asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Packets sent once more to find out what a network carries.
    pub probes: u64,
    /// Packets left out because a network did not take them in time.
    pub dropped: u64,
    /// Requests for keyframes.
    pub keyframe_requests: u64,
}

/// Counts of all sessions, also of those that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Totals {
    /// Sessions that have begun.
    pub sessions_started: u64,
    /// Of these, those that have ended because their peer or the server wanted it.
    pub sessions_ended: u64,
    /// Of these, those that have ended because something failed.
    pub sessions_failed: u64,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct SessionReport {
    /// Its channel.
    pub channel: String,
    /// The beginning of its id: the whole protects its URL.
    pub id: String,
    /// Its connection's state.
    pub state: ConnectionState,
    /// How long it has been there.
    pub age_seconds: f64,
    /// The round trip that ICE has measured last.
    pub round_trip_seconds: Option<f64>,
    /// What it receives.
    pub tracks: Vec<TrackReport>,
    /// What was dropped on the way to the pipeline.
    pub dropped: Dropped,
    /// The video encoder in use, or `passthrough`.
    pub video_encoder: Option<String>,
    /// The audio encoder in use, or `passthrough`.
    pub audio_encoder: Option<String>,
    /// Where it is pushed to.
    pub destinations: Vec<DestinationReport>,
}

/// A connection's state, as the `connection-state` property of webrtcingest has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// Not begun.
    #[default]
    New,
    /// ICE or DTLS are under way.
    Connecting,
    /// Media can flow.
    Connected,
    /// The peer is silent, and may come back.
    Disconnected,
    /// It came to nothing, or broke.
    Failed,
    /// It has ended.
    Closed,
}

/// One track of a session: sums over its layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct TrackReport {
    /// Its number in the session, from 0.
    pub index: usize,
    /// `audio` or `video`.
    pub kind: MediaKind,
    /// The codec's name, such as `H264`.
    pub codec: String,
    /// RTP packets, without duplicates.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Payload bits per second, now.
    pub bitrate: u64,
    /// Packets that did not come and were not made good so far; falls when one comes late.
    pub lost: u64,
    /// Packets that came after a NACK had asked for them.
    pub recovered: u64,
    /// Packets that came once more without being needed.
    pub duplicates: u64,
    /// NACK messages sent.
    pub nacks: u64,
    /// Picture Loss Indications sent.
    pub plis: u64,
    /// Full Intra Requests sent.
    pub firs: u64,
    /// Jitter of arrival (RFC 3550 section 6.4.1).
    pub jitter_seconds: f64,
    /// Frames in the last second; 0 for audio.
    pub frames_per_second: u64,
    /// Whether nothing can be shown until a keyframe comes.
    pub waiting_for_keyframe: bool,
}

/// What a track carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    #[default]
    Video,
}

/// What was dropped between the network and the pipeline, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dropped {
    /// RTP packets of no track, or of a stream too many.
    pub packets_ignored: u64,
    /// RTP packets that nobody took: queue full, not playing, refused downstream.
    pub packets_not_taken: u64,
    /// RTP packets that waited too long because downstream takes nothing.
    pub packets_backlog: u64,
    /// Frames that could not be decoded without the keyframe that was waited for.
    pub frames_waiting_for_keyframe: u64,
    /// Frames of a pad that is not linked.
    pub frames_unlinked: u64,
}

/// One destination of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct DestinationReport {
    /// Its number in the session, from 0.
    pub index: usize,
    /// Where it is, without keys and passwords.
    pub url: String,
    /// How it stands.
    pub state: DestinationState,
    /// Bytes sent.
    pub bytes: u64,
    /// Frames sent.
    pub frames: u64,
    /// Frames dropped because it lagged or was away.
    pub dropped: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// How far it is behind.
    pub lag_seconds: f64,
    /// How often it failed, by why in one word: `dns`, `unreachable`, `timeout`, `closed`, `refused`, `certificate`, `tls`,
    /// `lost`, `stalled`, `no_files`, `other`.
    pub failures: BTreeMap<String, u64>,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// A destination's state, as `rtmpbridge-destination` messages have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DestinationState {
    /// On its way.
    #[default]
    Connecting,
    /// Media is sent.
    Live,
    /// It failed and will be tried again.
    Retrying,
    /// It said no, finally.
    Refused,
    /// It has ended.
    Stopped,
}

impl DestinationState {
    /// All there are.
    pub(crate) const ALL: [Self; 5] = [Self::Connecting, Self::Live, Self::Retrying, Self::Refused, Self::Stopped];

    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Retrying => "retrying",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

impl ConnectionState {
    /// All there are.
    pub(crate) const ALL: [Self; 6] =
        [Self::New, Self::Connecting, Self::Connected, Self::Disconnected, Self::Failed, Self::Closed];

    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

impl MediaKind {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// One UDP port for media, and its counters since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PortReport {
    /// Its number.
    pub port: u16,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Received ones of no session.
    pub dropped_unknown: u64,
    /// Received STUN requests whose integrity did not hold.
    pub dropped_forged: u64,
    /// Received ones that their session did not take in time.
    pub dropped_overflow: u64,
    /// Received ones that the kernel dropped, as they were not read in time. Linux only.
    pub dropped_unread: u64,
    /// Ones to send that the kernel had no room for.
    pub dropped_send: u64,
    /// Connectivity checks not sent to addresses that do not answer.
    pub checks_held: u64,
    /// Handshake datagrams sent again.
    pub handshakes_repeated: u64,
    /// Sessions whose peer went on from another address.
    pub rebinds: u64,
}

/// Snapshots for whoever asks, made when needed and shared by those who ask at the same time.
pub(crate) struct Reports {
    monitor: Arc<dyn Monitor>,
    latest: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// A snapshot younger than this is good enough: however many ask, sessions are disturbed four times a second at most.
const FRESH: Duration = Duration::from_millis(250);

impl Reports {
    pub(crate) fn new(monitor: Arc<dyn Monitor>) -> Self {
        Self { monitor, latest: Mutex::default() }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.monitor.is_draining()
    }

    pub(crate) fn takes_offers(&self) -> bool {
        self.monitor.takes_offers()
    }

    /// A snapshot, made just now or a moment ago.
    pub(crate) async fn latest(&self) -> Result<Arc<Report>, Refusal> {
        let mut latest = self.latest.lock().await;
        if let Some((made, report)) = &*latest
            && made.elapsed() < FRESH
        {
            return Ok(report.clone());
        }
        let monitor = self.monitor.clone();
        let report = task::spawn_blocking(move || monitor.report())
            .await
            .map_err(|_| AnswerError::Internal("reading the counters failed".into()))?;
        let report = Arc::new(report);
        *latest = Some((Instant::now(), report.clone()));
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicU64);

    impl Monitor for Counting {
        fn report(&self) -> Report {
            let sessions_started = self.0.fetch_add(1, SeqCst) + 1;
            assert_ne!(sessions_started, 2, "as the test wants it");
            Report { totals: Totals { sessions_started, ..Totals::default() }, ..Report::default() }
        }

        fn is_draining(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_a_snapshot_and_a_failed_one_is_not_kept() {
        let reports = Reports::new(Arc::new(Counting::default()));
        let started = |report: Result<Arc<Report>, Refusal>| report.map(|report| report.totals.sessions_started);
        let (first, second) = tokio::join!(reports.latest(), reports.latest());
        assert_eq!((started(first).unwrap(), started(second).unwrap()), (1, 1));
        if let Some((made, _)) = &mut *reports.latest.lock().await {
            *made -= FRESH;
        }
        assert!(reports.latest().await.is_err());
        assert_eq!(started(reports.latest().await).unwrap(), 3);
    }

    #[test]
    fn states_are_written_in_json_as_in_metrics() {
        for state in ConnectionState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for state in DestinationState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
