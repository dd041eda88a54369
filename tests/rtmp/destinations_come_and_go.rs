//! Destinations are added and taken away while the stream plays; those that stay do not notice.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::rtmp_support::{KEY, Pipeline, Server, Tag, check_recording, check_without_gap, read_flv, wait_for};
use gst::prelude::*;

/// Keyframes come when they are asked for, and otherwise hardly ever.
const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

fn start(location: &str, more: &str) -> Pipeline {
    Pipeline::start(&format!("{LIVE} rtmpbridgesink name=sink keyframe-interval=600000 location=\"{location}\" {more}"))
}

fn set(pipeline: &Pipeline, locations: &[&str]) {
    pipeline.sink().set_property("location", locations.join(" "));
}

fn end(pipeline: &mut Pipeline) {
    let asked = Instant::now();
    assert!(pipeline.pipeline.send_event(gst::event::Eos::new()));
    pipeline.wait_for_eos();
    assert!(asked.elapsed() < Duration::from_secs(3), "EOS took {:?}", asked.elapsed());
}

#[test]
fn one_is_added_and_another_taken_away() {
    let (first, second) = (Server::start(), Server::start());
    let mut pipeline = start(&first.url(), "");
    pipeline.wait_until_is(0, "live");
    pipeline.wait_for_frames(0, 80);

    set(&pipeline, &[&first.url(), &second.url()]);
    pipeline.wait_until_is(1, "live");
    pipeline.wait_for_frames(1, 80);
    pipeline.wait_for_frames(0, 80);
    let added = pipeline.wait("news of the second", |message| {
        message.structure().is_some_and(|news| news.get("index") == Ok(1u32) && news.get("state") == Ok("live"))
    });
    assert_eq!(added.structure().unwrap().get::<String>("url").unwrap(), second.url().replace(KEY, "***"));

    set(&pipeline, &[&second.url()]);
    wait_for("a goodbye to the first", || first.saw_goodbye());
    assert_eq!(pipeline.wait_for_state("stopped"), "taken away");
    assert!(pipeline.destination_at(1).is_none());
    pipeline.wait_for_frames(0, 80);
    end(&mut pipeline);

    for server in [&first, &second] {
        assert_eq!(server.recordings().len(), 1, "one connection each, never broken");
        check_without_gap(&server.recording());
    }
    assert_eq!(pipeline.messages("warning"), [""; 0]);
}

#[test]
fn the_new_one_gets_a_keyframe_at_once() {
    let (first, second) = (Server::start(), Server::start());
    let mut pipeline = start(&first.url(), "");
    pipeline.wait_until_is(0, "live");
    pipeline.wait_for_frames(0, 80);
    let added = Instant::now();
    set(&pipeline, &[&first.url(), &second.url()]);
    pipeline.wait_for_frames(1, 1);
    assert!(added.elapsed() < Duration::from_secs(1), "took {:?}", added.elapsed());
    pipeline.wait_for_frames(1, 40);
    end(&mut pipeline);
    let keyframes = |server: &Server| read_flv(&server.recording()).iter().filter(|tag| tag.is_keyframe()).count();
    assert_eq!((keyframes(&first), keyframes(&second)), (2, 1), "asked for one, and no more");
    assert_eq!(read_flv(&second.recording()).iter().find(|tag| tag.is_video()).map(|tag| tag.timestamp), Some(0));
}

#[test]
fn order_is_no_matter_and_neither_is_naming_one_twice() {
    let (first, second) = (Server::start(), Server::start());
    let (a, b) = (first.url(), second.url());
    let mut pipeline = start(&format!("{a} {b} {a}"), "");
    assert!(pipeline.destination_at(2).is_none());
    pipeline.wait_until_is(0, "live");
    pipeline.wait_until_is(1, "live");
    set(&pipeline, &[&b, &a, &a]);
    let url = |index| pipeline.destination_at(index).unwrap().get::<String>("url").unwrap();
    assert_eq!((url(0), url(1)), (b.replace(KEY, "***"), a.replace(KEY, "***")));
    pipeline.wait_for_frames(0, 40);
    pipeline.wait_for_frames(1, 40);
    end(&mut pipeline);
    assert_eq!((first.recordings().len(), second.recordings().len()), (1, 1));
}

#[test]
fn all_may_go_and_come_back() {
    let mut server = Server::start();
    let mut pipeline = start(&server.url(), "");
    pipeline.wait_until_is(0, "live");
    pipeline.sink().set_property("location", None::<&str>);
    assert_eq!(pipeline.wait_for_state("stopped"), "taken away");
    assert_eq!(pipeline.sink().property::<Option<String>>("location"), None);
    server.restart(); // it names recordings by the second
    set(&pipeline, &[&server.url()]);
    pipeline.wait_until_is(0, "live");
    pipeline.wait_for_frames(0, 40);
    set(&pipeline, &[]);
    end(&mut pipeline);
    check_recording(&server.recording());
}

#[test]
fn one_that_comes_back_before_its_server_let_go_is_not_refused_for_good() {
    let server = Server::start();
    let mut pipeline = start(&server.url(), "reconnect-min=50 max-retries=0");
    pipeline.wait_until_is(0, "live");
    server.freeze(true); // the goodbye is not heard
    set(&pipeline, &[]);
    assert_eq!(pipeline.wait_for_state("stopped"), "taken away");
    // Somebody else takes the place meanwhile, as the old connection would.
    server.freeze(false);
    let holder = start(&server.url(), "reconnect-min=50");
    holder.wait_until_is(0, "live");
    set(&pipeline, &[&server.url()]);
    pipeline.wait_until_is(0, "retrying");
    drop(holder);
    pipeline.wait_until_is(0, "live");
}

#[test]
fn comings_and_goings_leave_nothing_behind() {
    let (first, second) = (Server::start(), Server::start());
    let mut pipeline = start(&first.url(), "");
    pipeline.wait_until_is(0, "live");
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for round in 0..40 {
        let other = format!("{}-{round}", second.url());
        set(&pipeline, &[&first.url(), &other]);
        if round % 4 == 0 {
            pipeline.wait_for_frames(1, 1);
        }
        set(&pipeline, &[&first.url()]);
    }
    // Those that left are waited for at the next change at the latest.
    wait_for("their threads to end", || {
        set(&pipeline, &[&first.url()]);
        threads() <= before
    });
    pipeline.wait_for_frames(0, 40);
    end(&mut pipeline);
    assert_eq!(first.recordings().len(), 1);
    check_without_gap(&first.recording());
}

#[test]
fn stopping_waits_for_all_at_once() {
    // A dozen that are on their way, half of them to nobody.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, nobody) = (Server::start(), mute.local_addr().unwrap());
    let url = |index| match index % 2 {
        0 => format!("{}-{index}", server.url()),
        _ => format!("rtmp://{nobody}/live/{KEY}-{index}"),
    };
    let locations: Vec<_> = (0..12).map(url).collect();
    let pipeline = start(&locations.join(" "), "");
    (0..12).step_by(2).for_each(|index| pipeline.wait_until_is(index, "live"));
    let asked = Instant::now();
    pipeline.pipeline.set_state(gst::State::Null).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
}

#[test]
fn array_and_text_are_the_same_setting() {
    let (first, second) = (Server::start(), Server::start());
    let mut pipeline = Pipeline::start(&format!(
        "{LIVE} rtmpbridgesink name=sink locations=<\"{}\",\"{}\">",
        first.url(),
        second.url()
    ));
    pipeline.wait_until_is(0, "live");
    pipeline.wait_until_is(1, "live");
    let shown = [first.url(), second.url()].map(|url| url.replace(KEY, "***"));
    assert_eq!(pipeline.sink().property::<String>("location"), shown.join(" "));
    pipeline.sink().set_property("locations", gst::Array::new([second.url()]));
    let locations = pipeline.sink().property::<gst::Array>("locations");
    assert_eq!(locations.iter().map(|url| url.get::<String>().unwrap()).collect::<Vec<_>>(), shown[1..]);
    assert!(pipeline.destination_at(1).is_none());
    pipeline.wait_for_frames(0, 20);
    end(&mut pipeline);
}

#[test]
fn malformed_one_of_several_is_named_by_its_number() {
    let good = format!("rtmp://127.0.0.1:1/live/{KEY}");
    let bad = format!("rtmp://127.0.0.1:99999/live/{KEY}");
    let description = format!("{LIVE} rtmpbridgesink name=sink location=\"{good} {bad} {good}-2\"");
    let mut pipeline = Pipeline::parse(&description);
    assert!(pipeline.pipeline.set_state(gst::State::Playing).is_err());
    let error = pipeline.wait_for_error();
    assert!(error.starts_with("destination 2 of 3: the port") && !error.contains(KEY), "{error}");
}

#[test]
fn malformed_one_while_playing_changes_nothing() {
    let server = Server::start();
    let mut pipeline = start(&server.url(), "");
    pipeline.wait_until_is(0, "live");
    let before = pipeline.sink().property::<String>("location");
    set(&pipeline, &[&server.url(), "http://127.0.0.1/live/key"]);
    let warnings = pipeline.messages("warning").join("\n");
    assert!(warnings.contains("destination 2 of 2: location has the scheme http"), "{warnings}");
    assert_eq!(pipeline.sink().property::<String>("location"), before);
    pipeline.wait_for_frames(0, 40);
    end(&mut pipeline);
    assert_eq!(server.recordings().len(), 1);
    check_without_gap(&server.recording());
}

#[test]
fn error_comes_only_when_every_one_has_given_up() {
    let server = Server::start();
    let (nobody, nobody_else) = (Server::stopped(), Server::stopped());
    let locations = [nobody.url(), server.url(), nobody_else.url()].join(" ");
    let mut pipeline = start(&locations, "reconnect-min=20 reconnect-max=20 max-retries=3");
    pipeline.wait_until_is(0, "stopped");
    pipeline.wait_until_is(2, "stopped");
    pipeline.wait_until_is(1, "live");
    pipeline.wait_for_frames(1, 40);
    let warnings = pipeline.messages("warning");
    assert_eq!(warnings.iter().filter(|warning| warning.contains("gave up on")).count(), 2, "{warnings:#?}");
    assert_eq!(pipeline.messages("error"), [""; 0]);
    // The one that was good for the others goes.
    set(&pipeline, &[&nobody.url(), &nobody_else.url()]);
    let error = pipeline.wait_for_error();
    assert!(error.contains("gave up on") && error.contains("check host and port"), "{error}");
}

#[test]
fn every_one_that_gives_up_is_an_error_once() {
    let (nobody, nobody_else) = (Server::stopped(), Server::stopped());
    let locations = [nobody.url(), nobody_else.url()].join(" ");
    let mut pipeline = start(&locations, "reconnect-min=20 reconnect-max=20 max-retries=2");
    pipeline.wait_for_error();
    let index = |index| pipeline.destination_at(index).unwrap().get::<String>("state").unwrap();
    assert_eq!((index(0).as_str(), index(1).as_str()), ("stopped", "stopped"));
    assert_eq!(pipeline.messages("error").len(), 1);
    // Another server is another chance.
    let server = Server::start();
    set(&pipeline, &[&nobody.url(), &server.url()]);
    pipeline.wait_until_is(1, "live");
    end(&mut pipeline);
}

#[test]
fn every_one_gets_the_whole_stream_to_its_end() {
    let (first, second) = (Server::start(), Server::start());
    let locations = [first.url(), second.url()].join(" ");
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc is-live=true num-buffers=60 ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast ! sink.video rtmpbridgesink name=sink location=\"{locations}\""
    ));
    pipeline.wait_for_eos();
    for server in [first, second] {
        assert_eq!(read_flv(&server.recording()).iter().filter(|tag| Tag::is_video(tag)).count(), 60);
    }
}
