//! What happens to the machine or to one session is not seen by another session: its recording has every picture that was sent,
//! bit for bit. And metrics and log say what happened.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::sleep,
    time::Duration,
};

use crate::common::{
    SOON,
    flv::FlvFile,
    half_open, http,
    lossy::LossyPath,
    peer::{Peer, Script},
    publisher::{Options, Publisher},
    stand::{Show, Stand, value},
    wait_until,
};

/// An HTTP connection that is kept, as Prometheus keeps its own.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    /// The status and the body.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let port = self.0.get_ref().peer_addr().expect("an address").port();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("a request");
        let (mut status, mut length, mut line) = (0, 0, String::new());
        while self.0.read_line(&mut line).expect("an answer") > 2 {
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            }
            if let Some(("content-length", rest)) = line.to_lowercase().trim().split_once(": ") {
                length = rest.parse().expect("a length");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn metric(&mut self, name: &str, labels: &[&str]) -> f64 {
        value(&self.ask("GET", "/metrics", "").1, name, labels).unwrap_or(0.0)
    }
}

/// Sets how many files a process may have open.
fn limit_files(pid: u32, limit: u64) {
    let done = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={limit}:")]).status();
    assert!(done.expect("prlimit").success());
}

/// The lowest number that no open file has: the next file's.
fn next_file(pid: u32) -> u64 {
    let open: Vec<u64> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("files")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    (0..).find(|number| !open.contains(number)).expect("a number")
}

#[test]
fn out_of_files_nobody_new_comes_and_who_is_there_goes_on() {
    let mut stand = Stand::start(&[("GST_DEBUG", "webrtcbridge:4,rtmpbridgesink:4")]);
    let show = Show::start(&stand.whip("steady"), &stand.nginx, "steady");
    stand.wait_destination("steady", 1, "live");
    let mut kept = Kept::open(stand.port);
    let pid = stand.launch.pid();
    stand.troubled.stop();
    let failed_by = ["channel=\"steady\"", "destination=\"1\"", "reason=\"no_files\""];
    wait_until("a destination that has no file for its connection", SOON, || {
        // While it tries, one is open: the next one would have its number.
        limit_files(pid, next_file(pid));
        (kept.metric("webrtcbridge_destination_failures_total", &failed_by) > 0.0).then_some(())
    });
    // What began the outage is a warning, each change a line.
    stand.launch.wait_for_line("a session has a warning", SOON);
    stand.launch.wait_for_line("is retrying: this process has as many files open as it may", SOON);
    let waiting: Vec<Kept> = (0..3).map(|_| Kept::open(stand.port)).collect();
    wait_until("connections that cannot be taken", SOON, || {
        (kept.metric("webrtcbridge_accept_failures_total", &[]) > 0.0).then_some(())
    });
    stand.launch.wait_for_line("no connection can be taken until others end", SOON);
    // Who has a connection already cannot begin a session, and harms nobody by trying.
    for number in 0..3 {
        let (status, body) = kept.ask("POST", &format!("/whip/new{number}"), &half_open::offer(&[]));
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("as many files open as it may"), "{body}");
    }
    show.goes_on(&stand.nginx);
    assert!(stand.launch.is_running(), "{}", stand.launch.output());

    limit_files(pid, 4096);
    stand.troubled.restart();
    stand.launch.wait_for_line("connections are taken again", SOON);
    stand.wait_destination("steady", 1, "live");
    let late = Show::start(&stand.whip("late"), &stand.nginx, "late");
    late.goes_on(&stand.nginx);
    late.assert_perfect(&stand);
    show.assert_perfect(&stand);
    drop(waiting);
    late.end();
    show.end();
    stand.launch.end_cleanly();
}

#[test]
fn a_write_to_a_connection_that_was_reset_is_not_the_end_of_the_process() {
    let mut stand = Stand::start(&[]);
    let show = Show::start(&stand.whip("steady"), &stand.nginx, "steady");
    // What the kernel does then, and what ends a program that has not said otherwise.
    let sent = Command::new("kill").args(["-PIPE", &stand.launch.pid().to_string()]).status();
    assert!(sent.expect("kill").success());
    show.goes_on(&stand.nginx);
    assert!(stand.launch.is_running(), "{}", stand.launch.output());
    show.assert_perfect(&stand);
    show.end();
    stand.launch.end_cleanly();
}

#[test]
fn interrupted_under_load_every_stream_has_its_goodbye() {
    let mut stand = Stand::start(&[]);
    // Of each channel the second server is dead: EOS must not wait for it.
    stand.troubled.stop();
    let names = ["red", "green", "blue", "white", "black", "brown"];
    let peers: Vec<Peer> = names.iter().map(|name| Peer::start(&stand.whip(name), Script::default())).collect();
    for name in names {
        stand.nginx.wait_recorded(name, SOON, |flv| flv.has_seconds(1, 1));
    }
    let over = AtomicBool::new(false);
    let (url, launch) = (stand.url(), stand.launch);
    std::thread::scope(|scope| {
        for stranger in 0..3 {
            let (over, url) = (&over, &url);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    // Refused, cut off or not taken at all, as it happens.
                    let request = http().post(format!("{url}/whip/stranger{stranger}")).content_type("application/sdp");
                    let _ = request.send(half_open::offer(&[]));
                }
            });
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| launch.end_cleanly()));
        over.store(true, SeqCst);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    wait_until("goodbyes", SOON, || {
        let log = stand.nginx.log();
        let goodbyes = log.lines().filter(|line| line.contains("FCUnpublish")).count();
        (goodbyes >= names.len()).then_some(())
    });
    for (name, peer) in names.iter().zip(&peers) {
        let recordings = stand.nginx.recordings(name);
        assert_eq!(recordings.len(), 1, "{name}");
        let arrived: Vec<u64> = FlvFile::read(&recordings[0]).pictures().map(|tag| tag.slices()).collect();
        let sent = peer.sent("");
        let first = sent.iter().position(|sent| *sent == arrived[0]).expect("a picture that was sent");
        assert_eq!(arrived, sent[first..first + arrived.len()], "{name}: all to the last, bit for bit");
    }
}

/// A network that can be switched off.
fn path() -> (LossyPath, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(false));
    let loses = down.clone();
    (LossyPath::new(move |_, _| loses.load(SeqCst)), down)
}

/// The state of a channel's session, and its id.
fn session(stand: &Stand, channel: &str) -> Option<(String, String)> {
    let status = stand.status();
    let session = status["sessions"].as_array()?.iter().find(|session| session["channel"] == channel)?.clone();
    Some((session["state"].as_str()?.to_owned(), session["id"].as_str()?.to_owned()))
}

#[test]
fn publisher_whose_network_was_gone_for_3_s_goes_on_from_another_port_and_after_10_s_publishes_anew() {
    let stand = Stand::start(&[("GST_DEBUG", "webrtcbridge:4")]);
    let show = Show::start(&stand.whip("steady"), &stand.nginx, "steady");
    let (path, down) = path();
    let options = Options { path: Some(path.clone()), candidates: false, ..Options::default() };
    let wanderer = Publisher::start_with(&stand.whip("wanderer"), options);
    let sent = || stand.destination("wanderer", 0).and_then(|destination| destination["frames"].as_u64());
    wait_until("frames", SOON, || (sent()? > 30).then_some(()));
    let (_, id) = session(&stand, "wanderer").expect("a session");

    down.store(true, SeqCst);
    sleep(Duration::from_secs(3)); // time is what is tested
    path.rebind();
    down.store(false, SeqCst);
    let before = sent().unwrap_or(0);
    wait_until("frames from another port", SOON, || (sent()? > before + 60).then_some(()));
    assert_eq!(session(&stand, "wanderer"), Some(("connected".to_owned(), id.clone())), "the same session");
    assert!(value(&stand.metrics(), "webrtcbridge_udp_rebinds_total", &[]) >= Some(1.0), "{}", stand.metrics());

    down.store(true, SeqCst);
    stand.launch.wait_for_line("the connection was lost", SOON);
    path.rebind();
    down.store(false, SeqCst);
    let again = Publisher::start(&stand.whip("wanderer"));
    stand.nginx.wait_recorded("wanderer", SOON, |flv| flv.has_seconds(1, 1));
    assert_ne!(session(&stand, "wanderer").map(|(_, id)| id), Some(id), "another session");
    show.goes_on(&stand.nginx);
    show.assert_perfect(&stand);
    again.delete();
    drop(wanderer);
    path.stop();
    show.end();
    stand.launch.end_cleanly();
}

/// libfaketime's, which tells the process another time of day; time that only passes is left alone, as it is when somebody
/// sets a clock.
fn faketime() -> String {
    let files = Command::new("dpkg").args(["-L", "libfaketime"]).output().expect("dpkg");
    let files = String::from_utf8_lossy(&files.stdout).into_owned();
    files.lines().find(|file| file.ends_with("libfaketimeMT.so.1")).expect("libfaketime (package faketime)").to_owned()
}

#[test]
fn clock_that_is_set_an_hour_ahead_and_two_hours_back_moves_no_stream() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = dir.path().join("clock");
    // Replaced at once: it is read at any time.
    let set = |offset: &str| {
        let next = dir.path().join("next");
        std::fs::write(&next, offset).expect("a file");
        std::fs::rename(&next, &clock).expect("a file");
    };
    set("+0");
    let stand = Stand::start(&[
        ("LD_PRELOAD", &faketime()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a path")),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    let show = Show::start(&stand.whip("steady"), &stand.nginx, "steady");
    let at = || stand.status()["at"].as_f64().expect("a time");
    let start = at();
    for (offset, seconds) in [("+3600s", 3600.0), ("-7200s", -7200.0)] {
        set(offset);
        wait_until("the clock to be another", SOON, || ((at() - start - seconds).abs() < 120.0).then_some(()));
        show.goes_on(&stand.nginx);
        // Who comes now is as welcome as before.
        let peer = Peer::start(&stand.whip("newcomer"), Script::default());
        stand.nginx.wait_recorded("newcomer", SOON, |flv| flv.has_seconds(1, 1));
        peer.delete();
        wait_until("its end", SOON, || session(&stand, "newcomer").is_none().then_some(()));
    }
    show.assert_perfect(&stand);
    let reconnects = stand.destination("steady", 0).map(|destination| destination["reconnects"].clone());
    assert_eq!(reconnects, Some(0.into()));
    show.end();
    stand.launch.end_cleanly();
}
