//! Timestamps: what RTMP carries, compared frame by frame with what was sent.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::rtmp_support::{Pipeline, Server, Tag, check_recording, read_flv, wait_for};
use gst::prelude::*;

const MS: u64 = 1_000_000;
const VIDEO_STEP: u64 = 33_333_333;
const AUDIO_STEP: u64 = 21_333_333;

/// Encoded frames, to be sent with any timestamps.
struct Media {
    caps: gst::Caps,
    frames: Vec<gst::Buffer>,
}

impl Media {
    fn video(count: usize) -> Self {
        Self::encode(&format!(
            "videotestsrc num-buffers={count} ! video/x-raw,format=I420,width=160,height=90,framerate=30/1 \
             ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 \
             ! h264parse ! video/x-h264,stream-format=avc,alignment=au"
        ))
    }

    fn audio(count: usize) -> Self {
        Self::encode(&format!(
            "audiotestsrc num-buffers={count} samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 \
             ! voaacenc ! aacparse ! audio/mpeg,stream-format=raw"
        ))
    }

    fn encode(description: &str) -> Self {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(&format!("{description} ! appsink name=out sync=false")).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let out = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let samples: Vec<_> = std::iter::from_fn(|| out.pull_sample().ok()).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        let caps = samples[0].caps_owned().unwrap();
        Self { caps, frames: samples.iter().map(|sample| sample.buffer_owned().unwrap()).collect() }
    }

    fn frame(&self, index: usize, at: Option<u64>) -> gst::Buffer {
        let mut buffer = self.frames[index].clone();
        let edit = buffer.make_mut();
        edit.set_pts(at.map(gst::ClockTime::from_nseconds));
        edit.set_dts(gst::ClockTime::NONE);
        buffer
    }
}

/// A live pipeline of two appsrcs.
struct Sender {
    pipeline: Pipeline,
    video: gst_app::AppSrc,
    audio: gst_app::AppSrc,
}

impl Sender {
    fn start(server: &Server, video: &gst::Caps, audio: &gst::Caps) -> Self {
        let source = |name| format!("appsrc name={name} is-live=true format=time max-bytes=0 ! sink.{name}");
        let pipeline = Pipeline::parse(&format!(
            "{} {} rtmpbridgesink name=sink location={}",
            source("video"),
            source("audio"),
            server.url()
        ));
        let source = |name| pipeline.pipeline.by_name(name).unwrap().downcast::<gst_app::AppSrc>().unwrap();
        let (video_source, audio_source) = (source("video"), source("audio"));
        video_source.set_caps(Some(video));
        audio_source.set_caps(Some(audio));
        pipeline.pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, video: video_source, audio: audio_source }
    }

    fn finish(&mut self) {
        self.video.end_of_stream().unwrap();
        self.audio.end_of_stream().unwrap();
        self.pipeline.wait_for_eos();
    }

    fn repairs(&self) -> gst::Structure {
        self.pipeline.sink().property::<gst::Structure>("stats").get("timestamp-repairs").unwrap()
    }

    fn repaired(&self) -> u64 {
        self.pipeline.sink().property::<gst::Structure>("stats").get("timestamps-repaired").unwrap()
    }
}

fn times(server: &Server, is: fn(&Tag) -> bool) -> Vec<u64> {
    let tags = read_flv(&server.recording());
    tags.iter().filter(|tag| is(tag)).map(|tag| u64::from(tag.timestamp)).collect()
}

#[test]
fn frames_that_come_late_keep_their_timestamps() {
    let server = Server::start();
    let (video, audio) = (Media::video(90), Media::audio(140));
    let mut sender = Sender::start(&server, &video.caps, &audio.caps);
    // One in ten up to 200 ms late, and with it those behind it.
    let mut order: Vec<(u64, bool, usize)> = Vec::new();
    for index in 0..90 {
        let late = if index % 10 == 4 { (index as u64 * 37) % 200 } else { 0 };
        order.push((index as u64 * VIDEO_STEP + late * MS, true, index));
    }
    for index in 0..140 {
        let late = if index % 10 == 7 { (index as u64 * 53) % 200 } else { 0 };
        order.push((index as u64 * AUDIO_STEP + late * MS, false, index));
    }
    // A track stays in order.
    let mut latest = [0; 2];
    for (due, is_video, _) in &mut order {
        let latest = &mut latest[usize::from(*is_video)];
        *latest = (*due).max(*latest);
        *due = *latest;
    }
    order.sort_by_key(|(due, is_video, index)| (*due, !is_video, *index));
    let start = Instant::now();
    for (due, is_video, index) in order {
        std::thread::sleep((start + Duration::from_nanos(due)).saturating_duration_since(Instant::now()));
        let (source, media, step) =
            if is_video { (&sender.video, &video, VIDEO_STEP) } else { (&sender.audio, &audio, AUDIO_STEP) };
        source.push_buffer(media.frame(index, Some(index as u64 * step))).unwrap();
    }
    wait_for("all frames", || sender.pipeline.frames() >= 229);
    assert_eq!(sender.repaired(), 0, "{}", sender.repairs());
    sender.finish();
    let expected = |count: u64, step| (0..count).map(|index| index * step / MS).collect::<Vec<_>>();
    assert_eq!(times(&server, Tag::is_video), expected(90, VIDEO_STEP));
    assert_eq!(times(&server, Tag::is_audio), expected(140, AUDIO_STEP));
}

#[test]
fn jumps_of_hours_go_on_as_if_nothing_were() {
    let server = Server::start();
    let (video, audio) = (Media::video(90), Media::audio(140));
    let mut sender = Sender::start(&server, &video.caps, &audio.caps);
    let hour = 3600 * 1000 * MS;
    // After a second two hours ahead, after another one back to the beginning.
    let jump = |at: u64| match at / (1000 * MS) {
        0 => at + hour,
        1 => at + 3 * hour,
        _ => at - 2000 * MS,
    };
    let mut order: Vec<_> = (0..90).map(|index| (index as u64 * VIDEO_STEP, true, index)).collect();
    order.extend((0..140).map(|index| (index as u64 * AUDIO_STEP, false, index)));
    order.sort_by_key(|(at, is_video, _)| (*at, !is_video));
    for (sent, (at, is_video, index)) in order.into_iter().enumerate() {
        let (source, media) = if is_video { (&sender.video, &video) } else { (&sender.audio, &audio) };
        source.push_buffer(media.frame(index, Some(jump(at)))).unwrap();
        // In step, as a source's are: two queues have no order between them.
        wait_for("the frame", || sender.pipeline.frames() + 2 >= sent as u64);
    }
    wait_for("all frames", || sender.pipeline.frames() >= 229);
    let repairs = sender.repairs();
    assert_eq!(repairs.get::<u64>("jump"), Ok(2), "{repairs}");
    assert_eq!(sender.repaired(), 2, "{repairs}");
    sender.finish();
    check_recording(&server.recording());
    let (video, audio) = (times(&server, Tag::is_video), times(&server, Tag::is_audio));
    assert_eq!((video.len(), audio.len()), (90, 140));
    // The clock says when a jump ends; the tracks keep together, whatever it says.
    for (name, times, step) in [("video", &video, VIDEO_STEP), ("audio", &audio, AUDIO_STEP)] {
        let off = |index: usize| times[index] as i64 - (index as u64 * step / MS) as i64;
        let worst = (0..times.len()).map(off).max_by_key(|off| off.abs()).unwrap();
        assert!(worst.abs() < 250, "{name} is {worst} ms off");
    }
    let end = |times: &[u64], step: u64| *times.last().unwrap() as i64 - ((times.len() - 1) as u64 * step / MS) as i64;
    let apart = end(&video, VIDEO_STEP) - end(&audio, AUDIO_STEP);
    assert!(apart.abs() <= 1, "the tracks are {apart} ms apart");
}

#[test]
fn steps_back_and_duplicates_are_moved_up_and_counted() {
    let server = Server::start();
    let (video, audio) = (Media::video(60), Media::audio(90));
    let mut sender = Sender::start(&server, &video.caps, &audio.caps);
    let mut expected = Vec::new();
    for index in 0..60u64 {
        let at = index * 40;
        let (sent, arrives) = match index {
            20 => (at - 40, at - 40 + 1),  // as the one before
            30 => (at - 300, at - 40 + 1), // back
            _ => (at, at),
        };
        expected.push(arrives);
        sender.video.push_buffer(video.frame(index as usize, Some(sent * MS))).unwrap();
        if index == 0 {
            wait_for("the connection", || sender.pipeline.frames() == 1); // nothing is left out from here on
        }
    }
    for index in 0..90u64 {
        sender.audio.push_buffer(audio.frame(index as usize, Some(index * AUDIO_STEP))).unwrap();
    }
    wait_for("all frames", || sender.pipeline.frames() >= 149);
    let repairs = sender.repairs();
    assert_eq!((repairs.get::<u64>("duplicate"), repairs.get::<u64>("backward")), (Ok(1), Ok(1)), "{repairs}");
    sender.finish();
    assert_eq!(times(&server, Tag::is_video), expected);
}

#[test]
fn raw_media_that_jump_back_an_hour_are_encoded_without_a_hole() {
    let server = Server::start();
    let (video_caps, audio_caps) = (
        "video/x-raw,format=I420,width=64,height=64,framerate=25/1",
        "audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved",
    );
    let caps = |caps: &str| caps.parse::<gst::Caps>().unwrap();
    Pipeline::parse("fakesink"); // initialises GStreamer
    let mut sender = Sender::start(&server, &caps(video_caps), &caps(audio_caps));
    let raw = |bytes: usize, at: u64, step: u64| {
        let mut buffer = gst::Buffer::from_slice(vec![0x55; bytes]);
        let edit = buffer.get_mut().unwrap();
        edit.set_pts(gst::ClockTime::from_mseconds(at));
        edit.set_duration(gst::ClockTime::from_mseconds(step));
        buffer
    };
    for index in 0..100u64 {
        let base = if index < 50 { 3_600_000 } else { 0 };
        sender.video.push_buffer(raw(64 * 64 * 3 / 2, base + index * 40, 40)).unwrap();
        for half in 0..2 {
            sender.audio.push_buffer(raw(20 * 48 * 4, base + index * 40 + half * 20, 20)).unwrap();
        }
        // No faster than they can be encoded: a live source's are dropped.
        let recorded = || if server.recordings().is_empty() { 0 } else { times(&server, Tag::is_video).len() };
        wait_for("the picture", || recorded() as u64 + 2 >= index);
    }
    sender.finish();
    check_recording(&server.recording());
    let (video, audio) = (times(&server, Tag::is_video), times(&server, Tag::is_audio));
    assert!(video.len() > 95 && audio.len() > 180, "{} pictures, {} frames", video.len(), audio.len());
    for times in [&video, &audio] {
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 300), "{times:?}");
        assert!((3_800..4_400).contains(times.last().unwrap()), "{times:?}");
    }
}

#[test]
fn frames_without_timestamps_are_given_some() {
    let server = Server::start();
    let (video, audio) = (Media::video(30), Media::audio(46));
    let mut sender = Sender::start(&server, &video.caps, &audio.caps);
    for index in 0..46usize {
        if index < 30 {
            let at = (index % 3 != 2).then_some(index as u64 * VIDEO_STEP);
            sender.video.push_buffer(video.frame(index, at)).unwrap();
        }
        sender.audio.push_buffer(audio.frame(index, Some(index as u64 * AUDIO_STEP))).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_for("all frames", || sender.pipeline.frames() >= 75);
    sender.finish();
    let video = times(&server, Tag::is_video);
    assert_eq!(video.len(), 30);
    assert!(video.is_sorted() && *video.last().unwrap() < 2000, "{video:?}");
}

/// A file of a second.
fn file(dir: &std::path::Path) -> std::path::PathBuf {
    let file = dir.join("in.mp4");
    let mut pipeline = Pipeline::start(&format!(
        "mp4mux name=mux ! filesink location={} \
         videotestsrc num-buffers=30 ! video/x-raw,format=I420,width=160,height=90,framerate=30/1 \
         ! x264enc speed-preset=ultrafast key-int-max=10 bframes=2 ! mux. \
         audiotestsrc num-buffers=43 ! audio/x-raw,rate=44100,channels=2 ! voaacenc ! mux.",
        file.display()
    ));
    pipeline.wait_for_eos();
    file
}

#[test]
fn file_goes_out_in_real_time_and_again_after_a_seek() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let description = format!(
        "filesrc location={} ! qtdemux : rtmpbridgesink name=sink location={}",
        file(dir.path()).display(),
        server.url()
    );
    let mut pipeline = Pipeline::start(&description);
    for _ in 0..2 {
        let start = Instant::now();
        pipeline.wait_for_eos();
        assert!(start.elapsed() > Duration::from_millis(800), "it took {:?}", start.elapsed());
        pipeline.pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
    }
    pipeline.wait_for_eos();
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 3, "each run is a stream of its own");
    for recording in &recordings {
        check_recording(recording);
        let pictures = read_flv(recording).iter().filter(|tag| tag.is_video()).count();
        assert_eq!(pictures, 30, "{recording:?}");
    }
    let stats = pipeline.sink().property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u64>("timestamps-repaired"), Ok(0), "{stats}");
}

#[test]
fn pictures_of_a_file_without_decoding_times_are_shown_when_they_should() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.mkv");
    let mut pipeline = Pipeline::start(&format!(
        "videotestsrc num-buffers=45 ! video/x-raw,format=I420,width=160,height=90,framerate=25/1 \
         ! x264enc speed-preset=ultrafast key-int-max=45 bframes=2 b-adapt=false ! h264parse ! matroskamux \
         ! filesink location={}",
        file.display()
    ));
    pipeline.wait_for_eos();
    let mut pipeline = Pipeline::start(&format!(
        "filesrc location={} ! matroskademux : {}",
        file.display(),
        "rtmpbridgesink name=sink location=".to_owned() + &server.url()
    ));
    pipeline.wait_for_eos();
    let tags = read_flv(&server.recording());
    let mut shown: Vec<_> = tags
        .iter()
        .filter(|tag| tag.is_video())
        .map(|tag| tag.timestamp + u32::from_be_bytes([0, tag.body[2], tag.body[3], tag.body[4]]))
        .collect();
    assert_eq!(shown.len(), 45);
    shown.sort_unstable();
    // The first group of two is shown late: how much is reordered has to be seen first.
    let late = (4..45).filter(|at| shown[*at as usize] != at * 40).collect::<Vec<u32>>();
    assert!(late.is_empty(), "{late:?} of {shown:?}");
}

#[test]
fn seek_while_live_goes_on_in_the_same_stream() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let description = format!(
        "filesrc location={} ! qtdemux : rtmpbridgesink name=sink location={}",
        file(dir.path()).display(),
        server.url()
    );
    let mut pipeline = Pipeline::start(&description);
    pipeline.wait_for_state("live");
    wait_for("half of it", || pipeline.frames() > 35);
    let start = Instant::now();
    pipeline.pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
    pipeline.wait_for_eos();
    assert!((800..3000).contains(&start.elapsed().as_millis()), "in real time: {:?}", start.elapsed());
    assert_eq!(server.recordings().len(), 1);
    check_recording(&server.recording());
    for is in [Tag::is_video as fn(&Tag) -> bool, Tag::is_audio] {
        let times = times(&server, is);
        assert!(times.windows(2).all(|pair| (1..300).contains(&(pair[1] - pair[0]))), "{times:?}");
        assert!(*times.last().unwrap() > 1200, "{times:?}");
    }
}
