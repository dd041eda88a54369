//! Input that is missing or stops: what stands in for it, and how the show goes back to live.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use crate::rtmp_support::{Pipeline, Server, Tag, check_recording, read_flv, wait_for};
use gst::prelude::*;

fn video(encoder: &str) -> String {
    format!(
        "videotestsrc is-live=true pattern=white ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! {encoder} \
         ! valve name=video drop-mode=forward-sticky-events ! sink.video"
    )
}

const H264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000";
const OPUS: &str = "audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc \
    ! valve name=audio drop-mode=forward-sticky-events ! sink.audio";

fn sink(server: &Server, more: &str) -> String {
    format!("rtmpbridgesink name=sink location={} {more}", server.url())
}

fn stats(pipeline: &Pipeline) -> gst::Structure {
    pipeline.sink().property("stats")
}

fn wait_for_standing_in(pipeline: &Pipeline, what: &str) {
    wait_for(&format!("standing-in={what}"), || stats(pipeline).get::<&str>("standing-in") == Ok(what));
}

fn close(pipeline: &Pipeline, closed: bool) {
    for valve in ["video", "audio"] {
        if let Some(valve) = pipeline.pipeline.by_name(valve) {
            valve.set_property("drop", closed);
        }
    }
}

fn end(pipeline: &mut Pipeline) {
    pipeline.pipeline.send_event(gst::event::Eos::new());
    pipeline.wait_for_eos();
}

fn times(server: &Server, is: fn(&Tag) -> bool) -> Vec<u32> {
    read_flv(&server.recording()).iter().filter(|tag| is(tag)).map(|tag| tag.timestamp).collect()
}

fn widest(times: &[u32]) -> u32 {
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

/// The mean of each plane of the picture at a second of the recording.
fn colour(server: &Server, at: &str) -> Vec<u32> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-ss", at, "-i"])
        .arg(server.recording())
        .args(["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "yuv444p", "-"])
        .output()
        .unwrap();
    let plane = output.stdout.len() / 3;
    assert!(plane > 0, "a picture at {at} s: {}", String::from_utf8_lossy(&output.stderr));
    let mean = |plane: &[u8]| plane.iter().map(|byte| u32::from(*byte)).sum::<u32>() / plane.len() as u32;
    output.stdout.chunks(plane).map(mean).collect()
}

/// A stop of three seconds; returns what the show looked like in it.
fn stop_for_three_seconds(encoder: &str, more: &str) -> Vec<u32> {
    let server = Server::start();
    let mut pipeline =
        Pipeline::start(&format!("{} {OPUS} {}", video(encoder), sink(&server, &format!("gap-grace=60000 {more}"))));
    wait_for("the show", || pipeline.frames() > 100);
    let before = stats(&pipeline).get::<u64>("video-stood-in").unwrap();
    assert_eq!(before, 0);
    close(&pipeline, true);
    wait_for_standing_in(&pipeline, "both");
    wait_for("three seconds of it", || stats(&pipeline).get::<u64>("video-stood-in").unwrap() >= 15);
    let last_still = stats(&pipeline).get::<u64>("video-stood-in").unwrap();
    close(&pipeline, false);
    wait_for_standing_in(&pipeline, "none");
    let frames = pipeline.frames();
    wait_for("the show to go on", || pipeline.frames() > frames + 60);
    end(&mut pipeline);
    check_recording(&server.recording());
    let (pictures, sound) = (times(&server, Tag::is_video), times(&server, Tag::is_audio));
    assert!(widest(&pictures) < 400, "pictures at {pictures:?}");
    assert!(widest(&sound) < 130, "sound at {sound:?}");
    assert!(last_still < 40, "a still needs no more than five pictures a second: {last_still}");
    // Each change of stream has its header, and a keyframe behind it.
    let tags = read_flv(&server.recording());
    let headers: Vec<_> = (0..tags.len()).filter(|at| tags[*at].is_video_header()).collect();
    assert_eq!(headers.len(), 3);
    for at in &headers {
        assert!(tags[*at..].iter().find(|tag| tag.is_video()).unwrap().is_keyframe());
    }
    let still = tags[headers[1]].timestamp + 1000;
    colour(&server, &format!("{}.{:03}", still / 1000, still % 1000))
}

#[test]
fn last_picture_and_silence_bridge_a_stop_of_passed_through_video() {
    let colour = stop_for_three_seconds(H264, "");
    assert!(colour[0] > 220, "the picture was white: {colour:?}");
}

#[test]
fn last_picture_and_silence_bridge_a_stop_of_encoded_video() {
    let colour = stop_for_three_seconds("vp8enc deadline=1 keyframe-max-dist=1000", "");
    assert!(colour[0] > 220, "the picture was white: {colour:?}");
}

/// A picture file of one colour.
fn slate(dir: &std::path::Path, name: &str, encoder: &str, pattern: &str) -> String {
    let file = dir.join(name).display().to_string();
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc num-buffers=1 pattern={pattern} ! video/x-raw,width=400,height=225 ! videoconvert ! {encoder} \
         ! filesink location={file}"
    ));
    pipeline.wait_for_eos();
    file
}

#[test]
fn slate_is_shown_while_input_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = slate(dir.path(), "slate.png", "pngenc", "red");
    let colour = stop_for_three_seconds(H264, &format!("slate-file={file}"));
    assert!(colour[0] < 120 && colour[2] > 200, "it is red: {colour:?}");
}

#[test]
fn server_that_comes_back_while_input_is_away_gets_the_still_from_a_keyframe() {
    let mut server = Server::start();
    let more = "gap-grace=60000 reconnect-min=50 reconnect-max=200";
    let mut pipeline = Pipeline::start(&format!("{} {OPUS} {}", video(H264), sink(&server, more)));
    wait_for("the show", || pipeline.frames() > 60);
    close(&pipeline, true);
    wait_for_standing_in(&pipeline, "both");
    server.kill();
    pipeline.wait_for_state("retrying");
    server.restart();
    pipeline.wait_for_state("live");
    let frames = pipeline.frames();
    wait_for("a second", || pipeline.frames() > frames + 50);
    close(&pipeline, false);
    wait_for_standing_in(&pipeline, "none");
    let frames = pipeline.frames();
    wait_for("the show to go on", || pipeline.frames() > frames + 60);
    end(&mut pipeline);
    assert_eq!(server.recordings().len(), 2);
    check_recording(&server.recording());
}

#[test]
fn show_ends_with_its_grace_and_begins_again_at_a_keyframe() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!("{} {OPUS} {}", video(H264), sink(&server, "gap-grace=2000")));
    wait_for("the show", || pipeline.frames() > 60);
    close(&pipeline, true);
    wait_for_standing_in(&pipeline, "both");
    wait_for_standing_in(&pipeline, "none");
    let frames = pipeline.frames();
    close(&pipeline, false);
    wait_for("the show to go on", || pipeline.frames() > frames + 60);
    end(&mut pipeline);
    check_recording(&server.recording());
    let tags = read_flv(&server.recording());
    let last = tags.iter().rposition(Tag::is_video_header).unwrap();
    assert!(tags[last..].iter().find(|tag| tag.is_video()).unwrap().is_keyframe());
}

#[test]
fn missing_picture_is_made_up_and_the_real_one_takes_over() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!(
        "{} {OPUS} {}",
        video(H264).replace("valve name=video", "valve name=video drop=true"),
        sink(&server, "missing-track=synthesise")
    ));
    wait_for_standing_in(&pipeline, "video");
    wait_for("a few pictures", || stats(&pipeline).get::<u64>("video-stood-in").unwrap() >= 15);
    close(&pipeline, false);
    wait_for_standing_in(&pipeline, "none");
    let frames = pipeline.frames();
    wait_for("the real one", || pipeline.frames() > frames + 60);
    end(&mut pipeline);
    check_recording(&server.recording());
    let pictures = times(&server, Tag::is_video);
    assert_eq!(pictures[0], 0, "the stream begins with the picture");
    assert!(widest(&pictures) < 400, "{pictures:?}");
    assert!(colour(&server, "1")[0] < 30, "black");
    let headers = read_flv(&server.recording()).iter().filter(|tag| tag.is_video_header()).count();
    assert_eq!(headers, 2);
}

#[test]
fn audio_alone_gets_the_slate_where_there_is_no_video_pad() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let file = slate(dir.path(), "slate.jpg", "jpegenc", "blue");
    let mut pipeline =
        Pipeline::start(&format!("{OPUS} {}", sink(&server, &format!("missing-track=synthesise slate-file={file}"))));
    wait_for("pictures", || stats(&pipeline).get::<u64>("video-stood-in").unwrap() >= 15);
    end(&mut pipeline);
    check_recording(&server.recording());
    let colour = colour(&server, "1");
    assert!(colour[0] < 80 && colour[1] > 200, "it is blue: {colour:?}");
}

#[test]
fn missing_sound_is_silence() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!("{} {}", video(H264), sink(&server, "missing-track=synthesise")));
    wait_for("silence", || stats(&pipeline).get::<u64>("audio-stood-in").unwrap() >= 80);
    end(&mut pipeline);
    let sound = times(&server, Tag::is_audio);
    assert!(sound.len() >= 80 && widest(&sound) <= 22, "{sound:?}");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(server.recording())
        .args(["-vn", "-f", "s16le", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "a decoder takes it all");
    assert!(output.stdout.len() > 48_000 && output.stdout.iter().all(|byte| *byte == 0), "it is silent");
}

#[test]
fn one_track_alone_stays_alone_by_default() {
    for (source, is) in [(video(H264), Tag::is_audio as fn(&Tag) -> bool), (OPUS.to_owned(), Tag::is_video)] {
        let server = Server::start();
        let mut pipeline = Pipeline::start(&format!("{source} {}", sink(&server, "")));
        wait_for("three seconds", || pipeline.frames() > 90);
        end(&mut pipeline);
        assert_eq!(times(&server, is), [0u32; 0]);
    }
}

#[test]
fn slate_that_is_no_picture_is_named_at_the_start() {
    let server = Server::stopped();
    let mut pipeline =
        Pipeline::parse(&format!("{OPUS} {}", sink(&server, "gap-grace=1000 slate-file=/nonexistent.png")));
    assert!(pipeline.pipeline.set_state(gst::State::Playing).is_err());
    let error = pipeline.wait_for_error();
    assert!(error.contains("slate-file=/nonexistent.png"), "{error}");
}
