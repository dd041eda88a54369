//! Two processes meet at a signaling server; one sends a media file, the other sends it back, and the first one compares.

use std::{path::PathBuf, process::Command};

use crate::common::{example::Example, server::BridgeServer};

/// Six seconds of moving pictures, and a tone that rises.
fn clip(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("clip.webm");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=240x180:rate=15"])
        .args(["-f", "lavfi", "-i", "aevalsrc=0.5*sin(2*PI*(200+50*t)*t):s=48000"])
        .args(["-t", "6", "-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"])
        .arg(&path)
        .status()
        .expect("ffmpeg");
    assert!(status.success(), "{status}");
    path
}

/// What the offerer says in the end, and whether it was content.
fn sent_back(pipeline: &[&str]) -> (String, bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let clip = clip(&folder);
    let signaling = BridgeServer::start(&[]);
    let url = format!("{}/ws?channel=blue", signaling.url().replace("http://", "ws://"));
    let mut offerer = Example::start("offerer", &["--file", clip.to_str().expect("UTF-8"), &url]);
    offerer.wait_for("waiting");
    let answerer = Example::start("answerer", &[&[url.as_str()], pipeline].concat());
    offerer.wait_for("connected");
    let (lines, status) = offerer.finish();
    let (last, answerer_ended) = answerer.finish();
    assert!(answerer_ended.success() && last.last().is_some_and(|line| line == "ended"), "{last:?}, {answerer_ended}");
    (lines.join("\n"), status.success())
}

#[test]
fn a_file_comes_back_as_it_was_sent() {
    let (said, was_true) = sent_back(&[]);
    assert!(was_true && said.contains("the echo is true"), "{said}");
}

#[test]
fn pictures_that_were_turned_round_are_not_taken_for_what_was_sent() {
    let turned = "webrtcingest name=in webrtcegress name=out in.audio_0 ! out.audio_0 \
         in.video_0 ! decodebin ! videoconvert ! videoflip video-direction=180 ! out.video_0";
    let (said, was_true) = sent_back(&["--pipeline", turned]);
    assert!(!was_true && said.contains("the echo is not what was sent"), "{said}");
}

#[test]
fn sound_at_another_pitch_is_not_taken_for_what_was_sent() {
    let higher = "webrtcingest name=in webrtcegress name=out in.video_0 ! out.video_0 \
         in.audio_0 ! opusdec ! audioconvert ! audioresample ! pitch pitch=1.3 ! audioconvert ! out.audio_0";
    let (said, was_true) = sent_back(&["--pipeline", higher]);
    assert!(!was_true && said.contains("the echo is not what was sent"), "{said}");
}
