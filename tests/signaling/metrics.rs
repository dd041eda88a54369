//! `/metrics`: what Prometheus' own parsers read from it is what the server told, and no more than there is.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::site_support::{Site, full_report, session};
use crate::whip_support::offer;
use gstwebrtcbridge::{channel::NewChannel, signaling::Report};
use serde::Deserialize;

const OPEN_METRICS: &[(&str, &str)] = &[("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];

#[test]
fn every_family_has_type_help_and_unit_and_its_number() {
    let site = Site::open();
    *site.numbers.report.lock().unwrap() = full_report();
    site.create(NewChannel::default());
    let metrics = Metrics::read(&site);
    for family in &metrics.families {
        assert!(family.name.starts_with("webrtcbridge_") || family.name.starts_with("process_"), "{}", family.name);
        assert!(["counter", "gauge", "info"].contains(&family.kind.as_str()), "{} is {}", family.name, family.kind);
        assert!(family.help.len() > 3, "{} says nothing", family.name);
        assert!(family.name.ends_with(&family.unit), "{} in {}", family.name, family.unit);
        for unit in ["seconds", "bytes"] {
            assert_eq!(family.name.ends_with(unit), family.unit == unit, "{}: {:?}", family.name, family.unit);
        }
    }
    let stage = "channel=stage,session=aaaaaa";
    let video = &format!("{stage},codec=H264,kind=video,track=0");
    for (name, labels, value) in [
        ("webrtcbridge_channels", "", 1.0),
        ("webrtcbridge_sessions", "state=connected", 1.0),
        ("webrtcbridge_sessions", "state=new", 1.0),
        ("webrtcbridge_sessions", "state=failed", 0.0),
        ("webrtcbridge_sessions_started_total", "", 7.0),
        ("webrtcbridge_sessions_ended_total", "reason=failed", 1.0),
        ("webrtcbridge_draining", "", 0.0),
        ("webrtcbridge_forwarded_viewers", "state=connected", 2.0),
        ("webrtcbridge_viewers_started_total", "", 8.0),
        ("webrtcbridge_viewer_sent_packets_total", "", 9000.0),
        ("webrtcbridge_viewer_sent_bytes_total", "", 8_000_000.0),
        ("webrtcbridge_viewer_nacked_packets_total", "", 31.0),
        ("webrtcbridge_viewer_retransmitted_packets_total", "", 30.0),
        ("webrtcbridge_viewer_dropped_packets_total", "", 5.0),
        ("webrtcbridge_viewer_estimate_bits_per_second", "channel=stage,quantile=0", 400_000.0),
        ("webrtcbridge_viewer_estimate_bits_per_second", "channel=stage,quantile=0.5", 900_000.0),
        ("webrtcbridge_session_round_trip_seconds", stage, 0.021),
        ("webrtcbridge_session_dropped_packets_total", &format!("{stage},reason=backlog"), 3.0),
        ("webrtcbridge_session_dropped_frames_total", &format!("{stage},reason=unlinked"), 5.0),
        ("webrtcbridge_session_encoder_info", &format!("{stage},encoder=voaacenc,kind=audio"), 1.0),
        ("webrtcbridge_track_received_packets_total", video, 4000.0),
        ("webrtcbridge_track_received_bytes_total", video, 4_500_000.0),
        ("webrtcbridge_track_lost_packets", video, 12.0),
        ("webrtcbridge_track_recovered_packets_total", video, 30.0),
        ("webrtcbridge_track_nacks_sent_total", video, 14.0),
        ("webrtcbridge_track_plis_sent_total", video, 3.0),
        ("webrtcbridge_track_firs_sent_total", video, 1.0),
        ("webrtcbridge_track_jitter_seconds", video, 0.004),
        ("webrtcbridge_track_bitrate_bits_per_second", video, 2_400_000.0),
        ("webrtcbridge_track_frames_per_second", video, 30.0),
        ("webrtcbridge_track_waiting_for_keyframe", video, 1.0),
        ("webrtcbridge_destination_sent_bytes_total", &format!("{stage},destination=0"), 4_000_000.0),
        ("webrtcbridge_destination_failures_total", &format!("{stage},destination=0,reason=lost"), 1.0),
        ("webrtcbridge_accept_failures_total", "", 0.0),
        ("webrtcbridge_destination_lag_seconds", &format!("{stage},destination=0"), 0.04),
        ("webrtcbridge_destination_state", &format!("{stage},destination=0,state=live"), 1.0),
        ("webrtcbridge_destination_state", &format!("{stage},destination=1,state=retrying"), 1.0),
        ("webrtcbridge_destination_state", &format!("{stage},destination=1,state=live"), 0.0),
        ("webrtcbridge_udp_received_datagrams_total", "port=40000", 5000.0),
        ("webrtcbridge_udp_dropped_datagrams_total", "port=40000,reason=forged", 9.0),
    ] {
        assert_eq!(metrics.value(name, labels), Some(value), "{name} {labels}");
    }
    assert!(metrics.value("process_cpu_seconds_total", "").is_some());
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads"] {
        assert!(metrics.value(name, "").unwrap() > 0.0, "{name}");
    }
}

#[test]
fn who_does_not_ask_for_openmetrics_reads_the_same_in_the_older_format() {
    let site = Site::open();
    *site.numbers.report.lock().unwrap() = full_report();
    let answer = site.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let (old, new) = (Metrics::parse(&answer.body, "parser"), Metrics::read(&site));
    let lasting = |metrics: &Metrics| -> BTreeMap<_, _> {
        // Asking changes the counts of those who ask, and time what the process takes.
        let changing = ["process_", "webrtcbridge_http", "webrtcbridge_auth"];
        metrics.samples().filter(|((name, _), _)| !changing.iter().any(|start| name.starts_with(start))).collect()
    };
    assert!(lasting(&old).len() > 50);
    for (series, value) in &lasting(&new) {
        assert_eq!(lasting(&old).get(series), Some(value), "{series:?}");
    }
    assert_eq!(lasting(&old).len(), lasting(&new).len());
    assert!(old.families.iter().all(|family| family.kind != "unknown" && !family.help.is_empty()));
}

#[test]
fn series_are_of_those_who_are_there_however_many_have_been() {
    let site = Site::open();
    let mut most = 0;
    for round in 0..12 {
        let sessions = (0..3).map(|n| session(&format!("channel-{round}-{n}"), &format!("s{round:03}{n}"))).collect();
        *site.numbers.report.lock().unwrap() = Report { sessions, ..Report::default() };
        // Clients name paths and methods as they like.
        site.request("POST", &format!("/whip/c{round}"), &[("Content-Type", "application/sdp")], &offer(1));
        site.get(&format!("/nothing/{round}"));
        site.request(&format!("METHOD{round}"), "/", &[], "");
        // Reports are shared for a moment.
        let metrics = common::wait_for_round(&site, round);
        let count = metrics.samples().count();
        if round == 1 {
            most = count;
        }
        assert!(round < 2 || count <= most + 5, "{count} series in round {round}, after {most}");
        let channels = metrics.samples().filter(|((_, labels), _)| labels.contains("channel-"));
        assert!(channels.into_iter().all(|((_, labels), _)| labels.contains(&format!("channel-{round}-"))));
    }
}

#[test]
fn refusals_are_counted() {
    let site = Site::with(gstwebrtcbridge::signaling::Access {
        publish_token: Some("pub".into()),
        ..gstwebrtcbridge::signaling::Access::default()
    });
    for _ in 0..3 {
        site.request("POST", "/whip/stage", &[("Authorization", "Bearer wrong")], "").is_problem(401, "token");
    }
    site.get("/api/v1/channels/none");
    let metrics = Metrics::read(&site);
    let count = |labels: &str| metrics.value("webrtcbridge_http_responses_total", labels);
    assert_eq!(count("method=POST,route=/whip,status=401"), Some(3.0));
    assert_eq!(count("method=GET,route=/api/v1/channels/{id},status=404"), Some(1.0));
}

mod common {
    use std::time::{Duration, Instant};

    use super::{Metrics, Site};

    /// The metrics, once they are of this round.
    pub(super) fn wait_for_round(site: &Site, round: usize) -> Metrics {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let metrics = Metrics::read(site);
            if metrics.samples().any(|((_, labels), _)| labels.contains(&format!("channel-{round}-"))) {
                return metrics;
            }
            assert!(Instant::now() < end, "round {round} never shows");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a parser read.
struct Metrics {
    families: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    kind: String,
    help: String,
    unit: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    fn read(site: &Site) -> Self {
        let answer = site.request("GET", "/metrics", OPEN_METRICS, "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(answer.header("content-type"), Some(openmetrics));
        assert!(answer.body.ends_with("# EOF\n"));
        Self::parse(&answer.body, "openmetrics.parser")
    }

    /// By Prometheus' own Python client, which refuses what is not in order.
    fn parse(text: &str, parser: &str) -> Self {
        let script = format!(
            "import json, sys\n\
             from prometheus_client.{parser} import text_string_to_metric_families as parse\n\
             families = [dict(name=f.name, kind=f.type, help=f.documentation, unit=f.unit,\n\
             samples=[(s.name, s.labels, s.value) for s in f.samples]) for f in parse(sys.stdin.read())]\n\
             json.dump(families, sys.stdout)"
        );
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, with Debian's python3-prometheus-client");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "refused (or python3-prometheus-client is missing):\n{text}");
        let metrics = Self { families: serde_json::from_slice(&output.stdout).unwrap() };
        let all = metrics.families.iter().map(|family| family.samples.len()).sum::<usize>();
        assert_eq!(metrics.samples().collect::<BTreeMap<_, _>>().len(), all, "a series comes twice");
        metrics
    }

    /// Name and labels, as `a=1,b=2` in order of their names but the session's first, and the value.
    fn samples(&self) -> impl Iterator<Item = ((String, String), f64)> {
        let all = self.families.iter().flat_map(|family| &family.samples);
        all.map(|(name, labels, value)| {
            let first = ["channel", "session"].into_iter().filter(|name| labels.contains_key(*name));
            let rest = labels.keys().map(String::as_str).filter(|name| !["channel", "session"].contains(name));
            let said: Vec<_> = first.chain(rest).map(|name| format!("{name}={}", labels[name])).collect();
            ((name.clone(), said.join(",")), *value)
        })
    }

    fn value(&self, name: &str, labels: &str) -> Option<f64> {
        self.samples().find(|(key, _)| key.0 == name && key.1 == labels).map(|(_, value)| value)
    }
}
