//! `webrtcegress` as a server: what viewers get of raw and of encoded media, and when.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    countered::Countered,
    egress::{Egress, pictures, units},
    flv::hash_slices,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    viewer::{Stream, Viewer, Wants},
    wait_until,
};
use gst::prelude::*;

const H264: u8 = 102;
const VP8: u8 = 96;
const OPUS: u8 = 111;

const VIDEO: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1";
const SOUND: &str = "audiotestsrc is-live=true ! out.audio_0";

fn only(format: (&'static str, u8, &'static str)) -> Wants {
    Wants { formats: vec![("audio/opus", OPUS, "minptime=10;useinbandfec=1"), format], ..Wants::default() }
}

/// From capture to arrival at the least, in seconds, with an offset that is the same for all streams of a connection.
fn transit(stream: &Stream, clock_rate: f64, start: Instant) -> f64 {
    let (ntp, rtp) = *stream.reports.last().expect("a report");
    let transits = stream.packets.values().map(|packet| {
        let since = f64::from(packet.timestamp.wrapping_sub(rtp).cast_signed()) / clock_rate;
        packet.at.duration_since(start).as_secs_f64() - (ntp as f64 / 2f64.powi(32) + since)
    });
    transits.fold(f64::MAX, f64::min)
}

#[test]
fn raw_media_reach_a_viewer_at_once_in_sync_and_in_what_every_browser_decodes() {
    let egress = Egress::start("", &format!("{VIDEO} ! out.video_0 {SOUND}"));
    let start = Instant::now();
    let (viewer, resource) = egress.view(Wants::default());
    viewer.wait_connected();
    let connected = Instant::now();
    wait_until("a picture", SOON, || (!pictures(&viewer.stream(H264)).is_empty()).then_some(()));
    assert!(connected.elapsed() < Duration::from_millis(500), "{:?}", connected.elapsed());
    wait_until("reports of both", SOON, || {
        let both = [H264, OPUS].map(|stream| viewer.stream(stream).reports.len());
        both.iter().all(|count| *count > 1).then_some(())
    });
    let (video, audio) = (viewer.stream(H264), viewer.stream(OPUS));
    let apart = transit(&video, 90_000.0, start) - transit(&audio, 48_000.0, start);
    assert!(apart.abs() < 0.1, "what was captured together came {apart} s apart");
    assert!(video.missing().is_empty() && audio.missing().is_empty());
    let first = units(&video).into_iter().next().expect("a picture");
    let kinds: Vec<u8> = first.iter().map(|unit| unit[0] & 31).filter(|kind| *kind != 6 && *kind != 9).collect();
    assert!(kinds.starts_with(&[7, 8]) && kinds.contains(&5), "no parameter sets and IDR: {kinds:?}");
    let sps = first.iter().find(|unit| unit[0] & 31 == 7).expect("an SPS");
    assert!(sps[1] == 66 && sps[2] & 0x40 != 0, "not constrained baseline: {:x?}", &sps[1..4]);
    assert_eq!(egress.state(), "connected");
    assert_eq!(egress.track("video_0").get::<&str>("codec"), Ok("H264"));
    resource.delete();
    wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
    assert_eq!(egress.error(), None);
}

#[test]
fn nothing_is_encoded_as_long_as_nobody_watches_and_the_next_viewer_gets_a_picture_at_once() {
    let egress = Egress::start("", &format!("{VIDEO} ! out.video_0 {SOUND}"));
    let unwatched = || egress.track("video_0").get::<u64>("unwatched").expect("a count");
    wait_until("frames", SOON, || (unwatched() > 10).then_some(()));
    assert!(egress.track("video_0").get::<&str>("encoder").is_err(), "an encoder for nobody");
    let (first, resource) = egress.view(Wants::default());
    wait_until("a picture", SOON, || (first.count(H264) > 0).then_some(()));
    resource.delete();
    wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
    let before = unwatched();
    wait_until("frames for nobody", SOON, || (unwatched() > before + 10).then_some(()));
    let (second, _) = egress.view(Wants::default());
    second.wait_connected();
    let connected = Instant::now();
    wait_until("a picture", SOON, || (!pictures(&second.stream(H264)).is_empty()).then_some(()));
    assert!(connected.elapsed() < Duration::from_millis(500), "{:?}", connected.elapsed());
}

#[test]
fn a_late_viewer_gets_a_picture_and_requests_of_many_become_one() {
    let egress = Egress::start("", &format!("{VIDEO} ! out.video_0"));
    let requests = || egress.track("video_0").get::<u64>("keyframe-requests").expect("a count");
    let (first, _) = egress.view(Wants::default());
    wait_until("pictures", SOON, || (pictures(&first.stream(H264)).len() > 60).then_some(()));
    let keyframes = |stream: &Stream| units(stream).iter().filter(|p| p.iter().any(|u| u[0] & 31 == 5)).count();
    let before = keyframes(&first.stream(H264));
    assert!(before <= 2, "{before} keyframes that nobody asked for");
    let (late, _) = egress.view(Wants::default());
    late.wait_connected();
    let connected = Instant::now();
    wait_until("a picture for the late one", SOON, || (late.count(H264) > 0).then_some(()));
    assert!(connected.elapsed() < Duration::from_millis(500), "{:?}", connected.elapsed());
    let asked = requests();
    let viewers: Vec<_> = (0..5).map(|_| egress.view(Wants::default()).0).collect();
    for viewer in &viewers {
        wait_until("a picture for each", SOON, || (viewer.count(H264) > 0).then_some(()));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        viewers.iter().for_each(|viewer| viewer.request_keyframe(H264));
        std::thread::sleep(Duration::from_millis(10)); // a flood of requests is the point
    }
    let more = requests() - asked;
    assert!(more <= 12, "{more} requests reached the encoder");
    assert_eq!(egress.error(), None);
}

#[test]
fn encoded_video_arrives_bit_for_bit() {
    // A parser behind the tee, so that what is hashed is what was encoded.
    let source = format!(
        "{VIDEO} ! x264enc tune=zerolatency key-int-max=30 bitrate=1500 name=enc ! \
         video/x-h264,profile=main,stream-format=avc ! tee name=t ! queue ! appsink name=sent sync=false \
         t. ! queue ! out.video_0"
    );
    let egress = Egress::start("", &source);
    let sent: Arc<Mutex<Vec<u64>>> = Arc::default();
    let hashes = sent.clone();
    let appsink = egress.pipeline.by_name("sent").expect("sent").downcast::<gst_app::AppSink>().expect("an appsink");
    appsink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let map = sample.buffer().expect("a buffer").map_readable().expect("readable");
                let (mut nals, mut rest) = (Vec::new(), &map[..]);
                while rest.len() > 4 {
                    let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                    nals.push(&rest[4..4 + length]);
                    rest = &rest[4 + length..];
                }
                hashes.lock().expect("lock").push(hash_slices(&nals));
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let (viewer, _) = egress.view(Wants::default());
    let got = wait_until("a hundred pictures", SOON, || {
        let mut got = pictures(&viewer.stream(H264));
        got.pop();
        (got.len() >= 100).then_some(got)
    });
    assert_eq!(egress.track("video_0").get::<&str>("encoder"), Ok("passthrough"));
    let sent = sent.lock().expect("lock").clone();
    assert!(sent.windows(got.len()).any(|run| run == got), "{} pictures are no part of what was sent", got.len());
}

#[test]
fn the_first_viewer_decides_on_the_codec_and_who_cannot_take_it_is_told_what_there_is() {
    let egress = Egress::start("", &format!("{VIDEO} ! out.video_0 {SOUND}"));
    let (first, resource) = egress.view(only(("video/VP8", VP8, "")));
    wait_until("VP8", SOON, || (first.count(VP8) > 20).then_some(()));
    assert_eq!(egress.track("video_0").get::<&str>("codec"), Ok("VP8"));
    let (also, other) = egress.view(Wants::default());
    wait_until("VP8 for one that takes more", SOON, || (also.count(VP8) > 20).then_some(()));
    let h264 = ("video/H264", H264, "packetization-mode=1;profile-level-id=42e01f");
    let countered = Countered::post(&egress.url(), Viewer::new(only(h264)).offer());
    assert!(countered.offer.contains("VP8/90000") && !countered.offer.contains("H264"), "{}", countered.offer);
    let answering = Viewer::answering(Wants::default(), &countered.offer);
    assert_eq!(countered.answer(answering.answer()), 204);
    wait_until("VP8 for one that has it all the same", SOON, || {
        (answering.count(countered.payload_type("VP8/90000")) > 20).then_some(())
    });
    assert_eq!(countered.delete(), 200);
    resource.delete();
    other.delete();
    wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
    let (another, _) = egress.view(only(h264));
    wait_until("H.264 for the next first one", SOON, || (another.count(H264) > 20).then_some(()));
    assert_eq!(egress.error(), None);
}

#[test]
fn who_offers_nothing_of_use_may_choose_from_all_that_can_be_made_and_his_choice_holds_for_all() {
    let egress = Egress::start("video-codecs=<H264,VP8,VP9>", &format!("{VIDEO} ! out.video_0 {SOUND}"));
    let useless = Viewer::new(only(("video/H265", 104, "profile-id=1;tier-flag=0;level-id=93")));
    let counter = || Countered::post(&egress.url(), useless.offer());
    let [first, late] = [counter(), counter()];
    for codec in ["H264/90000", "VP8/90000", "VP9/90000", "opus/48000"] {
        assert!(first.offer.contains(codec), "{codec}: {}", first.offer);
    }
    let takes = |format, countered: &Countered| Viewer::answering(only(format), &countered.offer);
    let answering = takes(("video/VP8", VP8, ""), &first);
    assert_eq!(first.answer(answering.answer()), 204);
    for (codec, more) in [("VP8/90000", 20), ("opus/48000", 20)] {
        let number = first.payload_type(codec);
        wait_until(codec, SOON, || (answering.count(number) > more).then_some(()));
    }
    assert_eq!(egress.track("video_0").get::<&str>("codec"), Ok("VP8"));
    // What was offered before that is not to be had any more.
    let other = takes(("video/H264", H264, "packetization-mode=1;profile-level-id=42e01f"), &late);
    assert_eq!(late.answer(other.answer()), 422);
    assert_eq!(egress.stats().get::<u32>("viewers"), Ok(1));
    assert_eq!(first.delete(), 200);
    wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
    let again = counter();
    let next = takes(("video/H264", H264, "packetization-mode=1;profile-level-id=42e01f"), &again);
    assert_eq!(again.answer(next.answer()), 204);
    let number = again.payload_type("H264/90000");
    wait_until("H.264 for the next first one", SOON, || (next.count(number) > 20).then_some(()));
    assert_eq!(egress.error(), None);
}

/// Raw video becomes this codec, and goes on.
fn assert_video_is_made(name: &str, mime: &'static str, fmtp: &'static str) {
    let small = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=15/1";
    let egress = Egress::start(&format!("video-codecs=<{name}>"), &format!("{small} ! out.video_0"));
    let (viewer, _) = egress.view(only((mime, 100, fmtp)));
    wait_until(name, SOON, || (viewer.count(100) > 20).then_some(()));
    assert_eq!(egress.track("video_0").get::<&str>("codec"), Ok(name));
    // One that comes later too.
    let (late, _) = egress.view(only((mime, 100, fmtp)));
    wait_until(name, SOON, || (late.count(100) > 5).then_some(()));
    assert_eq!(egress.error(), None);
}

#[test]
fn vp8_is_made_of_raw_video() {
    assert_video_is_made("VP8", "video/VP8", "");
}

#[test]
fn vp9_is_made_of_raw_video() {
    assert_video_is_made("VP9", "video/VP9", "profile-id=0");
}

#[test]
fn av1_is_made_of_raw_video() {
    assert_video_is_made("AV1", "video/AV1", "level-idx=5;profile=0;tier=0");
}

#[test]
fn h265_is_made_of_raw_video() {
    assert_video_is_made("H265", "video/H265", "profile-id=1;tier-flag=0;level-id=93;tx-mode=SRST");
}

#[test]
fn g711_is_made_of_raw_audio() {
    for (name, mime, payload_type) in [("PCMU", "audio/PCMU", 0), ("PCMA", "audio/PCMA", 8)] {
        let egress = Egress::start(&format!("audio-codecs=<{name}>"), SOUND);
        let (viewer, _) = egress.view(Wants { formats: vec![(mime, payload_type, "")], ..Wants::default() });
        wait_until(name, SOON, || (viewer.count(payload_type) > 20).then_some(()));
        let stream = viewer.stream(payload_type);
        assert!(stream.packets.values().all(|packet| packet.payload.len() == 160), "20 ms in a packet");
    }
}

#[test]
fn a_file_plays_in_real_time_whoever_watches() {
    let file = "videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! out.video_0 \
                audiotestsrc num-buffers=94 samplesperbuffer=1024 ! audio/x-raw,rate=48000 ! out.audio_0";
    for watched in [false, true] {
        let began = Instant::now();
        let egress = Egress::start("", file);
        let viewer = watched.then(|| egress.view(Wants::default()).0);
        wait_until("the end", SOON, || egress.saw_eos().then_some(()));
        let took = began.elapsed();
        assert!((Duration::from_millis(1800)..Duration::from_millis(5000)).contains(&took), "{took:?}");
        if let Some(viewer) = viewer {
            let stream = viewer.stream(H264);
            let last = stream.packets.values().next_back().expect("packets");
            assert!(last.at.duration_since(began) > Duration::from_millis(1800), "all at once");
        }
        assert_eq!(egress.error(), None);
    }
}

#[test]
fn the_end_comes_within_three_seconds_without_viewers_pads_or_media() {
    for sources in ["", "videotestsrc is-live=true ! out.video_0", "appsrc is-live=true caps=audio/x-raw ! out.audio_0"]
    {
        let egress = Egress::start("", sources);
        egress.url();
        let asked = Instant::now();
        // As gst-launch -e does.
        assert!(egress.pipeline.send_event(gst::event::Eos::new()) || sources.is_empty());
        if sources.is_empty() {
            assert!(egress.element.send_event(gst::event::Eos::new()));
        }
        wait_until("the end", Duration::from_secs(3), || egress.saw_eos().then_some(()));
        assert!(asked.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn no_pipeline_waits_for_it_in_async() {
    let egress = Egress::start("", "appsrc is-live=false caps=video/x-raw ! out.video_0 ");
    let (result, state, _) = egress.pipeline.state(gst::ClockTime::from_mseconds(500));
    assert_eq!((result.is_ok(), state), (true, gst::State::Playing));
    let mut query = gst::query::Latency::new();
    assert!(egress.element.query(&mut query));
    drop(egress);
    let live = Egress::start("", &format!("{VIDEO} ! out.video_0"));
    wait_until("a live source's latency", SOON, || {
        let mut query = gst::query::Latency::new();
        (live.element.query(&mut query) && query.result().0).then_some(())
    });
}

#[test]
fn who_changes_the_uri_of_an_element_at_work_is_told_that_it_is_too_late() {
    let egress = Egress::start("", &format!("{VIDEO} ! out.video_0"));
    let ingest = Ingest::start("");
    let both = [
        (&egress.pipeline, "out", "whep://127.0.0.1:0/whep/other"),
        (&ingest.pipeline, "in", "whip://127.0.0.1:0/whip/other"),
    ];
    for (pipeline, name, uri) in both {
        let element = pipeline.by_name(name).expect("the element");
        let flags = element.find_property("uri").expect("a property").flags().bits();
        assert_ne!(flags & gst::ffi::GST_PARAM_MUTABLE_READY as u32, 0, "{name}");
        element.set_property("uri", uri);
        let bus = pipeline.bus().expect("a bus");
        let warning = wait_until("a warning", SOON, || match bus.pop_filtered(&[gst::MessageType::Warning])?.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        });
        assert!(warning.contains("uri") && warning.contains("next start"), "{warning}");
        let handler = element.dynamic_cast::<gst::URIHandler>().expect("an URI handler");
        let refused = handler.set_uri(uri).unwrap_err();
        assert!(refused.matches(gst::URIError::BadState), "{refused}");
        // As it was said.
        pipeline.set_state(gst::State::Ready).expect("stopped");
        pipeline.set_state(gst::State::Playing).expect("playing again");
        let element = pipeline.by_name(name).expect("the element");
        wait_until("the other path", SOON, || {
            let url = element.property::<gst::Structure>("stats").get::<String>("url").ok()?;
            url.ends_with("/other").then_some(())
        });
    }
}

#[test]
fn who_hears_of_a_new_part_may_look_at_the_whole() {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let element = gst::ElementFactory::make("webrtcegress").build().expect("the element");
    let bin = element.clone().downcast::<gst::Bin>().expect("a bin");
    bin.connect_element_added(|bin, _| _ = bin.property::<gst::Structure>("stats"));
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(element.request_pad_simple("video_%u").is_some()));
    assert_eq!(told.recv_timeout(SOON), Ok(true));
}

#[test]
fn viewers_are_counted_and_one_too_many_is_not_let_in() {
    let egress = Egress::start("max-viewers=2 auth-token=secret", &format!("{VIDEO} ! out.video_0"));
    let Err(refused) = egress.try_view(Wants::default(), None) else { panic!("without a token") };
    assert_eq!(refused.status, 401);
    let seen: HashSet<_> = (0..2).map(|_| egress.try_view(Wants::default(), Some("secret")).is_ok()).collect();
    assert_eq!(seen, HashSet::from([true]), "their viewers are gone, their sessions are not yet");
    let Err(refused) = egress.try_view(Wants::default(), Some("secret")) else { panic!("a third") };
    assert!(refused.body.contains("2 viewers"), "{refused:?}");
    assert_eq!(egress.stats().get::<u64>("viewers-total"), Ok(2));
    assert_eq!(egress.element.property::<Option<String>>("auth-token").as_deref(), Some("***"));
}

#[test]
fn x264_follows_what_the_network_carries_down_and_up_again() {
    assert_follows("H264", H264);
}

#[test]
fn libvpx_follows_what_the_network_carries_down_and_up_again() {
    assert_follows("VP8", VP8);
}

fn assert_follows(codec: &str, payload_type: u8) {
    let egress = Egress::start(
        &format!("video-bitrate=2000000 video-codecs=<{codec}>"),
        "videotestsrc is-live=true pattern=snow ! video/x-raw,width=640,height=360,framerate=30/1 ! out.video_0",
    );
    let limit = Arc::new(AtomicU64::new(u64::MAX));
    // A policer with a quarter of a second's room.
    let (limited, mut room, mut last) = (limit.clone(), 0.0_f64, Instant::now());
    let path = LossyPath::new(move |direction, datagram| {
        if direction == Direction::ToBridge {
            return false;
        }
        let rate = limited.load(SeqCst) as f64 / 8.0;
        room = (room + rate * last.elapsed().as_secs_f64()).min(rate / 4.0);
        last = Instant::now();
        let passes = room >= datagram.len() as f64;
        if passes {
            room -= datagram.len() as f64;
        }
        !passes
    });
    let bitrate = || egress.track("video_0").get::<u32>("bitrate").unwrap_or(0);
    let (viewer, _) = egress.view(Wants { path: Some(path.clone()), ..Wants::default() });
    wait_until("all of it", SOON, || (bitrate() == 2_000_000).then_some(()));
    limit.store(500_000, SeqCst);
    let throttled = Instant::now();
    wait_until("a rate that fits", SOON, || (bitrate() < 500_000).then_some(()));
    let told = throttled.elapsed();
    // What it is told is what it makes: of a second, with what a keyframe may add.
    wait_until("as much as fits", SOON, || {
        let stream = viewer.stream(payload_type);
        let newest = stream.packets.values().next_back()?.at;
        let recent = stream.packets.values().filter(|packet| newest - packet.at < Duration::from_secs(1));
        let bits: usize = recent.map(|packet| packet.payload.len() * 8).sum();
        (bits < 500_000).then_some(())
    });
    assert!(told < Duration::from_secs(3), "{told:?}");
    limit.store(u64::MAX, SeqCst);
    let free = Instant::now();
    wait_until("all of it again", SOON, || (bitrate() == 2_000_000).then_some(()));
    assert!(free.elapsed() < Duration::from_secs(10), "{:?}", free.elapsed());
    assert!(viewer.count(payload_type) > 0);
    let keyframes = egress.track("video_0").get::<u64>("keyframe-requests").expect("a count");
    assert!(keyframes < 40, "{keyframes} keyframes were asked for");
    path.stop();
}

#[test]
fn our_own_client_watches_what_is_served() {
    let egress = Egress::start("", &format!("{VIDEO} ! out.video_0 {SOUND}"));
    let watcher = Egress::parse(&format!(
        "webrtcingest name=in uri={} ice-udp-port={} in.video_0 ! fakesink name=v async=false in.audio_0 ! fakesink name=a async=false",
        egress.url().replace("http://", "whep://"),
        crate::common::free_udp_port()
    ));
    wait_until("frames", SOON, || {
        let stats = watcher.by_name("in").expect("in").property::<gst::Structure>("stats");
        (stats.get::<u64>("frames").ok()? > 100).then_some(())
    });
    watcher.set_state(gst::State::Null).expect("stopped");
    wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
}
