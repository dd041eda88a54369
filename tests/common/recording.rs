//! Judges a recording with ffprobe and ffmpeg, as a player would see it.

use std::{path::Path, process::Command};

use serde_json::Value;

/// What ffprobe says about a recording.
pub struct Recording {
    path: std::path::PathBuf,
    streams: Vec<Value>,
    packets: Vec<Value>,
}

impl Recording {
    /// Looks into the file.
    pub fn probe(path: &Path) -> Self {
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-show_streams", "-show_packets", "-of", "json"])
            .arg(path)
            .output()
            .expect("ffprobe");
        assert!(output.status.success(), "ffprobe: {}", String::from_utf8_lossy(&output.stderr));
        let mut json: Value = serde_json::from_slice(&output.stdout).expect("ffprobe's JSON");
        let mut list = |key: &str| json[key].take().as_array().cloned().unwrap_or_default();
        Self { path: path.to_owned(), streams: list("streams"), packets: list("packets") }
    }

    /// H.264 and AAC, and all the rest that makes a stream good.
    pub fn assert_good(&self) {
        assert_eq!(self.codec("video").as_deref(), Some("h264"), "{:?}", self.streams);
        assert_eq!(self.codec("audio").as_deref(), Some("aac"), "{:?}", self.streams);
        self.assert_starts_with_keyframe();
        self.assert_monotonic();
        self.assert_starts_together();
        self.assert_decodes();
    }

    /// The codec of a stream by its type ("video", "audio").
    pub fn codec(&self, kind: &str) -> Option<String> {
        Some(self.stream(kind)?["codec_name"].as_str()?.to_owned())
    }

    /// Width and height of the video.
    pub fn size(&self) -> (u64, u64) {
        let video = self.stream("video").expect("a video stream");
        (video["width"].as_u64().expect("width"), video["height"].as_u64().expect("height"))
    }

    /// The first picture can be decoded by itself.
    pub fn assert_starts_with_keyframe(&self) {
        let first = self.packets("video").next().expect("a picture");
        assert!(
            first["flags"].as_str().is_some_and(|f| f.starts_with('K')),
            "the first picture is no keyframe: {first}"
        );
    }

    /// Time never stands still or goes back within a stream, and has no hole of more than a second.
    pub fn assert_monotonic(&self) {
        for kind in ["video", "audio"] {
            let times: Vec<f64> = self.packets(kind).filter_map(|p| seconds(&p["dts_time"])).collect();
            for pair in times.windows(2) {
                assert!(pair[1] > pair[0], "{kind}: {} after {}", pair[1], pair[0]);
                assert!(pair[1] - pair[0] < 1.0, "{kind}: nothing between {} and {}", pair[0], pair[1]);
            }
        }
    }

    /// Audio and video begin within 200 ms of each other: what is sent first of either may be late by half of that on a machine
    /// that stands still, and until its sender reports when it was nobody knows better.
    pub fn assert_starts_together(&self) {
        let start = |kind: &str| self.packets(kind).find_map(|p| seconds(&p["pts_time"])).expect("a timestamp");
        let (video, audio) = (start("video"), start("audio"));
        assert!((video - audio).abs() <= 0.2, "video starts at {video} s, audio at {audio} s");
    }

    /// ffmpeg decodes all of it without a complaint. Of the null muxer's complaints that its own constant frame rate puts
    /// two pictures at one time nothing follows: the timestamps themselves are checked above.
    pub fn assert_decodes(&self) {
        let output = Command::new("ffmpeg")
            .args(["-v", "repeat+error", "-i"])
            .arg(&self.path)
            .args(["-f", "null", "-"])
            .output()
            .expect("ffmpeg");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<&str> = stderr
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.contains("non monotonically increasing dts to muxer"))
            .collect();
        let is_good = output.status.success() && complaints.is_empty();
        assert!(is_good, "ffmpeg: {complaints:?}; {}", self.kept());
    }

    /// Keeps the file of a test that fails; says where.
    fn kept(&self) -> String {
        let name = format!("{}-{}.flv", std::thread::current().name().unwrap_or("recording"), std::process::id());
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace("::", "-"));
        match std::fs::copy(&self.path, &kept) {
            Ok(_) => format!("it is kept in {}", kept.display()),
            Err(error) => format!("it could not be kept: {error}"),
        }
    }

    fn stream(&self, kind: &str) -> Option<&Value> {
        self.streams.iter().find(|s| s["codec_type"] == kind)
    }

    fn packets<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.packets.iter().filter(move |p| p["codec_type"] == kind)
    }
}

fn seconds(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}
