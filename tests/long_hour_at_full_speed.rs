//! An hour of a live show at full size and rate, to two servers, one passing through and one of our encoding: the tracks
//! stay together and with the clock, and nothing grows. `LONG_MINUTES` says how long it is instead of an hour.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // its figures are what it is run for

mod rtmp_support;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use gst::prelude::*;
use rtmp_support::{Pipeline, Server, Tag, read_flv};

/// Of AAC, at 48 kHz.
const SAMPLES_A_FRAME: f64 = 1024.0;
/// Two pictures: what a track may be ahead of or behind where it should be.
const APART_MS: f64 = 67.0;
/// Caches, allocator arenas and queues have taken what they take by then.
const WARM_UP: Duration = Duration::from_secs(30);
/// Far less than an hour of the media: 900 MB.
const MOST_GROWTH_KB: u64 = 16 << 10;

/// Memory in kB, threads and open files of this process.
#[derive(Clone, Copy, Debug)]
struct Usage {
    memory: u64,
    threads: usize,
    files: usize,
}

impl Usage {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let count = |dir| fs::read_dir(dir).unwrap().count();
        Self {
            memory: line.split_whitespace().nth(1).unwrap().parse().unwrap(),
            threads: count("/proc/self/task"),
            files: count("/proc/self/fd"),
        }
    }
}

fn length() -> Duration {
    let minutes = std::env::var("LONG_MINUTES").ok();
    let minutes = minutes.map_or(60.0, |minutes| minutes.parse().expect("LONG_MINUTES is a number of minutes"));
    Duration::from_secs_f64(minutes * 60.0)
}

/// A live show: 1280x720 at 30 frames a second and 2 Mbit/s, with Opus.
fn show(server: &Server, encoder: &str) -> Pipeline {
    Pipeline::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=1280,height=720,framerate=30/1 {encoder} ! sink.video \
         audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio \
         rtmpbridgesink name=sink video-bitrate=1000000 location={}",
        server.url()
    ))
}

fn end(pipeline: &mut Pipeline) {
    pipeline.pipeline.send_event(gst::event::Eos::new());
    pipeline.wait_for_eos();
    assert_eq!(pipeline.messages("error"), [""; 0]);
    assert_eq!(pipeline.messages("warning"), [""; 0]);
}

/// What a recording of so many ms has to be like, in which so many pictures were skipped because the machine was too slow.
fn check(file: &Path, passed: f64, skipped: f64) {
    let tags = read_flv(file);
    let times = |is: fn(&Tag) -> bool| -> Vec<f64> {
        tags.iter().filter(|tag| is(tag)).map(|tag| f64::from(tag.timestamp)).collect()
    };
    let (video, audio) = (times(Tag::is_video), times(Tag::is_audio));
    let (video_end, audio_end) = (video[video.len() - 1], audio[audio.len() - 1]);
    assert!((video_end - audio_end).abs() < APART_MS, "the tracks end together: {video_end} and {audio_end} ms");
    // Starting and ending take a moment each, whatever the length.
    assert!((video_end - passed).abs() < 2000.0, "{passed} ms have passed, and {video_end} in the recording");
    // Players play samples, not timestamps.
    let played = (audio.len() - 1) as f64 * SAMPLES_A_FRAME / 48.0;
    let drift = played - (audio_end - audio[0]);
    assert!(drift.abs() < APART_MS, "the sound drifts by {drift:.1} ms");
    let pictures = (video_end - video[0]) * 30.0 / 1000.0;
    // Nothing is lost silently; a machine that does much else has no place for this test.
    let accounted = video.len() as f64 + skipped;
    assert!(accounted > pictures * 0.999, "{} of {pictures:.0} pictures, {skipped} skipped", video.len());
    assert!(skipped < pictures * 0.1, "{skipped} of {pictures:.0} pictures skipped: the machine is too slow");
    println!("{} pictures, {} frames of sound, drift {drift:.1} ms", video.len(), audio.len());
}

#[test]
#[ignore = "long: tests/long runs it"]
fn tracks_stay_together_and_nothing_grows() {
    let servers = [Server::start(), Server::start()];
    let passing = "! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=60";
    let began = Instant::now();
    let mut pipelines = [show(&servers[0], passing), show(&servers[1], "")];
    for pipeline in &pipelines {
        pipeline.wait_until_is(0, "live");
    }
    // Time is what is tested here.
    std::thread::sleep(WARM_UP);
    let warm = Usage::now();
    println!("warm: {warm:?}");
    let mut after = warm;
    while let Some(left) = length().checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left.min(Duration::from_secs(60)));
        after = Usage::now();
        println!("after {:.0?}: {after:?}", began.elapsed());
    }
    let mut skipped = Vec::new();
    for pipeline in &mut pipelines {
        let stats: gst::Structure = pipeline.sink().property("stats");
        let destination = pipeline.destination();
        println!("{stats}");
        assert_eq!(stats.get::<u64>("timestamps-repaired"), Ok(0));
        skipped.push(stats.get::<u64>("frames-skipped").unwrap() as f64);
        assert_eq!(destination.get::<u32>("reconnects"), Ok(0));
        assert!(destination.get::<u32>("lag").unwrap() < 500);
        end(pipeline);
    }
    let passed = began.elapsed().as_secs_f64() * 1000.0;
    for (server, skipped) in servers.iter().zip(skipped) {
        check(&server.whole_recording(), passed, skipped);
    }
    assert!(after.memory < warm.memory + MOST_GROWTH_KB, "{warm:?} became {after:?}");
    assert!(after.threads <= warm.threads && after.files <= warm.files, "{warm:?} became {after:?}");
}
