//! A server that takes nothing for a while does not leave the viewer behind: the lag goes away, and what is left out is
//! left out from keyframe to keyframe.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::rtmp_support::{Pipeline, Server, check_gaps_end_at_keyframes, check_recording, wait_for};
use gst::prelude::*;

/// 60 Mbit/s, far more than the sockets on the way hold: what waits, waits with us. Keyframes come when asked for, or
/// every ten seconds.
const SIXTY_MBIT: &str = "videotestsrc is-live=true pattern=snow ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=60000 key-int-max=300 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

const STALL: Duration = Duration::from_secs(2);
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Streams, with a stall of two seconds in the middle; returns the pipeline while it still runs.
fn stall(server: &Server, more: &str) -> Pipeline {
    let description = format!("{SIXTY_MBIT} rtmpbridgesink name=sink location={} {more}", server.url());
    let pipeline = Pipeline::start(&format!("{description} keyframe-interval=10000"));
    pipeline.wait_until_is(0, "live");
    pipeline.wait_for_frames(0, 80);
    server.freeze(true);
    std::thread::sleep(STALL); // this is what happens, not what is waited for
    assert!(lag(&pipeline) > 1000, "the stall is felt: {} ms", lag(&pipeline));
    server.freeze(false);
    let over = Instant::now();
    wait_for("the lag to be gone", || lag(&pipeline) < 500);
    assert!(over.elapsed() < BACK_WITHIN, "the lag was gone after {:?}", over.elapsed());
    pipeline.wait_for_frames(0, 80);
    assert!(lag(&pipeline) < 500, "and stays so");
    assert_eq!(pipeline.destination_at(0).unwrap().get::<u32>("reconnects"), Ok(0), "a stall is not the end");
    pipeline
}

fn lag(pipeline: &Pipeline) -> u32 {
    pipeline.destination_at(0).unwrap().get("lag").unwrap()
}

fn dropped(pipeline: &Pipeline) -> u64 {
    pipeline.destination_at(0).unwrap().get("dropped").unwrap()
}

fn end(mut pipeline: Pipeline, server: &Server) {
    assert!(pipeline.pipeline.send_event(gst::event::Eos::new()));
    pipeline.wait_for_eos();
    wait_for("the server to hear the end", || server.saw_goodbye());
    check_recording(&server.recording());
}

#[test]
fn stall_within_the_limit_loses_nothing() {
    let server = Server::start();
    let pipeline = stall(&server, "max-queue-time=10000");
    let lost = dropped(&pipeline);
    end(pipeline, &server);
    assert!(lost < 10, "only what came before the first keyframe may be left out: {lost}");
    assert_eq!(check_gaps_end_at_keyframes(&server.recording()), 0);
}

#[test]
fn stall_beyond_the_limit_leaves_out_all_to_the_next_keyframe_which_is_asked_for() {
    let server = Server::start();
    let pipeline = stall(&server, "max-queue-time=500");
    assert!(dropped(&pipeline) > 20, "{} left out", dropped(&pipeline));
    end(pipeline, &server);
    assert_eq!(check_gaps_end_at_keyframes(&server.recording()), 1);
}
