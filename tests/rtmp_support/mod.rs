//! What the tests of rtmpbridgesink share: an RTMP server that records, pipelines, and a look at recordings.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use common::nginx::Nginx;
use gst::prelude::*;

#[path = "../common/mod.rs"]
pub(crate) mod common;

/// Longer than anything takes on a loaded machine; tests end as soon as their condition holds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The stream key of all tests: it must never be seen.
pub(crate) const KEY: &str = "s3cr3t-k3y";

/// nginx with its RTMP module on a free port, recording everything.
pub(crate) struct Server(Nginx);

impl Server {
    pub(crate) fn start() -> Self {
        Self(Nginx::start())
    }

    /// One with more directives for its application.
    pub(crate) fn start_with(directives: &str) -> Self {
        Self(Nginx::start_with(directives))
    }

    /// One that does not run yet.
    pub(crate) fn stopped() -> Self {
        Self(Nginx::stopped())
    }

    pub(crate) fn restart(&mut self) {
        self.0.restart();
    }

    /// Kills it without a goodbye.
    pub(crate) fn kill(&mut self) {
        self.0.stop();
    }

    /// Stops it from doing anything, with its connections open, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.0.freeze(frozen);
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    pub(crate) fn url(&self) -> String {
        self.0.url(KEY)
    }

    /// Whether a publisher said goodbye since it was started last.
    pub(crate) fn saw_goodbye(&self) -> bool {
        self.0.saw_goodbye()
    }

    /// The recordings, oldest first.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        self.0.all_recordings()
    }

    /// The newest recording, once the server has heard the publisher's goodbye and written all.
    pub(crate) fn whole_recording(&self) -> PathBuf {
        wait_for("the server to hear the end", || self.saw_goodbye());
        self.recording()
    }

    /// The newest recording.
    pub(crate) fn recording(&self) -> PathBuf {
        self.recordings().pop().expect("the server has recorded something")
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
        self.destination_at(0).unwrap()
    }

    /// The stats of one of several destinations.
    pub(crate) fn destination_at(&self, index: usize) -> Option<gst::Structure> {
        let stats = self.sink().property::<gst::Structure>("stats");
        let destinations = stats.get::<gst::Array>("destinations").unwrap();
        destinations.get(index).map(|destination| destination.get().unwrap())
    }

    /// Waits until one of several destinations is in a state; leaves the bus alone.
    pub(crate) fn wait_until_is(&self, index: usize, state: &str) {
        wait_for(&format!("destination {index} to be {state}"), || {
            self.destination_at(index).is_some_and(|destination| destination.get::<&str>("state") == Ok(state))
        });
    }

    /// Waits until one of several destinations has got so many more frames.
    pub(crate) fn wait_for_frames(&self, index: usize, more: u64) {
        let frames = || self.destination_at(index).unwrap().get::<u64>("frames").unwrap();
        let before = frames();
        wait_for(&format!("{more} frames more at destination {index}"), || frames() >= before + more);
    }

    /// All messages of a type ("error", "warning") by now.
    pub(crate) fn messages(&mut self, kind: &str) -> Vec<String> {
        while let Some(message) = self.pipeline.bus().unwrap().pop() {
            if !matches!(message.type_(), gst::MessageType::StateChanged | gst::MessageType::Tag) {
                self.seen.push(describe(&message));
            }
        }
        let wanted = format!("type: {kind:?}");
        self.seen.iter().filter(|message| message.contains(&wanted)).cloned().collect()
    }

    pub(crate) fn frames(&self) -> u64 {
        self.destination().get("frames").unwrap()
    }
}

/// A message with the words in it, which its debug form has no more of than an address.
pub(crate) fn describe(message: &gst::Message) -> String {
    let words = match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        gst::MessageView::Warning(warning) => warning.error().to_string(),
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
    let said = run("ffmpeg", &["-v", "repeat+error", "-xerror", "-i"], file, &["-f", "null", "-"]).1;
    // Of a constant frame rate that the null muxer makes up nothing follows: the timestamps themselves are checked above.
    let is_complaint = |line: &&str| !line.is_empty() && !line.contains("non monotonically increasing dts to muxer");
    let complaints: Vec<&str> = said.lines().filter(is_complaint).collect();
    assert!(complaints.is_empty(), "a decoder takes it all: {complaints:?}");
}

/// Asserts that neither track has a hole of more than 100 ms, and that a decoder takes it all.
pub(crate) fn check_without_gap(file: &Path) {
    check_recording(file);
    let tags = read_flv(file);
    for is in [Tag::is_video as fn(&Tag) -> bool, Tag::is_audio] {
        let times: Vec<_> = tags.iter().filter(|tag| is(tag)).map(|tag| tag.timestamp).collect();
        let gap = times.windows(2).find(|pair| pair[1] - pair[0] > 100);
        assert_eq!(gap, None, "{file:?} has a gap in one of its tracks");
    }
}

/// Asserts that what comes after a gap in the pictures is a keyframe; returns how many gaps there are.
pub(crate) fn check_gaps_end_at_keyframes(file: &Path) -> usize {
    let tags = read_flv(file);
    let pictures: Vec<_> = tags.iter().filter(|tag| tag.is_video()).collect();
    let gaps: Vec<_> = pictures.windows(2).filter(|pair| pair[1].timestamp - pair[0].timestamp > 100).collect();
    for gap in &gaps {
        assert!(gap[1].is_keyframe(), "no keyframe at {} after {}", gap[1].timestamp, gap[0].timestamp);
    }
    gaps.len()
}

fn run(program: &str, before: &[&str], file: &Path, after: &[&str]) -> (String, String) {
    let output = Command::new(program).args(before).arg(file).args(after).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Width and height of each picture of a recording, equal ones in a row counted once.
pub(crate) fn sizes(file: &Path) -> Vec<(u32, u32)> {
    let before = ["-v", "error", "-select_streams", "v", "-show_entries", "frame=width,height", "-of", "csv=p=0"];
    let text = run("ffprobe", &before, file, &[]).0;
    let number = |text: &str| text.trim().parse().unwrap();
    let mut sizes: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim_end_matches(',').split_once(','))
        .map(|(width, height)| (number(width), number(height)))
        .collect();
    sizes.dedup();
    sizes
}

/// The pictures of a recording of one size as brightness, 16 to 235, row by row.
pub(crate) fn pictures(file: &Path) -> Vec<Vec<u8>> {
    let &[(width, height)] = sizes(file).as_slice() else { panic!("one size: {:?}", sizes(file)) };
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", "0:v", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    let (luma, all) = ((width * height) as usize, (width * height * 3 / 2) as usize);
    output.stdout.chunks_exact(all).map(|picture| picture[..luma].to_vec()).collect()
}
