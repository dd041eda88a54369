//! Which encoder and decoder rtmpbridgesink takes, and what happens when one fails.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::SeqCst;

use crate::fakes::{HANGING, fake_element, fake_encoder, remove_real_hardware};
use crate::neighbour::Neighbour;
use crate::rtmp_support::{Pipeline, Server, Tag, check_recording, pictures, read_flv, wait_for};
use gst::prelude::*;

const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

fn begin() {
    gst::init().unwrap();
    remove_real_hardware();
}

fn live(server: &Server, more: &str) -> Pipeline {
    let mut pipeline = Pipeline::start(&format!("{LIVE} rtmpbridgesink name=sink location={} {more}", server.url()));
    pipeline.wait_for_state("live");
    pipeline
}

fn stats(pipeline: &Pipeline) -> gst::Structure {
    pipeline.sink().property("stats")
}

fn encoder(pipeline: &Pipeline) -> String {
    // A destination may be live, and know the sound, before there is a picture.
    wait_for("an encoder", || stats(pipeline).has_field("video-encoder"));
    stats(pipeline).get("video-encoder").unwrap()
}

fn passed_over(pipeline: &Pipeline) -> Vec<String> {
    let list = stats(pipeline).get::<gst::Array>("encoders-passed-over").unwrap();
    list.iter().map(|reason| reason.get().unwrap()).collect()
}

fn end(mut pipeline: Pipeline) -> Vec<String> {
    pipeline.pipeline.send_event(gst::event::Eos::new());
    pipeline.wait_for_eos();
    std::mem::take(&mut pipeline.seen)
}

fn warnings(seen: &[String]) -> Vec<&String> {
    seen.iter().filter(|message| message.contains("Warning")).collect()
}

/// Lets an encoder fail in the middle of a show; the show goes on with `next` and its recording is whole. Another stream of the
/// process does not notice.
fn assert_survived(failing: &str, next: &str, reason: &str) {
    let (server, neighbour) = (Server::start(), Neighbour::start());
    let mut pipeline = live(&server, "");
    assert_eq!(encoder(&pipeline), failing);
    // Fails on any error message.
    let warning = pipeline.wait("a warning", |message| message.type_() == gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!() };
    let warning = warning.error().to_string();
    assert!(warning.contains(failing) && warning.contains(next) && warning.contains(reason), "{warning}");
    assert_eq!(encoder(&pipeline), next);
    assert!(passed_over(&pipeline)[0].contains(reason), "{:?}", passed_over(&pipeline));
    let frames = pipeline.frames();
    wait_for("a second of the next encoder", || pipeline.frames() > frames + 80);
    let seen = end(pipeline);
    assert_eq!(warnings(&seen).len(), 1, "one failure, one warning: {seen:#?}");
    assert_eq!(server.recordings().len(), 1, "the connection stayed");
    check_recording(&server.whole_recording());
    let tags = read_flv(&server.whole_recording());
    assert!(tags.iter().filter(|tag| tag.is_video_header()).count() >= 1);
    assert!(tags.iter().any(|tag| tag.is_keyframe() && tag.timestamp > 2500), "the next one begins with a keyframe");
    neighbour.assert_unharmed();
}

#[test]
fn hardware_that_works_comes_first() {
    begin();
    fake_encoder!(works, "anyhw264enc", gst::Rank::NONE, Conduct::Works);
    let server = Server::start();
    let pipeline = live(&server, "keyframe-interval=500 video-bitrate=1500000");
    assert_eq!(encoder(&pipeline), "anyhw264enc");
    assert!(passed_over(&pipeline).is_empty());
    assert_eq!(bitrate_of(&pipeline, "anyhw264enc"), Some(1500));
    wait_for("frames", || pipeline.frames() > 120);
    assert_eq!(warnings(&end(pipeline)).len(), 0);
    check_recording(&server.whole_recording());
    let tags = read_flv(&server.whole_recording());
    let keyframes: Vec<_> = tags.iter().filter(|tag| tag.is_keyframe()).map(|tag| tag.timestamp).collect();
    assert!(keyframes.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(500) < 40), "{keyframes:?}");
}

#[test]
fn order_is_that_of_the_table_and_not_of_ranks() {
    begin();
    fake_encoder!(unheard_of, "aaah264enc", gst::Rank::PRIMARY, Conduct::Works);
    fake_encoder!(video4linux, "v4l2h264enc", gst::Rank::PRIMARY, Conduct::Works);
    fake_encoder!(nvidia, "nvh264enc", gst::Rank::NONE, Conduct::FailsToStart);
    fake_encoder!(intel, "qsvh264enc", gst::Rank::NONE, Conduct::FailsAt(0));
    fake_encoder!(va, "vah264enc", gst::Rank::NONE, Conduct::Works);
    let server = Server::start();
    let pipeline = live(&server, "");
    assert_eq!(encoder(&pipeline), "vah264enc");
    let passed_over = passed_over(&pipeline);
    assert_eq!(passed_over.len(), 2, "{passed_over:?}");
    assert!(passed_over[0].starts_with("nvh264enc: does not start: the fake device is not there"), "{passed_over:?}");
    assert!(passed_over[1].starts_with("qsvh264enc: fails at the first frames: the fake device"), "{passed_over:?}");
    assert_eq!(warnings(&end(pipeline)).len(), 0, "what was passed over at the start is no warning");
}

#[test]
fn without_hardware_software_encodes() {
    begin();
    let server = Server::start();
    let pipeline = live(&server, "");
    assert_eq!(encoder(&pipeline), "x264enc");
    assert_eq!(stats(&pipeline).get::<&str>("audio-encoder"), Ok("voaacenc"));
    wait_for("frames", || pipeline.frames() > 60);
    end(pipeline);
    check_recording(&server.whole_recording());
}

#[test]
fn hardware_that_does_not_work_leaves_it_to_software() {
    begin();
    fake_encoder!(absent, "absenth264enc", gst::Rank::PRIMARY, Conduct::FailsToStart);
    fake_encoder!(broken, "brokenh264enc", gst::Rank::PRIMARY, Conduct::RefusesAt(0));
    fake_encoder!(mute, "muteh264enc", gst::Rank::PRIMARY, Conduct::SilentFrom(0));
    let server = Server::start();
    let pipeline = live(&server, "");
    assert_eq!(encoder(&pipeline), "x264enc");
    assert_eq!(passed_over(&pipeline).len(), 3, "{:?}", passed_over(&pipeline));
    wait_for("frames", || pipeline.frames() > 60);
    end(pipeline);
    check_recording(&server.whole_recording());
}

#[test]
fn driver_that_hangs_at_the_proof_holds_nothing_up_for_long() {
    begin();
    fake_encoder!(hangs, "hangingh264enc", gst::Rank::PRIMARY, Conduct::HangsAt(0));
    let server = Server::start();
    let pipeline = live(&server, "");
    wait_for("frames", || pipeline.frames() > 150);
    assert_eq!(encoder(&pipeline), "x264enc");
    assert!(passed_over(&pipeline)[0].contains("no frame within 3 s"), "{:?}", passed_over(&pipeline));
    end(pipeline);
    // Video comes seconds after audio then, so the recording is not all that it should be otherwise.
    assert!(pictures(&server.whole_recording()).len() > 20);
}

#[test]
fn encoder_that_fails_after_three_seconds_is_replaced_by_the_next_hardware() {
    begin();
    fake_encoder!(fails, "vah264enc", gst::Rank::NONE, Conduct::FailsAt(AFTER_3_S));
    fake_encoder!(works, "v4l2h264enc", gst::Rank::NONE, Conduct::Works);
    assert_survived("vah264enc", "v4l2h264enc", "the fake device is lost");
}

#[test]
fn encoder_that_refuses_frames_without_a_word_is_replaced() {
    begin();
    fake_encoder!(refuses, "refusingh264enc", gst::Rank::NONE, Conduct::RefusesAt(AFTER_3_S));
    assert_survived("refusingh264enc", "x264enc", "no more frames");
}

#[test]
fn encoder_that_falls_silent_is_replaced() {
    begin();
    fake_encoder!(silent, "silenth264enc", gst::Rank::NONE, Conduct::SilentFrom(AFTER_3_S));
    assert_survived("silenth264enc", "x264enc", "gives no more frames");
}

#[test]
fn encoder_that_hangs_is_replaced() {
    begin();
    fake_encoder!(hangs, "hangingh264enc", gst::Rank::NONE, Conduct::HangsAt(AFTER_3_S));
    assert_survived("hangingh264enc", "x264enc", "gives no more frames");
}

#[test]
fn file_waits_for_an_encoder_that_hangs_and_goes_on_with_the_next() {
    begin();
    fake_encoder!(hangs, "hangingh264enc", gst::Rank::NONE, Conduct::HangsAt(30));
    let server = Server::start();
    let video = "videotestsrc num-buffers=90 ! video/x-raw,width=320,height=180,framerate=30/1 ! sink.video";
    let mut pipeline = Pipeline::start(&format!("{video} rtmpbridgesink name=sink location={}", server.url()));
    pipeline.wait_for_eos();
    assert_eq!(encoder(&pipeline), "x264enc");
    let frames = read_flv(&server.whole_recording()).iter().filter(|tag| tag.is_video()).count();
    assert!((80..90).contains(&frames), "only what was inside it is lost: {frames}");
}

#[test]
fn encoder_that_hangs_with_the_last_frames_does_not_hold_up_the_end() {
    begin();
    fake_encoder!(hangs, "hangingh264enc", gst::Rank::NONE, Conduct::HangsAt(58));
    let server = Server::start();
    let video = "videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! sink.video";
    let mut pipeline = Pipeline::start(&format!("{video} rtmpbridgesink name=sink location={}", server.url()));
    pipeline.wait_for_eos();
    assert!(HANGING.load(SeqCst) > 0);
    let frames = read_flv(&server.whole_recording()).iter().filter(|tag| tag.is_video()).count();
    assert!((50..60).contains(&frames), "only what was inside it is lost: {frames}");
}

#[test]
fn encoder_that_hangs_does_not_hold_up_who_stops_the_pipeline() {
    begin();
    fake_encoder!(hangs, "hangingh264enc", gst::Rank::NONE, Conduct::HangsAt(30));
    let server = Server::start();
    let pipeline = live(&server, "");
    wait_for("an encoder that hangs", || HANGING.load(SeqCst) > 0);
    let (stopped, waits) = std::sync::mpsc::channel();
    let neighbour = Neighbour::start();
    std::thread::spawn(move || {
        drop(pipeline);
        stopped.send(()).unwrap();
    });
    waits.recv_timeout(std::time::Duration::from_secs(30)).expect("it stops");
    neighbour.assert_unharmed();
}

#[test]
fn failure_at_the_end_of_the_stream_still_ends_it() {
    begin();
    // The last of its frames.
    fake_encoder!(fails, "failingh264enc", gst::Rank::NONE, Conduct::FailsAt(59));
    let server = Server::start();
    let video =
        "videotestsrc is-live=true num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! sink.video";
    let mut pipeline = Pipeline::start(&format!("{video} rtmpbridgesink name=sink location={}", server.url()));
    pipeline.wait_for_eos();
    assert!(read_flv(&server.whole_recording()).iter().filter(|tag| tag.is_video()).count() > 50);
}

#[test]
fn asking_for_hardware_where_none_works_is_an_error_that_says_why() {
    begin();
    fake_encoder!(absent, "absenth264enc", gst::Rank::PRIMARY, Conduct::FailsToStart);
    for choice in ["hardware", "absenth264enc"] {
        let server = Server::start();
        let mut pipeline =
            Pipeline::parse(&format!("{LIVE} rtmpbridgesink name=sink location={} encoder={choice}", server.url()));
        let _ = pipeline.pipeline.set_state(gst::State::Playing);
        let error = pipeline.wait_for_error();
        assert!(error.contains(choice) && error.contains("the fake device is not there"), "{error}");
    }
}

#[test]
fn software_and_names_are_taken_at_their_word() {
    begin();
    fake_encoder!(works, "vah264enc", gst::Rank::NONE, Conduct::Works);
    fake_encoder!(other, "otherh264enc", gst::Rank::NONE, Conduct::Works);
    let choices = [
        ("software", "x264enc"),
        ("hardware", "vah264enc"),
        ("otherh264enc", "otherh264enc"),
        ("openh264enc", "openh264enc"),
    ];
    for (choice, chosen) in choices {
        let server = Server::start();
        let pipeline = live(&server, &format!("encoder={choice}"));
        assert_eq!(encoder(&pipeline), chosen, "encoder={choice}");
        wait_for("frames", || pipeline.frames() > 30);
        end(pipeline);
        check_recording(&server.whole_recording());
    }
}

#[test]
fn every_encoder_makes_keyframes_when_it_is_asked() {
    begin();
    fake_encoder!(works, "anyh264enc", gst::Rank::NONE, Conduct::Works);
    for choice in ["x264enc", "openh264enc", "anyh264enc"] {
        let server = Server::start();
        let more = format!("encoder={choice} keyframe-interval=600000");
        let mut pipeline = live(&server, &more);
        wait_for("frames", || pipeline.frames() > 60);
        // A new location asks for one; so do keyframes that are due.
        let second = Server::start();
        pipeline.sink().set_property("location", second.url());
        pipeline.wait_for_state("live");
        let frames = pipeline.frames();
        wait_for("frames on the second server", || pipeline.frames() > frames + 30);
        end(pipeline);
        let tags = read_flv(&second.recording());
        assert_eq!(tags.iter().find(|tag| tag.is_video()).map(Tag::is_keyframe), Some(true), "{choice}");
    }
}

#[test]
fn bitrate_changes_while_any_encoder_runs() {
    begin();
    // Its bitrate can only be set before it starts.
    fake_encoder!(rigid, "rigidh264enc", gst::Rank::NONE, Conduct::Works);
    for choice in ["x264enc", "openh264enc", "rigidh264enc"] {
        let server = Server::start();
        // openh264enc would rather spend too many bits than make snow as coarse as that.
        let (pattern, width) = if choice == "openh264enc" { ("smpte", 640) } else { ("snow", 320) };
        let caps = format!("video/x-raw,format=I420,width={width},height={},framerate=30/1", width * 9 / 16);
        let video = format!("videotestsrc is-live=true pattern={pattern} ! {caps}");
        let more = format!("encoder={choice} video-bitrate=2000000");
        let mut pipeline =
            Pipeline::start(&format!("{video} ! sink.video rtmpbridgesink name=sink location={} {more}", server.url()));
        pipeline.wait_for_state("live");
        wait_for("frames", || pipeline.frames() > 60);
        pipeline.sink().set_property("video-bitrate", 50_000u32);
        let unit = if choice == "openh264enc" { 1 } else { 1000 };
        wait_for("the encoder to have it", || bitrate_of(&pipeline, choice) == Some(50_000 / unit));
        let frames = pipeline.frames();
        wait_for("frames of fewer bits", || pipeline.frames() > frames + 90);
        let seen = end(pipeline);
        assert!(warnings(&seen).is_empty(), "{seen:#?}");
        if choice != "rigidh264enc" {
            let tags = read_flv(&server.whole_recording());
            let video: Vec<_> = tags.iter().filter(|tag| tag.is_video()).map(|tag| tag.body.len()).collect();
            let mean = |frames: &[usize]| frames.iter().sum::<usize>() / frames.len();
            let (before, after) = (mean(&video[30..55]), mean(&video[video.len() - 30..]));
            assert!(after * 3 < before * 2, "{choice}: {before} bytes a frame, then {after}");
        }
    }
}

/// Registers a decoder for VP8. Each call in a program needs a module name of its own.
macro_rules! fake_decoder {
    ($module:ident, $name:expr, $rank:expr, $conduct:expr) => {
        fake_element!(
            $module,
            $name,
            $rank,
            $conduct,
            "Codec/Decoder/Video/Hardware",
            gst::ElementFactory::make("vp8dec").build().unwrap(),
            "video/x-vp8",
            "video/x-raw"
        )
    };
}

/// Live VP8 with a keyframe every ten seconds, but for those that are asked for.
const VP8: &str = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 \
    ! vp8enc deadline=1 keyframe-max-dist=300 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

/// How many elements of a factory are at work in the sink.
fn count(pipeline: &Pipeline, factory: &str) -> usize {
    let sink = pipeline.sink().downcast::<gst::Bin>().unwrap();
    sink.iterate_all_by_element_factory_name(factory).into_iter().flatten().count()
}

/// Lets a decoder fail in the middle of a show.
fn assert_decoder_is_replaced(failing: &str, reason: &str) {
    let (server, neighbour) = (Server::start(), Neighbour::start());
    let mut pipeline = Pipeline::start(&format!("{VP8} rtmpbridgesink name=sink location={}", server.url()));
    pipeline.wait_for_state("live");
    assert_eq!((count(&pipeline, failing), count(&pipeline, "vp8dec")), (1, 1), "one fake, one inside it");
    // Fails on any error message.
    let warning = pipeline.wait("a warning", |message| message.type_() == gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = warning.view() else { unreachable!() };
    let warning = warning.error().to_string();
    assert!(warning.contains(failing) && warning.contains("vp8dec goes on") && warning.contains(reason), "{warning}");
    let frames = pipeline.frames();
    wait_for("a second of the next decoder", || pipeline.frames() > frames + 80);
    assert_eq!((count(&pipeline, failing), count(&pipeline, "vp8dec")), (0, 1));
    assert_eq!(warnings(&end(pipeline)).len(), 1, "one failure, one warning");
    check_recording(&server.whole_recording());
    let times: Vec<_> =
        read_flv(&server.whole_recording()).iter().filter(|tag| tag.is_video()).map(|tag| tag.timestamp).collect();
    assert!(times[times.len() - 1] > 4000, "{times:?}");
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(widest < 500, "a keyframe was asked for and came: {widest} ms without a picture");
    neighbour.assert_unharmed();
}

#[test]
fn decoder_that_fails_after_three_seconds_is_replaced_from_a_keyframe() {
    begin();
    fake_decoder!(lost, "lostvp8dec", gst::Rank::PRIMARY + 100, Conduct::FailsAt(AFTER_3_S));
    assert_decoder_is_replaced("lostvp8dec", "the fake device is lost");
}

#[test]
fn decoder_that_refuses_data_without_a_word_is_replaced() {
    begin();
    fake_decoder!(refusing, "refusingvp8dec", gst::Rank::PRIMARY + 100, Conduct::RefusesAt(AFTER_3_S));
    assert_decoder_is_replaced("refusingvp8dec", "takes no more data");
}

#[test]
fn decoder_that_fails_at_the_end_of_the_stream_still_ends_it() {
    begin();
    fake_decoder!(late, "latevp8dec", gst::Rank::PRIMARY + 100, Conduct::FailsAt(59));
    let server = Server::start();
    let live = VP8.replacen("is-live=true", "is-live=true num-buffers=60", 1).replacen(
        "audiotestsrc is-live=true",
        "audiotestsrc is-live=true num-buffers=100",
        1,
    );
    let mut pipeline = Pipeline::start(&format!("{live} rtmpbridgesink name=sink location={}", server.url()));
    pipeline.wait_for_eos();
    assert_eq!(count(&pipeline, "latevp8dec"), 1);
    check_recording(&server.whole_recording());
}

#[test]
fn the_only_decoder_begins_anew_when_it_fails_and_no_other_is_there() {
    begin();
    for name in ["vp8dec", "avdec_vp8"] {
        if let Some(factory) = gst::ElementFactory::find(name) {
            // It is needed inside the fake; only its rank says that it may be chosen.
            factory.set_rank(gst::Rank::NONE);
        }
    }
    fake_decoder!(only, "onlyvp8dec", gst::Rank::PRIMARY + 100, Conduct::FailsAt(60));
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!("{VP8} rtmpbridgesink name=sink location={}", server.url()));
    wait_for("more than one life has", || pipeline.destination_at(0).is_some() && pipeline.frames() > 250);
    assert_eq!(pipeline.messages("warning"), [""; 0]);
    assert_eq!(pipeline.messages("error"), [""; 0]);
    assert_eq!(warnings(&end(pipeline)).len(), 0);
    check_recording(&server.whole_recording());
}

#[test]
fn best_ranked_decoder_that_starts_is_taken() {
    begin();
    fake_decoder!(absent, "absentvp8dec", gst::Rank::PRIMARY + 200, Conduct::FailsToStart);
    fake_decoder!(present, "presentvp8dec", gst::Rank::PRIMARY + 100, Conduct::Works);
    let server = Server::start();
    let video = "videotestsrc is-live=true num-buffers=40 ! video/x-raw,width=320,height=180,framerate=30/1 \
        ! vp8enc deadline=1 ! sink.video";
    let mut pipeline = Pipeline::start(&format!("{video} rtmpbridgesink name=sink location={}", server.url()));
    pipeline.wait_for_state("live");
    wait_for("frames", || pipeline.frames() > 5);
    assert_eq!((count(&pipeline, "absentvp8dec"), count(&pipeline, "presentvp8dec")), (0, 1));
    pipeline.wait_for_eos();
    assert!(pictures(&server.whole_recording()).len() > 15);
}

/// What the running encoder has as its bitrate.
fn bitrate_of(pipeline: &Pipeline, factory: &str) -> Option<u32> {
    let sink = pipeline.sink().downcast::<gst::Bin>().unwrap();
    let found = sink.iterate_all_by_element_factory_name(factory).into_iter().flatten().next();
    found.map(|encoder| encoder.property("bitrate"))
}
