//! What the tests of rtmpbridgesink share: an RTMP server that records, pipelines, and a look at recordings.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use gst::prelude::*;

/// Longer than anything takes on a loaded machine; tests end as soon as their condition holds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The stream key of all tests: it must never be seen.
pub(crate) const KEY: &str = "s3cr3t-k3y";

/// nginx with its RTMP module on a free port, recording everything.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    runs: u32,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut server = Self::stopped();
        server.restart();
        server
    }

    /// One that does not run yet.
    pub(crate) fn stopped() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, port, child: None, runs: 0 }
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        // A directory a run: nginx names recordings by the second.
        self.runs += 1;
        let recordings = self.dir.path().join(format!("{:03}", self.runs));
        std::fs::create_dir(&recordings).unwrap();
        let (at, port, recordings) = (self.dir.path().display(), self.port, recordings.display());
        let module = Path::new("/usr/lib/nginx/modules/ngx_rtmp_module.so");
        let load = if module.exists() { format!("load_module {};", module.display()) } else { String::new() };
        let config = format!(
            "{load} daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 64; }}
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{
                 live on; record all; record_path {recordings}; record_unique on; }} }} }}"
        );
        std::fs::write(self.dir.path().join("nginx.conf"), config).unwrap();
        let dir = self.dir.path();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stderr(Stdio::null()) // it warns of its own default log
            .spawn()
            .expect("nginx with its RTMP module is needed: Debian package libnginx-mod-rtmp");
        self.child = Some(child);
        wait_for("nginx to listen", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Kills it without a goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it from doing anything, with its connections open, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/{KEY}", self.port)
    }

    /// The recordings, oldest first.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        let runs = (1..=self.runs).map(|run| self.dir.path().join(format!("{run:03}")));
        let mut files: Vec<_> =
            runs.flat_map(|run| std::fs::read_dir(run).unwrap()).map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|file| {
            let created = std::fs::metadata(file).and_then(|meta| meta.created()).unwrap();
            (file.parent().map(Path::to_owned), created)
        });
        files
    }

    /// The newest recording.
    pub(crate) fn recording(&self) -> PathBuf {
        self.recordings().pop().expect("the server has recorded something")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running pipeline around an rtmpbridgesink called `sink`.
pub(crate) struct Pipeline {
    pub(crate) pipeline: gst::Pipeline,
    /// Everything that was on the bus so far, as text.
    pub(crate) seen: Vec<String>,
}

impl Pipeline {
    /// Parses it and sets it to PLAYING.
    pub(crate) fn start(description: &str) -> Self {
        let pipeline = Self::parse(description);
        pipeline.pipeline.set_state(gst::State::Playing).unwrap();
        pipeline
    }

    /// Parses it.
    pub(crate) fn parse(description: &str) -> Self {
        gst::init().unwrap();
        gstwebrtcbridge::plugin_register_static().unwrap();
        // A lone element would not come in a pipeline.
        let pipeline = gst::parse::launch(description).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap_or_else(|element| {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&element).unwrap();
            pipeline
        });
        Self { pipeline, seen: Vec::new() }
    }

    pub(crate) fn sink(&self) -> gst::Element {
        self.pipeline.by_name("sink").unwrap()
    }

    /// Waits for the first message that `matches`; fails on an error that it does not match.
    pub(crate) fn wait(&mut self, what: &str, mut matches: impl FnMut(&gst::Message) -> bool) -> gst::Message {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.pipeline.bus().unwrap().timed_pop(gst::ClockTime::try_from(left).unwrap());
            let message = message.unwrap_or_else(|| panic!("waited too long for {what}; seen: {:#?}", self.seen));
            let found = matches(&message);
            if !matches!(message.type_(), gst::MessageType::StateChanged | gst::MessageType::Tag) {
                self.seen.push(describe(&message));
            }
            if found {
                return message;
            }
            if let gst::MessageView::Error(error) = message.view() {
                panic!("error while waiting for {what}: {error:?}");
            }
        }
    }

    /// Waits until the destination is in a state; returns the reason.
    pub(crate) fn wait_for_state(&mut self, state: &str) -> String {
        let message = self.wait(&format!("the destination to be {state}"), |message| {
            let structure = message.structure().filter(|structure| structure.name() == "rtmpbridge-destination");
            structure.is_some_and(|structure| structure.get::<&str>("state") == Ok(state))
        });
        message.structure().unwrap().get("reason").unwrap()
    }

    pub(crate) fn wait_for_eos(&mut self) {
        self.wait("EOS", |message| message.type_() == gst::MessageType::Eos);
    }

    pub(crate) fn wait_for_error(&mut self) -> String {
        let message = self.wait("an error", |message| message.type_() == gst::MessageType::Error);
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        error.error().message().to_owned()
    }

    /// The one destination's stats.
    pub(crate) fn destination(&self) -> gst::Structure {
        let stats = self.sink().property::<gst::Structure>("stats");
        let destinations = stats.get::<gst::Array>("destinations").unwrap();
        destinations.first().unwrap().get().unwrap()
    }

    pub(crate) fn frames(&self) -> u64 {
        self.destination().get("frames").unwrap()
    }
}

/// A message with the words of an error or warning, which its own form leaves out.
pub(crate) fn describe(message: &gst::Message) -> String {
    let words = match message.view() {
        gst::MessageView::Error(error) => error.error().message().to_owned(),
        gst::MessageView::Warning(warning) => warning.error().message().to_owned(),
        _ => String::new(),
    };
    format!("{message:?} {words}")
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// One tag of a recording.
pub(crate) struct Tag {
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) body: Vec<u8>,
}

impl Tag {
    pub(crate) fn is_video_header(&self) -> bool {
        self.kind == 9 && self.body[1] == 0
    }
    pub(crate) fn is_audio_header(&self) -> bool {
        self.kind == 8 && self.body[1] == 0
    }
    pub(crate) fn is_video(&self) -> bool {
        self.kind == 9 && self.body[1] == 1
    }
    pub(crate) fn is_audio(&self) -> bool {
        self.kind == 8 && self.body[1] == 1
    }
    pub(crate) fn is_keyframe(&self) -> bool {
        self.is_video() && self.body[0] >> 4 == 1
    }
}

/// Reads a recording as far as it is complete.
pub(crate) fn read_flv(file: &Path) -> Vec<Tag> {
    read_tags(&std::fs::read(file).unwrap())
}

/// Reads an FLV stream as far as it is complete.
pub(crate) fn read_tags(bytes: &[u8]) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 13;
    while at + 11 <= bytes.len() {
        let size = u32::from_be_bytes([0, bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        let timestamp = u32::from_be_bytes([bytes[at + 7], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
        let Some(body) = bytes.get(at + 11..at + 11 + size) else { break };
        tags.push(Tag { kind: bytes[at], timestamp, body: body.to_vec() });
        at += 11 + size + 4;
    }
    tags
}

/// Asserts what every recording has to be: headers first, a keyframe first, timestamps from 0 that rise, both tracks
/// from the start, and nothing that a decoder complains of.
pub(crate) fn check_recording(file: &Path) {
    let tags = read_flv(file);
    let position =
        |is: fn(&Tag) -> bool| tags.iter().position(is).unwrap_or_else(|| panic!("{file:?} lacks a kind of tag"));
    assert!(position(Tag::is_video_header) < position(Tag::is_video), "the first access unit has its header before it");
    assert!(position(Tag::is_audio_header) < position(Tag::is_audio), "the first audio frame has its header before it");
    assert_eq!(position(Tag::is_video), position(Tag::is_keyframe), "the first access unit is a keyframe");
    for is in [Tag::is_video as fn(&Tag) -> bool, Tag::is_audio] {
        let times: Vec<_> = tags.iter().filter(|tag| is(tag)).map(|tag| tag.timestamp).collect();
        assert!(times.is_sorted(), "timestamps rise: {times:?}");
        assert!(times[0] <= 100, "the track starts within 100 ms of the stream: {}", times[0]);
    }
    let streams =
        run("ffprobe", &["-v", "error", "-show_entries", "stream=codec_name,profile", "-of", "csv=p=0"], file, &[]);
    assert!(streams.0.contains("h264") && streams.0.contains("aac,LC"), "{streams:?}");
    let complaints = run("ffmpeg", &["-v", "error", "-xerror", "-i"], file, &["-f", "null", "-"]).1;
    assert_eq!(complaints, "", "a decoder takes it all");
}

fn run(program: &str, before: &[&str], file: &Path, after: &[&str]) -> (String, String) {
    let output = Command::new(program).args(before).arg(file).args(after).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}
