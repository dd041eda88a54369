//! rtmpbridgesink when things go wrong: servers that die, refuse or are not there, and settings that make no sense.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::rtmp_support::{KEY, Pipeline, Server, Tag, check_recording, read_flv, wait_for};
use gst::prelude::*;

const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

fn live(location: &str, more: &str) -> String {
    format!("{LIVE} rtmpbridgesink name=sink location={location} {more}")
}

/// EOS may take 3 s whatever the server does.
fn assert_ends_in_time(pipeline: &mut Pipeline, end: impl FnOnce(&Pipeline) -> bool) {
    let asked = Instant::now();
    assert!(end(pipeline), "EOS is taken");
    pipeline.wait_for_eos();
    assert!(asked.elapsed() < Duration::from_secs(3), "EOS took {:?}", asked.elapsed());
}

#[test]
fn killed_server_gets_the_stream_back_at_a_keyframe() {
    let mut server = Server::start();
    let mut pipeline = Pipeline::start(&live(&server.url(), "reconnect-min=50 reconnect-max=200"));
    pipeline.wait_for_state("live");
    wait_for("a second of frames", || pipeline.frames() > 80);
    server.kill();
    pipeline.wait_for_state("retrying");
    pipeline.wait("a warning", |message| message.type_() == gst::MessageType::Warning);
    server.restart();
    // Fails on any error message: upstream must not notice.
    pipeline.wait_for_state("live");
    let frames = pipeline.frames();
    wait_for("frames after the restart", || pipeline.frames() > frames + 80);
    assert_eq!(pipeline.destination().get::<u32>("reconnects").map(|count| count > 0), Ok(true));
    assert_ends_in_time(&mut pipeline, |pipeline| pipeline.pipeline.send_event(gst::event::Eos::new()));
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 2);
    check_recording(&recordings[1]);
    let tags = read_flv(&recordings[1]);
    assert_eq!(tags.iter().find(|tag| tag.kind != 18).map(Tag::is_video_header), Some(true));
    let warnings = pipeline.seen.iter().filter(|message| message.contains("Warning")).count();
    assert_eq!(warnings, 1, "one outage, one warning");
}

#[test]
fn killed_server_gets_a_keyframe_from_our_encoder() {
    let mut server = Server::start();
    let video = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! sink.video";
    let more = "keyframe-interval=600000 max-queue-time=100 reconnect-min=50 reconnect-max=200";
    let description = format!("{video} rtmpbridgesink name=sink location={} {more}", server.url());
    let mut pipeline = Pipeline::start(&description);
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 20);
    server.kill();
    pipeline.wait_for_state("retrying");
    server.restart();
    pipeline.wait_for_state("live");
    let frames = pipeline.frames();
    wait_for("frames after the restart", || pipeline.frames() > frames + 20);
    pipeline.pipeline.set_state(gst::State::Null).unwrap();
    let first_frame = || read_flv(&server.recordings()[1]).into_iter().find(Tag::is_video);
    wait_for("the recording", || first_frame().is_some());
    assert_eq!(first_frame().map(|tag| tag.is_keyframe()), Some(true));
}

#[test]
fn eos_arrives_in_time_when_the_server_is_dead() {
    let server = Server::stopped();
    let mut pipeline = Pipeline::start(&live(&server.url(), ""));
    pipeline.wait_for_state("retrying");
    assert_ends_in_time(&mut pipeline, |pipeline| pipeline.pipeline.send_event(gst::event::Eos::new()));
}

#[test]
fn eos_arrives_in_time_when_nobody_answers() {
    // Accepts connections into its backlog and never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/{KEY}", mute.local_addr().unwrap());
    let mut pipeline = Pipeline::start(&live(&url, ""));
    pipeline.wait_for_state("connecting");
    assert_ends_in_time(&mut pipeline, |pipeline| pipeline.pipeline.send_event(gst::event::Eos::new()));
}

#[test]
fn stalled_server_is_left_and_eos_arrives_in_time() {
    let server = Server::start();
    // Far more than the socket buffers hold, so that writing stops soon after the server does.
    let video = "videotestsrc is-live=true pattern=snow ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 \
        ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=60000 key-int-max=30 ! sink.video";
    let mut pipeline = Pipeline::start(&format!(
        "{video} rtmpbridgesink name=sink location={} stall-timeout=1000 max-queue-time=500 reconnect-min=5000",
        server.url()
    ));
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 10);
    server.freeze(true);
    let reason = pipeline.wait_for_state("retrying");
    assert!(reason.contains("stall-timeout"), "{reason}");
    let destination = pipeline.destination();
    assert!(destination.get::<u64>("dropped").unwrap() > 0, "the backlog is bounded: {destination}");
    assert_ends_in_time(&mut pipeline, |pipeline| pipeline.pipeline.send_event(gst::event::Eos::new()));
    server.freeze(false);
}

#[test]
fn connect_timeout_ends_an_attempt() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/{KEY}", mute.local_addr().unwrap());
    let mut pipeline = Pipeline::start(&live(&url, "connect-timeout=200"));
    assert_eq!(pipeline.wait_for_state("retrying"), "no connection within connect-timeout");
}

#[test]
fn eos_needs_no_pad_and_the_element_starts_again() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!("rtmpbridgesink name=sink location={}", server.url()));
    for _ in 0..2 {
        assert_ends_in_time(&mut pipeline, |pipeline| pipeline.sink().send_event(gst::event::Eos::new()));
        pipeline.pipeline.set_state(gst::State::Null).unwrap();
        pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    }
}

#[test]
fn unlinked_pad_does_not_hold_eos_back() {
    let server = Server::start();
    let description = format!(
        "videotestsrc is-live=true num-buffers=20 ! x264enc tune=zerolatency ! sink.video \
         rtmpbridgesink name=sink location={}",
        server.url()
    );
    let mut pipeline = Pipeline::parse(&description);
    pipeline.sink().request_pad_simple("audio").unwrap();
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    pipeline.wait_for_eos();
    assert_eq!(read_flv(&server.recording()).iter().filter(|tag| tag.is_video()).count(), 20);
}

#[test]
fn stream_starts_again_after_eos() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&live(&server.url(), ""));
    for run in 0..2 {
        pipeline.wait_for_state("live");
        wait_for("frames", || pipeline.frames() > 20);
        assert_ends_in_time(&mut pipeline, |pipeline| pipeline.pipeline.send_event(gst::event::Eos::new()));
        pipeline.pipeline.set_state(gst::State::Null).unwrap();
        // nginx names recordings by key and second.
        pipeline.sink().set_property("location", format!("{}-{run}", server.url()));
        pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    }
    for recording in server.recordings().iter().take(2) {
        check_recording(recording);
    }
}

#[test]
fn malformed_location_is_an_error_that_says_what_is_wrong() {
    for (location, complaint) in [
        ("http://127.0.0.1/live/s3cr3t-k3y", "scheme http"),
        ("rtmp://127.0.0.1/live", "no stream key"),
        ("rtmp://127.0.0.1:99999/live/s3cr3t-k3y", "port"),
        ("s3cr3t-k3y", "no scheme"),
    ] {
        let mut pipeline = Pipeline::parse(&live(location, ""));
        assert!(pipeline.pipeline.set_state(gst::State::Playing).is_err());
        let error = pipeline.wait_for_error();
        assert!(error.contains(complaint) && error.contains("such as") | error.contains("look like"), "{error}");
        assert!(!error.contains(KEY), "{error}");
    }
}

#[test]
fn missing_encoder_is_named() {
    let server = Server::start();
    let description = format!(
        "videotestsrc is-live=true ! sink.video rtmpbridgesink name=sink encoder=nosuchenc location={}",
        server.url()
    );
    let mut pipeline = Pipeline::parse(&description);
    let _ = pipeline.pipeline.set_state(gst::State::Playing);
    let error = pipeline.wait_for_error();
    assert!(error.contains("encoder=nosuchenc") && error.contains("x264enc"), "{error}");
    // It tries again with every frame until then; another error of the sink would fail this.
    pipeline.wait("the source to give up", |message| {
        let by_source = message.src().is_some_and(|src| src.name().starts_with("videotestsrc"));
        by_source && message.type_() == gst::MessageType::Error
    });
}

#[test]
fn retries_end_with_an_error_when_they_are_limited() {
    let server = Server::stopped();
    let mut pipeline = Pipeline::start(&live(&server.url(), "max-retries=2 reconnect-min=20"));
    let error = pipeline.wait_for_error();
    assert!(error.contains("connection refused") && error.contains("check host and port"), "{error}");
    let retries = pipeline.seen.iter().filter(|message| message.contains("retrying")).count();
    assert_eq!(retries, 2);
}

#[test]
fn only_destination_that_gives_up_at_once_is_warned_of_before_the_error() {
    let server = Server::stopped();
    let mut pipeline = Pipeline::start(&live(&server.url(), "max-retries=0"));
    let error = pipeline.wait_for_error();
    let warnings = pipeline.messages("warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("check host and port") && !warnings[0].contains("gave up"), "{warnings:?}");
    assert!(error.starts_with("gave up on"), "{error}");
}

#[test]
fn stream_that_is_taken_is_refused() {
    let server = Server::start();
    let mut first = Pipeline::start(&live(&server.url(), ""));
    first.wait_for_state("live");
    let mut second = Pipeline::start(&live(&server.url(), ""));
    let reason = second.wait_for_state("refused");
    assert!(reason.contains("refused"), "{reason}");
    let error = second.wait_for_error();
    assert!(error.contains("check the stream key") && !error.contains(KEY), "{error}");
}

#[test]
fn key_is_never_seen() {
    let log = Arc::new(Mutex::new(String::new()));
    gst::init().unwrap();
    gst::log::remove_default_log_function();
    let function = gst::log::add_log_function({
        let log = log.clone();
        move |category, level, _, _, _, object, message| {
            // GStreamer's own elements and core print what they are given; ours must not.
            if category.name().starts_with("rtmpbridge") || level <= gst::DebugLevel::Warning {
                let object = object.map(ToString::to_string).unwrap_or_default();
                log.lock().unwrap().push_str(&format!("{object} {} \n", message.get().unwrap_or_default()));
            }
        }
    });
    gst::log::set_threshold_for_name("rtmpbridgesink", gst::DebugLevel::Trace);

    let mut server = Server::start();
    let url = server.url().replace("127.0.0.1", "u53r:p455@127.0.0.1") + "?token=t0k3n";
    let mut pipeline = Pipeline::start(&live(&url, "reconnect-min=20 reconnect-max=50"));
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 20);
    server.kill();
    pipeline.wait_for_state("retrying");
    pipeline.wait_for_state("retrying");
    let location = pipeline.sink().property::<String>("location");
    assert!(location.contains("/live/***"), "{location}");
    let stats = pipeline.sink().property::<gst::Structure>("stats").to_string();
    let dot = pipeline.pipeline.debug_to_dot_data(gst::DebugGraphDetails::all());
    pipeline.pipeline.set_state(gst::State::Null).unwrap();
    gst::log::remove_log_function(function);

    let messages = pipeline.seen.join("\n");
    assert!(messages.contains("Warning") && stats.contains("rtmp://") && !log.lock().unwrap().is_empty());
    for secret in [KEY, "u53r", "p455", "t0k3n"] {
        for (what, text) in
            [("location", &location), ("stats", &stats), ("messages", &messages), ("dot", &dot.to_string())]
        {
            assert!(!text.contains(secret), "{secret} in {what}: {text}");
        }
        let log = log.lock().unwrap();
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} in the log");
    }
}
