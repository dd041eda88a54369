//! Every output of a run is searched for the stream key: what gst-launch prints, our log at its highest level, dot files.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::common::{nginx::Nginx, plugin_dir, signal};

/// Of the path, of its query, of the query before it, user and password.
const SECRETS: [&str; 5] = ["k3yOfPath", "t0kenOfQuery", "auth0fApp", "us3rName", "p4ssWord"];
const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! sink.video \
    audiotestsrc is-live=true ! sink.audio";

/// A gst-launch that prints all there is, and where its dot files go.
struct Run {
    child: Child,
    dots: tempfile::TempDir,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Run {
    fn start(sink: &str) -> Self {
        let dots = tempfile::tempdir().expect("folder");
        let mut child = Command::new("gst-launch-1.0")
            .args(["-e", "-v", "-m"])
            .args(LIVE.split_whitespace())
            .args(format!("rtmpbridgesink name=sink {sink}").split_whitespace())
            .env("GST_PLUGIN_PATH", plugin_dir())
            .env("GST_REGISTRY", dots.path().join("registry"))
            // Ours at the level that prints most; everybody else's warnings.
            .env("GST_DEBUG", "*:2,rtmpbridge*:9,webrtc*:9")
            .env("GST_DEBUG_NO_COLOR", "1")
            .env("GST_DEBUG_DUMP_DOT_DIR", dots.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gst-launch-1.0 starts");
        let (send, lines) = mpsc::channel();
        let follow = |output: Box<dyn std::io::Read + Send>| {
            let send = send.clone();
            std::thread::spawn(move || {
                BufReader::new(output).split(b'\n').map_while(Result::ok).for_each(|line| {
                    let _ = send.send(String::from_utf8_lossy(&line).into_owned());
                });
            });
        };
        follow(Box::new(child.stdout.take().expect("stdout")));
        follow(Box::new(child.stderr.take().expect("stderr")));
        Self { child, dots, lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} in\n{}", self.seen.join("\n")));
            self.seen.push(line);
            if self.seen.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    /// Ends it and searches everything.
    fn search(mut self) {
        signal(&self.child, "INT");
        self.child.wait().expect("gst-launch-1.0 ends");
        let rest: Vec<_> = self.lines.iter().collect();
        self.seen.extend(rest);
        let dots = dot_files(self.dots.path());
        assert!(dots.iter().any(|dot| dot.contains("GstRtmpBridgeSink")), "dot files show the element");
        for secret in SECRETS {
            let line = self.seen.iter().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is printed");
            let line = dots.iter().flat_map(|dot| dot.lines()).find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is in a dot file");
        }
    }
}

/// A failed test leaves nothing running: what it started holds whatever the test runner has open.
impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dot_files(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry").path());
    files.filter(|file| file.extension().is_some_and(|end| end == "dot")).map(|file| read(&file)).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("dot file")
}

fn secret_url(nginx: &Nginx) -> String {
    let [key, token, _, user, password] = SECRETS;
    nginx.url(key).replace("rtmp://", &format!("rtmp://{user}:{password}@")) + &format!("?token={token}&s_bl=1")
}

#[test]
fn while_live_and_when_the_server_dies() {
    let mut nginx = Nginx::start();
    let mut run = Run::start(&format!("reconnect-min=50 location={}", secret_url(&nginx)));
    run.wait_for("state=(string)live");
    nginx.stop();
    run.wait_for("state=(string)retrying");
    run.wait_for("state=(string)connecting");
    run.search();
}

#[test]
fn when_nobody_listens_and_with_a_preset() {
    let nginx = Nginx::stopped();
    let mut run = Run::start(&format!("preset=facebook reconnect-min=50 location={}", secret_url(&nginx)));
    run.wait_for("WARNING");
    run.wait_for("state=(string)retrying");
    run.search();
}

#[test]
fn when_the_server_refuses() {
    let nginx = Nginx::start();
    let url = secret_url(&nginx);
    let mut first = Run::start(&format!("location={url}"));
    first.wait_for("state=(string)live");
    let mut second = Run::start(&format!("location={url}"));
    // gst-launch ends at the error.
    second.wait_for("the server refused the stream");
    second.search();
    first.search();
}

#[test]
fn when_the_key_stands_in_the_application_or_the_url_is_wrong() {
    let [key, token, app, ..] = SECRETS;
    let mut run = Run::start(&format!("location=rtmp://127.0.0.1:1/live?auth={app}/{key}?token={token}"));
    run.wait_for("state=(string)retrying");
    run.search();
    for url in [format!("rtmp://127.0.0.1:x/live/{key}"), format!("rtmp:/127.0.0.1/live/{key}"), key.to_owned()] {
        let mut run = Run::start(&format!("location={url}"));
        run.wait_for("ERROR");
        let _ = run.child.wait();
        let rest: Vec<_> = run.lines.iter().collect();
        run.seen.extend(rest);
        assert!(!run.seen.join("\n").contains(key), "{url}");
    }
}
