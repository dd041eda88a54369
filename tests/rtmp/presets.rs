//! `preset`: what it sets, and what it warns of.

#![allow(clippy::unwrap_used)]

use crate::rtmp_support::{KEY, Pipeline, Server, describe, read_flv, wait_for};
use gst::prelude::*;

fn warnings(pipeline: &Pipeline) -> Vec<&String> {
    pipeline.seen.iter().filter(|message| message.contains("type: \"warning\"")).collect()
}

fn drain(pipeline: &mut Pipeline) {
    let bus = pipeline.pipeline.bus().unwrap();
    while let Some(message) = bus.pop() {
        pipeline.seen.push(describe(&message));
    }
}

#[test]
fn sets_the_rest_in_any_order_and_shows_it() {
    for description in ["preset=twitch video-bitrate=3000000", "video-bitrate=3000000 preset=twitch"] {
        let pipeline = Pipeline::parse(&format!("rtmpbridgesink name=sink {description}"));
        let sink = pipeline.sink();
        assert_eq!(sink.property::<u32>("video-bitrate"), 3_000_000);
        assert_eq!(sink.property::<u32>("keyframe-interval"), 2000);
        sink.set_property_from_str("preset", "none");
        assert_eq!(sink.property::<u32>("video-bitrate"), 3_000_000);
    }
    let pipeline = Pipeline::parse("rtmpbridgesink name=sink preset=kick");
    assert_eq!(pipeline.sink().property::<u32>("video-bitrate"), 5_000_000);
}

#[test]
fn what_breaks_a_rule_is_told_once_with_the_rule_and_its_source() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! sink.video \
         audiotestsrc is-live=true ! audio/x-raw,rate=32000,channels=2 ! voaacenc ! sink.audio \
         rtmpbridgesink name=sink preset=facebook keyframe-interval=9000 location={}",
        server.url()
    ));
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 60);
    drain(&mut pipeline);
    let warnings = warnings(&pipeline);
    let with = |text: &str| warnings.iter().filter(|warning| warning.contains(text)).count();
    for text in ["the host is 127.0.0.1, but Facebook", "keyframes are 9.0 s apart", "audio has 32000 samples a second"]
    {
        assert_eq!(with(text), 1, "{text}: {warnings:#?}");
    }
    assert_eq!((warnings.len(), with("developers.facebook.com")), (3, 3), "{warnings:#?}");
    assert_eq!(with(KEY), 0);
}

#[test]
fn good_stream_has_no_warning_but_that_of_the_test_server() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc is-live=true num-buffers=90 ! video/x-raw,width=1280,height=720,framerate=30/1 ! sink.video \
         audiotestsrc is-live=true num-buffers=140 ! opusenc ! sink.audio \
         rtmpbridgesink name=sink preset=youtube location={}",
        server.url()
    ));
    pipeline.wait_for_eos();
    let warnings = warnings(&pipeline);
    assert!(warnings.len() == 1 && warnings[0].contains("the host is 127.0.0.1"), "{warnings:#?}");
}

#[test]
fn platform_that_wants_both_tracks_gets_both() {
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc is-live=true num-buffers=240 ! video/x-raw,width=640,height=360,framerate=30/1 ! sink.video \
         rtmpbridgesink name=sink preset=youtube video-bitrate=1000000 location={}",
        server.url()
    ));
    pipeline.wait_for_eos();
    let warnings = warnings(&pipeline);
    assert!(warnings.len() == 1 && warnings[0].contains("the host is 127.0.0.1"), "{warnings:#?}");
    let tags = read_flv(&server.whole_recording());
    // Silence begins when audio has stayed away for two seconds.
    assert!(tags.iter().filter(|tag| tag.is_audio()).count() > 200);
}

#[test]
fn key_alone_is_sent_to_the_platform_and_never_shown() {
    let mut pipeline = Pipeline::parse(&format!(
        "videotestsrc is-live=true ! sink.video \
         rtmpbridgesink name=sink preset=youtube max-retries=0 connect-timeout=2000 location={KEY}"
    ));
    // There is no network in a test; where there is one, YouTube knows no such key.
    assert_eq!(pipeline.sink().property::<String>("location"), "***");
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    let error = pipeline.wait_for_error();
    assert!(error.contains("rtmps://a.rtmps.youtube.com/live2/***"), "{error}");
    assert!(!pipeline.seen.join("\n").contains(KEY));
}
