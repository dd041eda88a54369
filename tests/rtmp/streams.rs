//! What rtmpbridgesink sends, as an RTMP server records it.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use crate::rtmp_support::{Pipeline, Server, Tag, check_recording, read_flv, wait_for};
use gst::prelude::*;

const OPUS: &str = "audiotestsrc is-live=true num-buffers=100 samplesperbuffer=960 \
    ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

fn video(encoder: &str) -> String {
    format!(
        "videotestsrc is-live=true num-buffers=60 ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! {encoder} ! sink.video"
    )
}

fn sink(server: &Server) -> String {
    format!("rtmpbridgesink name=sink location={}", server.url())
}

#[test]
fn h264_and_opus_arrive_as_h264_and_aac() {
    let server = Server::start();
    let video = video("x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30");
    let mut pipeline = Pipeline::start(&format!("{video} {OPUS} {}", sink(&server)));
    pipeline.wait_for_eos();
    let stats = pipeline.sink().property::<gst::Structure>("stats");
    assert_eq!(stats.get::<&str>("video-encoder"), Ok("passthrough"));
    assert_eq!(stats.get::<bool>("passthrough"), Ok(true));
    check_recording(&server.recording());
}

#[test]
fn vp8_is_transcoded_with_keyframes_by_time() {
    let server = Server::start();
    let video = video("vp8enc deadline=1");
    let mut pipeline = Pipeline::start(&format!("{video} {OPUS} {} keyframe-interval=500", sink(&server)));
    pipeline.wait_for_eos();
    check_recording(&server.recording());
    let tags = read_flv(&server.recording());
    let keyframes: Vec<_> = tags.iter().filter(|tag| tag.is_keyframe()).map(|tag| tag.timestamp).collect();
    // One that a machine with little time has left out comes with the next picture.
    assert!(keyframes.len() > 1 && keyframes[0] == 0, "{keyframes:?}");
    assert!(keyframes.windows(2).all(|pair| pair[1] - pair[0] >= 400), "{keyframes:?}");
    let late = |tag: &&Tag| tag.is_video() && tag.body[2..5] != [0, 0, 0];
    assert_eq!(tags.iter().find(late).map(|tag| tag.timestamp), None, "no frame is reordered");
}

#[test]
fn odd_picture_sizes_are_encoded_too() {
    let server = Server::start();
    let video = "videotestsrc is-live=true num-buffers=40 ! video/x-raw,width=641,height=361,framerate=30/1 \
        ! vp8enc deadline=1 ! sink.video";
    let mut pipeline = Pipeline::start(&format!("{video} {OPUS} {}", sink(&server)));
    pipeline.wait_for_eos();
    check_recording(&server.recording());
}

#[test]
fn publisher_that_makes_no_keyframes_by_itself_is_asked_for_them() {
    let server = Server::start();
    let video = video("x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000");
    let mut pipeline = Pipeline::start(&format!("{video} {} keyframe-interval=500", sink(&server)));
    pipeline.wait_for_eos();
    assert_eq!(pipeline.sink().property::<gst::Structure>("stats").get::<bool>("passthrough"), Ok(true));
    let tags = read_flv(&server.recording());
    let keyframes: Vec<_> = tags.iter().filter(|tag| tag.is_keyframe()).map(|tag| tag.timestamp).collect();
    assert!(keyframes.len() >= 3, "keyframes at {keyframes:?}");
    assert!(keyframes.windows(2).all(|pair| pair[1] - pair[0] <= 700), "keyframes at {keyframes:?}");
}

#[test]
fn h264_passes_bit_exact() {
    let server = Server::start();
    let video = video(
        "x264enc name=encoder bframes=2 key-int-max=20 speed-preset=ultrafast \
         ! video/x-h264,stream-format=byte-stream,profile=main",
    );
    let mut pipeline = Pipeline::parse(&format!("{video} {}", sink(&server)));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let encoder = pipeline.pipeline.by_name("encoder").unwrap().static_pad("src").unwrap();
    encoder.add_probe(gst::PadProbeType::BUFFER, {
        let sent = sent.clone();
        move |_, info| {
            let map = info.buffer().unwrap().map_readable().unwrap();
            sent.lock().unwrap().extend(split_start_codes(&map));
            gst::PadProbeReturn::Ok
        }
    });
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    pipeline.wait_for_eos();

    let tags = read_flv(&server.recording());
    let received: Vec<_> =
        tags.iter().filter(|tag| tag.is_video()).flat_map(|tag| split_lengths(&tag.body[5..])).collect();
    let slices =
        |units: &[Vec<u8>]| units.iter().filter(|unit| matches!(unit[0] & 31, 1..=5)).cloned().collect::<Vec<_>>();
    let sent = slices(&sent.lock().unwrap());
    assert_eq!(tags.iter().filter(|tag| tag.is_video()).count(), 60);
    assert!(sent == slices(&received), "every slice arrives as it was sent");
}

#[test]
fn publisher_may_change_its_codec() {
    let server = Server::start();
    let source = |pattern| {
        format!("videotestsrc num-buffers=30 pattern={pattern} ! video/x-raw,format=I420,width=320,framerate=30/1")
    };
    let description = format!(
        "concat name=both ! sink.video {} ! x264enc tune=zerolatency speed-preset=ultrafast ! both. \
         {} ! vp8enc deadline=1 ! both. {}",
        source("smpte"),
        source("ball"),
        sink(&server)
    );
    let mut pipeline = Pipeline::start(&description);
    pipeline.wait_for_eos();
    let tags = read_flv(&server.recording());
    assert_eq!(tags.iter().filter(|tag| tag.is_video_header()).count(), 2, "each codec has its sequence header");
    let last = tags.iter().rposition(Tag::is_video_header).unwrap();
    assert!(tags[last..].iter().find(|tag| tag.is_video()).unwrap().is_keyframe());
    assert!(tags.iter().filter(|tag| tag.is_video()).count() >= 55);
}

#[test]
fn new_resolution_has_a_new_sequence_header() {
    let server = Server::start();
    let source = |width| {
        format!(
            "videotestsrc num-buffers=30 ! video/x-raw,format=I420,width={width},height=180,framerate=30/1 \
             ! x264enc tune=zerolatency speed-preset=ultrafast ! both."
        )
    };
    let description = format!("concat name=both ! sink.video {} {} {}", source(320), source(240), sink(&server));
    let mut pipeline = Pipeline::start(&description);
    pipeline.wait_for_eos();
    let tags = read_flv(&server.recording());
    let headers: Vec<_> = tags.iter().filter(|tag| tag.is_video_header()).map(|tag| tag.body.clone()).collect();
    assert!(headers.len() == 2 && headers[0] != headers[1], "{headers:?}");
    assert_eq!(tags.iter().filter(|tag| tag.is_video()).count(), 60);
}

#[test]
fn caps_may_come_before_their_decoder_configuration() {
    let server = Server::stopped();
    let pipeline = Pipeline::parse(&sink(&server));
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    let source = gst::Pad::new(gst::PadDirection::Src);
    source.link(&pipeline.sink().request_pad_simple("video").unwrap()).unwrap();
    source.set_active(true).unwrap();
    let caps = gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build();
    assert!(source.push_event(gst::event::StreamStart::new("test")));
    assert!(source.push_event(gst::event::Caps::new(&caps)));
    let mut complete = caps.copy();
    let configuration =
        [1, 0x42, 0xc0, 0x15, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x15, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80];
    complete.make_mut().set("codec_data", gst::Buffer::from_slice(configuration));
    assert!(source.push_event(gst::event::Caps::new(&complete)));
    let stats = pipeline.sink().property::<gst::Structure>("stats");
    assert_eq!(stats.get::<&str>("video-encoder"), Ok("passthrough"));
}

#[test]
fn long_silence_is_not_filled_all_at_once() {
    let server = Server::start();
    let mut pipeline = Pipeline::parse(&format!(
        "appsrc name=source is-live=true format=time \
         caps=audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved ! sink.audio {}",
        sink(&server)
    ));
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    let source = pipeline.pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let push = |from: gst::ClockTime| {
        for index in 0..50 {
            let mut buffer = gst::Buffer::from_slice(vec![0; 960 * 4]);
            let edit = buffer.get_mut().unwrap();
            edit.set_pts(from + index * 20.mseconds());
            edit.set_duration(20.mseconds());
            source.push_buffer(buffer).unwrap();
        }
    };
    push(0.seconds());
    wait_for("the first second", || pipeline.frames() > 30);
    push(9.seconds());
    source.end_of_stream().unwrap();
    pipeline.wait_for_eos();
    let tags = read_flv(&server.recording());
    let audio: Vec<_> = tags.iter().filter(|tag| tag.is_audio()).map(|tag| tag.timestamp).collect();
    assert!((80..120).contains(&audio.len()), "{} frames", audio.len());
    assert!(audio.is_sorted() && (9_000..11_000).contains(audio.last().unwrap()), "{audio:?}");
}

#[test]
fn link_all_operator_links_both_kinds() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.flv");
    let mut pipeline = Pipeline::start(&format!(
        "flvmux name=mux ! filesink location={} \
         videotestsrc num-buffers=30 ! video/x-raw,format=I420 ! x264enc speed-preset=ultrafast ! mux. \
         audiotestsrc num-buffers=43 ! audio/x-raw,rate=44100,channels=2 ! voaacenc ! mux.",
        file.display()
    ));
    pipeline.wait_for_eos();
    let mut pipeline = Pipeline::start(&format!("filesrc location={} ! flvdemux : {}", file.display(), sink(&server)));
    pipeline.wait_for_eos();
    check_recording(&server.recording());
}

#[test]
fn new_location_moves_the_running_stream() {
    let (first, second) = (Server::start(), Server::start());
    let video = "videotestsrc is-live=true ! video/x-raw,format=I420,framerate=30/1 \
        ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000 ! sink.video \
        audiotestsrc is-live=true ! opusenc ! sink.audio";
    let mut pipeline = Pipeline::start(&format!("{video} {}", sink(&first)));
    pipeline.wait_for_state("live");
    wait_for("frames on the first server", || pipeline.frames() > 20);
    pipeline.sink().set_property("location", second.url());
    pipeline.wait_for_state("live");
    let frames = pipeline.frames();
    wait_for("frames on the second server", || pipeline.frames() > frames + 40);
    pipeline.pipeline.set_state(gst::State::Null).unwrap();
    wait_for("the recordings to be whole", || {
        read_flv(&second.recording()).iter().filter(|tag| tag.is_video()).count() > 10
    });
    for server in [first, second] {
        let tags = read_flv(&server.recording());
        assert!(tags.iter().find(|tag| tag.is_video()).unwrap().is_keyframe());
        assert!(tags.iter().find(|tag| tag.is_video()).unwrap().timestamp < 50);
    }
}

/// NAL units of an Annex B byte stream.
fn split_start_codes(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    let mut starts: Vec<usize> =
        (0..bytes.len().saturating_sub(2)).filter(|at| bytes[*at..*at + 3] == [0, 0, 1]).collect();
    starts.push(bytes.len());
    for pair in starts.windows(2) {
        let mut unit = &bytes[pair[0] + 3..pair[1].min(bytes.len())];
        while unit.last() == Some(&0) {
            unit = &unit[..unit.len() - 1];
        }
        units.push(unit.to_vec());
    }
    units
}

/// NAL units behind 4-byte lengths.
fn split_lengths(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut units = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        units.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    units
}
