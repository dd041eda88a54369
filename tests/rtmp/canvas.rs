//! What rtmpbridgesink makes of pictures and sound of every shape.

#![allow(clippy::unwrap_used)]

use crate::rtmp_support::{Pipeline, Server, Tag, check_recording, pictures, read_flv, sizes, wait_for};
use gst::prelude::*;

const OPUS: &str = "audiotestsrc is-live=true num-buffers=100 samplesperbuffer=960 \
    ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";
const X264: &str = "x264enc tune=zerolatency speed-preset=ultrafast";

fn sink(server: &Server) -> String {
    format!("rtmpbridgesink name=sink location={}", server.url())
}

/// Sends white pictures of these caps, live, and returns the recording's pictures and size.
fn white(caps: &str, encoder: &str, settings: &str) -> (Vec<Vec<u8>>, (u32, u32)) {
    let server = Server::start();
    let source = format!("videotestsrc is-live=true num-buffers=40 pattern=white ! video/x-raw,{caps} {encoder}");
    let mut pipeline = Pipeline::start(&format!("{source} ! sink.video {OPUS} {} {settings}", sink(&server)));
    pipeline.wait_for_eos();
    check_recording(&server.whole_recording());
    let sizes = sizes(&server.whole_recording());
    (pictures(&server.whole_recording()), sizes[0])
}

/// Which part of a row and of a column is white: from, to.
fn white_part(picture: &[u8], (width, height): (u32, u32)) -> ((u32, u32), (u32, u32)) {
    let at = |x: u32, y: u32| picture[(y * width + x) as usize] > 128;
    let part = |length: u32, is_white: &dyn Fn(u32) -> bool| {
        let mut white = (0..length).filter(|place| is_white(*place));
        let from = white.next().unwrap();
        (from, white.last().unwrap_or(from) + 1)
    };
    (part(width, &|x| at(x, height / 2)), part(height, &|y| at(width / 2, y)))
}

fn assert_near(part: (u32, u32), expected: (u32, u32)) {
    let near = part.0.abs_diff(expected.0) <= 3 && part.1.abs_diff(expected.1) <= 3;
    assert!(near, "{part:?} instead of {expected:?}");
}

/// Pictures of three sizes, one after the other.
fn changing(sizes: [(u32, u32); 3], encoder: &str) -> String {
    let source = |(width, height): (u32, u32)| {
        let caps = format!("format=I420,width={width},height={height},framerate=30/1");
        format!("videotestsrc num-buffers=30 pattern=white ! video/x-raw,{caps} {encoder} ! all.")
    };
    let sources: Vec<_> = sizes.into_iter().map(source).collect();
    // Paced, so that they do not all come before the server has answered.
    format!("concat name=all ! identity sync=true ! sink.video {}", sources.join(" "))
}

#[test]
fn change_of_size_passes_with_new_headers_and_metadata() {
    let server = Server::start();
    let there_and_back = [(640, 360), (320, 180), (640, 360)];
    let mut pipeline =
        Pipeline::start(&format!("{} {}", changing(there_and_back, &format!("! {X264}")), sink(&server)));
    pipeline.wait_for_eos();
    let recording = server.whole_recording();
    assert_eq!(sizes(&recording), there_and_back);
    let tags = read_flv(&recording);
    assert_eq!(tags.iter().filter(|tag| tag.is_video_header()).count(), 3);
    assert_eq!(tags.iter().filter(|tag| tag.is_video()).count(), 90);
    let mut header = false;
    for tag in tags.iter().filter(|tag| tag.kind == 9) {
        assert!(!header || tag.is_keyframe(), "a header is followed by a keyframe");
        header = tag.is_video_header();
    }
}

#[test]
fn change_of_size_is_fitted_to_the_first_size_when_transcoding() {
    for encoder in ["", "! vp8enc deadline=1"] {
        let server = Server::start();
        let description = changing([(640, 360), (320, 180), (640, 360)], encoder);
        let mut pipeline = Pipeline::start(&format!("{description} {}", sink(&server)));
        pipeline.wait_for_eos();
        let recording = server.whole_recording();
        assert_eq!(sizes(&recording), [(640, 360)]);
        let pictures = pictures(&recording);
        // A machine that is too slow to encode them in time leaves some out, which is counted.
        let stats = pipeline.sink().property::<gst::Structure>("stats");
        let skipped = stats.get::<u64>("frames-skipped").unwrap() as usize;
        assert_eq!(pictures.len() + skipped, 90, "{stats}");
        assert!(skipped < 45, "{skipped} of 90 left out");
        let at = |sixths: usize| &pictures[pictures.len() * sixths / 6];
        for picture in [at(1), at(3), at(5)] {
            assert_eq!(white_part(picture, (640, 360)), ((0, 640), (0, 360)), "no borders for the same shape");
        }
        assert_eq!(read_flv(&recording).iter().filter(|tag| tag.is_video_header()).count(), 1);
    }
}

#[test]
fn change_of_shape_gets_borders_on_the_canvas() {
    for encoder in ["".to_owned(), format!("! {X264}")] {
        let server = Server::start();
        let description = changing([(640, 360), (320, 240), (180, 320)], &encoder);
        let mut pipeline = Pipeline::start(&format!("{description} {} width=640 height=360", sink(&server)));
        pipeline.wait_for_eos();
        let stats = pipeline.sink().property::<gst::Structure>("stats");
        assert_eq!(stats.get::<bool>("passthrough"), Ok(false), "a canvas asks for transcoding");
        let recording = server.whole_recording();
        assert_eq!(sizes(&recording), [(640, 360)]);
        let pictures = pictures(&recording);
        assert_eq!(white_part(&pictures[15], (640, 360)), ((0, 640), (0, 360)));
        let (row, column) = white_part(&pictures[45], (640, 360));
        assert_near(row, (80, 560));
        assert_eq!(column, (0, 360));
        let (row, _) = white_part(&pictures[75], (640, 360));
        assert_near(row, (219, 421));
    }
}

#[test]
fn pixels_that_are_not_square_keep_their_shape() {
    // 4:3 pixels make it 16:9.
    let anamorphic = "format=I420,width=480,height=360,framerate=30/1,pixel-aspect-ratio=4/3";
    let (pictures, size) = white(anamorphic, "", "width=320 height=180");
    assert_eq!(size, (320, 180));
    assert_eq!(white_part(&pictures[20], size), ((0, 320), (0, 180)));
    let (pictures, size) = white(anamorphic, "", "width=320 height=240");
    let (row, column) = white_part(&pictures[20], size);
    assert_eq!(row, (0, 320));
    assert_near(column, (30, 210));
    assert_eq!(white(anamorphic, "", "width=320").1, (320, 180));
}

#[test]
fn one_side_alone_keeps_the_aspect_and_odd_sides_become_even() {
    let caps = "format=I420,width=640,height=360,framerate=30/1";
    assert_eq!(white(caps, "", "height=240").1, (426, 240));
    assert_eq!(white(caps, "! vp8enc deadline=1", "width=321").1, (320, 180));
    let (pictures, size) = white("format=I420,width=641,height=361,framerate=30/1", "", "");
    assert_eq!(size, (640, 360));
    assert_near(white_part(&pictures[20], size).0, (0, 640));
}

#[test]
fn frame_rate_of_the_canvas_is_kept() {
    for (from, to) in [(120, 30), (15, 30)] {
        let server = Server::start();
        let source = format!(
            "videotestsrc is-live=true num-buffers={} ! video/x-raw,format=I420,width=320,height=180,framerate={from}/1",
            from * 3 / 2
        );
        let mut pipeline = Pipeline::start(&format!("{source} ! sink.video {OPUS} {} framerate={to}/1", sink(&server)));
        pipeline.wait_for_eos();
        check_recording(&server.whole_recording());
        let times: Vec<_> =
            read_flv(&server.whole_recording()).iter().filter(|tag| tag.is_video()).map(|tag| tag.timestamp).collect();
        assert!((42..=46).contains(&times.len()), "{from} to {to}: {} frames in 1.5 s", times.len());
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 34), "{times:?}");
    }
}

#[test]
fn silence_is_not_filled_with_copies_of_the_last_frame() {
    let server = Server::start();
    let mut pipeline = Pipeline::parse(&format!(
        "appsrc name=source format=time caps=video/x-raw,format=I420,width=64,height=64,framerate=30/1 \
         ! sink.video {} framerate=30/1 sync=false",
        sink(&server)
    ));
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    let source = pipeline.pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let push = |from: gst::ClockTime| {
        for index in 0..30 {
            let mut buffer = gst::Buffer::from_slice(vec![128; 64 * 64 * 3 / 2]);
            buffer.get_mut().unwrap().set_pts(from + index * 33.mseconds());
            source.push_buffer(buffer).unwrap();
        }
    };
    push(0.seconds());
    wait_for("the first second", || pipeline.frames() > 20);
    push(3600.seconds());
    source.end_of_stream().unwrap();
    pipeline.wait_for_eos();
    let frames = read_flv(&server.whole_recording()).iter().filter(|tag| tag.is_video()).count();
    assert!((50..120).contains(&frames), "{frames} frames");
}

#[test]
fn pictures_of_every_codec_are_encoded() {
    let size = "width=320,height=180,framerate=30/1";
    let avc = "! openh264enc ! h264parse ! video/x-h264,stream-format=byte-stream";
    for (encoder, settings) in [
        ("! vp8enc deadline=1", ""),
        ("! vp9enc deadline=1 cpu-used=8", ""),
        ("! av1enc usage-profile=realtime cpu-used=10 lag-in-frames=0 target-bitrate=500 max-quantizer=63", ""),
        ("! x265enc tune=zerolatency speed-preset=ultrafast log-level=error", ""),
        (avc, "width=320"),
    ] {
        assert_white(&format!("format=I420,{size}"), encoder, settings);
    }
}

/// Pictures arrive, and white stays white.
fn assert_white(caps: &str, encoder: &str, settings: &str) {
    let (pictures, _) = white(caps, encoder, settings);
    // A machine that has little time leaves many out.
    assert!(pictures.len() > 3, "{caps} {encoder}: {} pictures", pictures.len());
    let middle = &pictures[pictures.len() / 2];
    assert!(middle[middle.len() / 2] > 200, "{caps} {encoder}: white stays white");
}

#[test]
fn raw_pictures_of_every_kind_are_encoded() {
    let size = "width=320,height=180,framerate=30/1";
    for caps in [
        format!("format=I420_10LE,{size}"),
        format!("format=RGB,{size}"),
        format!("format=BGRA,{size}"),
        format!("format=Y444,{size}"),
        "format=NV12,width=321,height=183,framerate=30/1".to_owned(),
        "format=I420,width=320,height=180,framerate=120/1".to_owned(),
        "format=I420,width=18,height=16,framerate=30/1".to_owned(),
    ] {
        assert_white(&caps, "", "");
    }
}

#[test]
fn openh264enc_takes_frames_of_no_constant_rate() {
    let source = "videotestsrc is-live=true num-buffers=40 ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
        ! videorate ! video/x-raw,framerate=0/1";
    let server = Server::start();
    let mut pipeline = Pipeline::start(&format!("{source} ! sink.video {OPUS} {} encoder=openh264enc", sink(&server)));
    pipeline.wait_for_eos();
    check_recording(&server.whole_recording());
    assert!(pictures(&server.whole_recording()).len() > 30);
}

#[test]
fn sound_of_every_kind_becomes_48_khz_stereo() {
    let video =
        "videotestsrc is-live=true num-buffers=40 ! video/x-raw,format=I420,width=320,height=180,framerate=30/1";
    for audio in [
        "audio/x-raw,format=U8,rate=8000,channels=1",
        "audio/x-raw,format=S16LE,rate=11025,channels=1",
        "audio/x-raw,format=F64LE,rate=96000,channels=2",
        "audio/x-raw,format=S24LE,rate=44100,channels=6",
        "audio/x-raw,format=F32LE,rate=22050,channels=8",
        "audio/x-raw,format=S16LE,rate=44100,channels=2,layout=non-interleaved",
        "audio/x-raw,rate=8000,channels=1 ! alawenc",
        "audio/x-raw,rate=8000,channels=1 ! mulawenc",
        "audio/x-raw,rate=48000,channels=1 ! opusenc",
        "audio/x-raw,rate=48000,channels=6 ! opusenc",
    ] {
        let server = Server::start();
        let source = format!("audiotestsrc is-live=true samplesperbuffer=441 num-buffers=200 ! audioconvert ! {audio}");
        let mut pipeline =
            Pipeline::start(&format!("{video} ! {X264} ! sink.video {source} ! sink.audio {}", sink(&server)));
        wait_for("frames of both", || pipeline.frames() > 60);
        pipeline.pipeline.send_event(gst::event::Eos::new());
        pipeline.wait_for_eos();
        let tags = read_flv(&server.whole_recording());
        // AudioSpecificConfig: AAC-LC (2), 48 kHz (3), two channels.
        let header = tags.iter().find(|tag| tag.is_audio_header()).unwrap_or_else(|| panic!("no audio of {audio}"));
        assert_eq!(header.body[2..4], [0x11, 0x90], "{audio}");
        assert!(tags.iter().filter(|tag| tag.is_audio()).count() > 20, "{audio}");
        check_recording(&server.whole_recording());
    }
}

#[test]
fn channels_whose_places_nobody_knows_give_the_first_two() {
    let server = Server::start();
    let mut pipeline = Pipeline::parse(&format!(
        "appsrc name=source is-live=true format=time \
         caps=\"audio/x-raw,format=S16LE,rate=48000,channels=6,layout=interleaved,channel-mask=(bitmask)0\" \
         ! sink.audio {}",
        sink(&server)
    ));
    pipeline.pipeline.set_state(gst::State::Playing).unwrap();
    let source = pipeline.pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    for index in 0..50u64 {
        let mut buffer = gst::Buffer::from_slice(vec![0u8; 960 * 6 * 2]);
        let edit = buffer.get_mut().unwrap();
        edit.set_pts(index * 20.mseconds());
        edit.set_duration(20.mseconds());
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    pipeline.wait_for_eos();
    let tags = read_flv(&server.whole_recording());
    let header = tags.iter().find(|tag| tag.is_audio_header()).unwrap();
    assert_eq!(header.body[2..4], [0x11, 0x90]);
    assert!(tags.iter().filter(|tag| Tag::is_audio(tag)).count() > 30);
}
