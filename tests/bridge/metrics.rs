//! `/metrics` and `/api/v1/status` of a bridge server that works: numbers of real sessions, while they come and go.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    SOON, half_open, http,
    nginx::Nginx,
    publisher::{Options, Publisher},
    server::BridgeServer,
    wait_until,
};
use gstwebrtcbridge::{
    WebRtcServer,
    bridge::{Observer, ServerConfig, SessionChange, SessionState},
};
use serde_json::Value;

fn get(server: &BridgeServer, path: &str) -> String {
    let mut answer = http().get(format!("{}{path}", server.url())).call().expect("an answer");
    let text = answer.body_mut().read_to_string().expect("text");
    assert_eq!(answer.status().as_u16(), 200, "{path}: {text}");
    text
}

/// The value of the one series of a name whose labels hold all of these.
fn value(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|l| line.contains(l))
    };
    metrics.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_session_shows_with_its_media_and_where_it_goes_and_then_no_more() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}-key"));
    let server = BridgeServer::start(&[("session", &session)]);
    let publisher = Publisher::start(&server.whip("red"));
    nginx.wait_recorded("red-key", SOON, |flv| flv.has_seconds(2, 2));
    let red = "channel=\"red\"";
    let metrics = wait_until("numbers of all kinds", SOON, || {
        let metrics = get(&server, "/metrics");
        let flows = value(&metrics, "webrtcbridge_destination_sent_bytes_total", &[red])? > 10_000.0
            && value(&metrics, "webrtcbridge_track_bitrate_bits_per_second", &[red, "kind=\"video\""])? > 10_000.0
            && value(&metrics, "webrtcbridge_session_round_trip_seconds", &[red])? < 1.0;
        flows.then_some(metrics)
    });
    for (name, labels, least, most) in [
        ("webrtcbridge_sessions", &["state=\"connected\""][..], 1.0, 1.0),
        ("webrtcbridge_live_channels", &[], 1.0, 1.0),
        ("webrtcbridge_track_received_packets_total", &[red, "kind=\"video\"", "codec=\"H264\""], 50.0, 1e6),
        ("webrtcbridge_track_received_packets_total", &[red, "kind=\"audio\"", "codec=\"OPUS\""], 50.0, 1e6),
        ("webrtcbridge_destination_state", &[red, "destination=\"0\"", "state=\"live\""], 1.0, 1.0),
        ("webrtcbridge_destination_lag_seconds", &[red], 0.0, 3.0),
        ("webrtcbridge_session_encoder_info", &[red, "kind=\"video\"", "encoder=\"passthrough\""], 1.0, 1.0),
        ("webrtcbridge_udp_received_datagrams_total", &[], 100.0, 1e9),
        ("process_cpu_seconds_total", &[], 0.01, 1e6),
    ] {
        let value = value(&metrics, name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in\n{metrics}"));
        assert!((least..=most).contains(&value), "{name} {labels:?}: {value}");
    }
    assert!(!metrics.contains("red-key"), "a stream key:\n{metrics}");
    let status: Value = serde_json::from_str(&get(&server, "/api/v1/status")).expect("JSON");
    assert_eq!(status["sessions"][0]["channel"], "red");
    assert_eq!(status["sessions"][0]["destinations"][0]["state"], "live");
    assert!(!status.to_string().contains("red-key"), "a stream key: {status}");
    publisher.delete();
    server.wait_state("red", "ended");
    wait_until("an end to its series", SOON, || (!get(&server, "/metrics").contains(red)).then_some(()));
    let ended = value(&get(&server, "/metrics"), "webrtcbridge_sessions_ended_total", &["reason=\"ended\""]);
    assert_eq!(ended, Some(1.0));
}

#[test]
fn whoever_looks_while_sessions_come_and_go_disturbs_nobody() {
    let server = BridgeServer::start(&[(
        "session",
        "webrtcingest name=in ! fakesink sync=false async=false in. ! fakesink sync=false async=false",
    )]);
    let audio = || Options { video: None, ..Options::default() };
    let steady = Publisher::start_with(&server.whip("steady"), audio());
    let (over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let url = server.url();
    let lookers: Vec<_> = ["/metrics", "/api/v1/status", "/api/v1/channels"]
        .map(|path| {
            let (url, over, looks) = (format!("{url}{path}"), over.clone(), looks.clone());
            std::thread::spawn(move || {
                let mut slowest = Duration::ZERO;
                while !over.load(SeqCst) {
                    let start = Instant::now();
                    let answer = http().get(&url).call().expect("an answer");
                    slowest = slowest.max(start.elapsed());
                    match answer.status().as_u16() {
                        200 => looks.fetch_add(1, SeqCst),
                        // So many looks are too many.
                        429 => continue,
                        other => panic!("{url}: {other}"),
                    };
                }
                slowest
            })
        })
        .into();
    for round in 0..12 {
        let publisher = Publisher::start_with(&server.whip(&format!("round-{round}")), audio());
        if round % 2 == 0 { publisher.delete() } else { publisher.vanish() }
    }
    over.store(true, SeqCst);
    let slowest: Vec<_> = lookers.into_iter().map(|looker| looker.join().expect("a looker")).collect();
    assert!(looks.load(SeqCst) > 30, "{looks:?} looks");
    assert!(slowest.iter().all(|slowest| *slowest < Duration::from_secs(5)), "{slowest:?}");
    steady.assert_unharmed();
}

/// Looks at the count of sessions that ended while it is told that another has failed.
#[derive(Default)]
struct Looking {
    url: OnceLock<String>,
    seen: Mutex<Vec<Option<f64>>>,
}

impl Observer for Looking {
    fn session(&self, change: &SessionChange) {
        if change.state == SessionState::Failed {
            let mut answer =
                http().get(format!("{}/metrics", self.url.get().expect("a URL"))).call().expect("an answer");
            let metrics = answer.body_mut().read_to_string().expect("text");
            let ended = value(&metrics, "webrtcbridge_sessions_ended_total", &["reason=\"ended\""]);
            self.seen.lock().expect("unharmed").push(ended);
        }
    }
}

#[test]
fn sessions_that_ended_are_never_fewer_and_a_server_may_be_given_all_the_time_there_is() {
    crate::common::server::register();
    let looking = Arc::new(Looking::default());
    let server = WebRtcServer::new(ServerConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        connect_timeout: Duration::from_secs(3),
        observer: looking.clone(),
        ..ServerConfig::default()
    });
    let server = server.expect("a server");
    let handle = server.handle();
    looking.url.set(handle.url().to_owned()).expect("once");
    let serving = thread::spawn(move || tokio::runtime::Runtime::new().expect("a runtime").block_on(server.serve()));
    let url = |channel: &str| format!("{}/whip/{channel}", handle.url());
    let audio = Options { video: None, ..Options::default() };
    let good = wait_until("an answer", SOON, || Publisher::offer(&url("good"), audio.clone()).ok());
    good.wait_connected(SOON);
    good.delete();
    wait_until("its end", SOON, || (handle.totals().ended == 1).then_some(()));
    half_open::post(&url("nobody"), &[]);
    let seen = || looking.seen.lock().expect("unharmed").clone();
    wait_until("a failure to be told", SOON, || (!seen().is_empty()).then_some(()));
    assert_eq!(seen(), [Some(1.0)]);
    assert_eq!((handle.totals().started, handle.totals().ended), (2, 1));
    handle.shutdown(Duration::MAX);
    serving.join().expect("no panic").expect("it has served");
}
