//! `webrtcegress` as a WHIP client, to our own server and to one that does what a server may do.

use std::time::{Duration, Instant};

use crate::common::{SOON, egress::Egress, ingest::Ingest, wait_until};
use gst::prelude::*;

const SOURCES: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=30/1 \
    ! out.video_0 audiotestsrc is-live=true ! out.audio_0";

/// The same endpoint as a client's URI.
fn whip(url: &str) -> String {
    url.replace("http://", "whip://")
}

/// A UDP port of its own: two ends of one connection cannot share one.
fn port() -> String {
    format!("ice-udp-port={}", crate::common::free_udp_port())
}

fn attempts(push: &Egress) -> u64 {
    push.stats().get("connect-attempts").unwrap_or(0)
}

#[test]
fn raw_media_are_pushed_to_a_server_that_is_told_of_the_end() {
    let server = Ingest::start("auth-token=secret");
    let push = Egress::start_at(&whip(&server.url()), &format!("auth-token=secret {}", port()), SOURCES);
    wait_until("frames of both", SOON, || (server.frames() > 100 && server.pads() == 2).then_some(()));
    assert_eq!(push.state(), "connected");
    assert_eq!(push.stats().get::<u64>("sessions"), Ok(1));
    let stopped = Instant::now();
    drop(push);
    assert_eq!(server.wait_ended(), "closed by the peer", "DELETE");
    assert!(stopped.elapsed() < Duration::from_secs(3));
}

#[test]
fn encoded_video_is_offered_in_the_codec_that_it_has_and_sent_as_it_is() {
    let server = Ingest::start("");
    let vp8 =
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! vp8enc deadline=1 ! out.video_0";
    let push = Egress::start_at(&whip(&server.url()), &port(), vp8);
    wait_until("frames", SOON, || (server.frames() > 30).then_some(()));
    let track = push.track("video_0");
    assert_eq!((track.get::<&str>("codec"), track.get::<&str>("encoder")), (Ok("VP8"), Ok("passthrough")));
    assert_eq!(push.error(), None);
}

#[test]
fn a_server_that_comes_later_and_goes_and_comes_again_gets_the_stream() {
    let port = crate::common::free_port();
    let push = Egress::start_at(&format!("whip://127.0.0.1:{port}/whip/live"), &self::port(), SOURCES);
    wait_until("a second attempt", SOON, || (attempts(&push) > 1).then_some(()));
    for _ in 0..2 {
        let server = Ingest::start(&format!("uri=whip://127.0.0.1:{port}/whip/live"));
        wait_until("frames", SOON, || (server.frames() > 30).then_some(()));
    }
    assert_eq!(push.error(), None);
}

#[test]
fn a_wrong_token_is_an_error_that_says_so() {
    let server = Ingest::start("auth-token=secret");
    let push = Egress::start_at(&whip(&server.url()), "auth-token=wrong", SOURCES);
    let error = wait_until("the error", SOON, || push.error());
    assert!(error.contains("auth-token") && !error.contains("wrong"), "{error}");
}

#[test]
fn the_end_of_the_stream_needs_no_server() {
    let port = crate::common::free_port();
    let push = Egress::start_at(&format!("whip://127.0.0.1:{port}/whip/live"), "", SOURCES);
    wait_until("an attempt", SOON, || (attempts(&push) > 0).then_some(()));
    push.pipeline.send_event(gst::event::Eos::new());
    wait_until("the end", Duration::from_secs(3), || push.saw_eos().then_some(()));
}
