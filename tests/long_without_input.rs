//! Half a minute in which neither track sends anything, under `gap-grace`: the server never notices, and the show goes on
//! where it is.

#![allow(clippy::unwrap_used)]

mod rtmp_support;

use std::time::Duration;

use gst::prelude::*;
use rtmp_support::{Pipeline, Server, Tag, check_recording, read_flv, wait_for};

const PAUSE: Duration = Duration::from_secs(30);

#[test]
#[ignore = "long: tests/long runs it"]
fn show_goes_on_through_thirty_seconds() {
    let server = Server::start();
    let valve = |name: &str| format!("valve name={name} drop-mode=forward-sticky-events ! sink.{name}");
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=60 ! {} \
         audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! {} \
         rtmpbridgesink name=sink gap-grace=60000 location={}",
        valve("video"),
        valve("audio"),
        server.url()
    ));
    let close = |pipeline: &Pipeline, closed: bool| {
        for name in ["video", "audio"] {
            pipeline.pipeline.by_name(name).unwrap().set_property("drop", closed);
        }
    };
    wait_for("the show", || pipeline.frames() > 150);
    close(&pipeline, true);
    std::thread::sleep(PAUSE); // time is what is tested
    close(&pipeline, false);
    let standing_in = |pipeline: &Pipeline| {
        let stats: gst::Structure = pipeline.sink().property("stats");
        stats.get::<String>("standing-in").unwrap()
    };
    wait_for("the input to be back", || standing_in(&pipeline) == "none");
    let frames = pipeline.frames();
    wait_for("the show to go on", || pipeline.frames() > frames + 150);
    assert_eq!(pipeline.destination().get::<u32>("reconnects"), Ok(0));
    pipeline.pipeline.send_event(gst::event::Eos::new());
    pipeline.wait_for_eos();
    let recording = server.whole_recording();
    assert_eq!(server.recordings().len(), 1, "one connection");
    check_recording(&recording);
    let tags = read_flv(&recording);
    for (is, most) in [(Tag::is_video as fn(&Tag) -> bool, 400), (Tag::is_audio, 130)] {
        let times: Vec<_> = tags.iter().filter(|tag| is(tag)).map(|tag| tag.timestamp).collect();
        let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest < most, "{widest} ms without anything");
        assert!(times[times.len() - 1] > 33_000, "all of it is there: {}", times[times.len() - 1]);
    }
}
