//! A bridge server in the test process: channels in memory, a stand-in for peer connections, and numbers as a test wants
//! them.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gstwebrtcbridge::{
    channel::{ChannelLimits, MemoryRegistry, NewChannel, Registry},
    signaling::{
        Access, Audience, ConnectionState, DestinationReport, DestinationState, Dropped, ListenAddress, MediaKind,
        Monitor, PortReport, Report, Sent, SessionReport, SiteConfig, SiteMount, Totals, TrackReport, ViewersReport,
        mount_site,
    },
};

use super::whip_support::{Fake, RUNTIME, Response, exchange};

/// Tells what a test has put there.
#[derive(Default)]
pub struct Numbers {
    pub report: Mutex<Report>,
    pub draining: AtomicBool,
    /// Fails when it is asked.
    pub broken: AtomicBool,
}

impl Monitor for Numbers {
    fn report(&self) -> Report {
        assert!(!self.broken.load(Ordering::SeqCst), "as the test wants it");
        self.report.lock().unwrap().clone()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

pub struct Site {
    pub mount: SiteMount,
    pub registry: Arc<MemoryRegistry>,
    pub answerer: Fake,
    pub numbers: Arc<Numbers>,
}

impl Site {
    pub fn open() -> Self {
        Self::with(Access::default())
    }

    pub fn without_page() -> Self {
        Self::mounted(Access::default(), false)
    }

    pub fn with(access: Access) -> Self {
        Self::mounted(access, true)
    }

    fn mounted(access: Access, page: bool) -> Self {
        let limits = ChannelLimits { max_channels: 20, ttl: Duration::from_secs(3600) };
        let registry = Arc::new(MemoryRegistry::new(limits, RUNTIME.handle()));
        let (answerer, numbers) = (Fake::default(), Arc::new(Numbers::default()));
        let config = SiteConfig {
            listen: ListenAddress { host: "127.0.0.1".into(), port: 0 },
            tls: None,
            ice_servers: Vec::new(),
            max_sessions: 3,
            access,
            registry: registry.clone(),
            publishing: Arc::new(answerer.clone()),
            viewing: Arc::new(answerer.clone()),
            audience: Audience::default(),
            monitor: numbers.clone(),
            page,
        };
        let mount = mount_site(RUNTIME.handle(), config).unwrap();
        Self { mount, registry, answerer, numbers }
    }

    pub fn addr(&self) -> SocketAddr {
        self.mount.local_addr()
    }

    /// Makes a channel; its id and key.
    pub fn create(&self, channel: NewChannel) -> (String, String) {
        let made = RUNTIME.block_on(self.registry.create(channel)).unwrap();
        (made.id.to_string(), made.key)
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            write!(text, "Host: {}\r\n", self.addr()).unwrap();
        }
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        Response::parse(&exchange(self.addr(), &text))
    }
}

/// A session of each kind of thing that can be told.
pub fn session(channel: &str, id: &str) -> SessionReport {
    SessionReport {
        channel: channel.into(),
        id: id.into(),
        state: ConnectionState::Connected,
        age_seconds: 12.5,
        round_trip_seconds: Some(0.021),
        tracks: vec![
            TrackReport {
                index: 0,
                kind: MediaKind::Video,
                codec: "H264".into(),
                packets: 4000,
                bytes: 4_500_000,
                bitrate: 2_400_000,
                lost: 12,
                recovered: 30,
                duplicates: 2,
                nacks: 14,
                plis: 3,
                firs: 1,
                jitter_seconds: 0.004,
                frames_per_second: 30,
                waiting_for_keyframe: true,
            },
            TrackReport {
                index: 1,
                kind: MediaKind::Audio,
                codec: "OPUS".into(),
                packets: 600,
                bytes: 60_000,
                bitrate: 48_000,
                ..TrackReport::default()
            },
        ],
        dropped: Dropped {
            packets_ignored: 1,
            packets_not_taken: 2,
            packets_backlog: 3,
            frames_waiting_for_keyframe: 4,
            frames_unlinked: 5,
        },
        video_encoder: Some("passthrough".into()),
        audio_encoder: Some("voaacenc".into()),
        destinations: vec![
            DestinationReport {
                index: 0,
                url: "rtmp://a.example/live/***".into(),
                state: DestinationState::Live,
                bytes: 4_000_000,
                frames: 900,
                dropped: 0,
                reconnects: 1,
                lag_seconds: 0.04,
                failures: [("lost".to_owned(), 1)].into(),
                last_failure: Some("the server closed the connection".into()),
            },
            DestinationReport {
                index: 1,
                url: "rtmps://b.example/app/***".into(),
                state: DestinationState::Retrying,
                ..DestinationReport::default()
            },
        ],
    }
}

pub fn full_report() -> Report {
    Report {
        sessions: vec![
            session("stage", "aaaaaa"),
            SessionReport { channel: "hall".into(), id: "bbbbbb".into(), ..SessionReport::default() },
        ],
        totals: Totals { sessions_started: 7, sessions_ended: 4, sessions_failed: 1 },
        ports: vec![PortReport { port: 40_000, received: 5000, sent: 300, dropped_forged: 9, ..PortReport::default() }],
        viewers: ViewersReport {
            present: vec![ConnectionState::Connected, ConnectionState::Connected, ConnectionState::Connecting],
            started: 8,
            sent: Sent {
                packets: 9000,
                bytes: 8_000_000,
                nacked: 31,
                retransmitted: 30,
                dropped: 5,
                ..Sent::default()
            },
            estimates: vec![("stage".into(), vec![400_000, 900_000, 2_000_000])],
        },
    }
}
