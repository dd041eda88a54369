//! The publisher's media: what is sent from when on, at which pace, and what is done when a keyframe is asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    super::{
        SOON,
        clip::{self, Clip},
        wait_until, webrtcbin_may_complain,
    },
    Options, Publisher, Shared, Video,
};

/// A pipeline with what it will send, before it is known to whom.
pub(super) struct Prepared {
    pipeline: gst::Pipeline,
    feeds: Vec<Feed>,
    started: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Prepared {
    pub(super) fn new(description: &str, options: &Options) -> Self {
        gst::init().expect("GStreamer");
        webrtcbin_may_complain();
        let pipeline = gst::parse::launch(description).expect("pipeline");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("pipeline");
        if let Some(stun) = &options.stun {
            pipeline.by_name("webrtc").expect("webrtcbin").set_property("stun-server", stun);
        }
        let started = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared::default());
        let feeds = feeds(&pipeline, options, &started, &shared);
        pipeline.set_state(gst::State::Playing).expect("playing");
        prime(&pipeline, &feeds);
        Self { pipeline, feeds, started, shared }
    }

    pub(super) fn webrtc(&self) -> gst::Element {
        self.pipeline.by_name("webrtc").expect("webrtcbin")
    }

    pub(super) fn start(self, options: Options) -> Publisher {
        let Self { pipeline, feeds, started, shared } = self;
        let pump = {
            let (pipeline, shared) = (pipeline.clone(), shared.clone());
            std::thread::spawn(move || pump(&pipeline, feeds, &started, &shared))
        };
        Publisher { pipeline, resource: Default::default(), options, shared, pump: Some(pump), posted: Instant::now() }
    }
}

/// One track: what is sent, at which pace, into which element.
struct Feed {
    source: gst_app::AppSrc,
    clip: &'static Clip,
    filter: &'static str,
    interval: Duration,
    delay: Duration,
    video: bool,
    next: usize,
    pushed: u32,
}

fn feeds(pipeline: &gst::Pipeline, options: &Options, started: &Arc<AtomicBool>, shared: &Arc<Shared>) -> Vec<Feed> {
    let mut feeds = Vec::new();
    let mut feed = |name: &str, filter: &'static str, clip: &'static Clip, interval: Duration, video: bool| {
        let source = pipeline.by_name(name).and_downcast::<gst_app::AppSrc>().expect("appsrc");
        source.set_caps(Some(&clip.caps));
        feeds.push(Feed {
            source,
            clip,
            filter,
            interval,
            delay: if video { Duration::ZERO } else { options.audio_delay },
            video,
            next: 0,
            pushed: 0,
        });
    };
    if let Some(video) = options.video {
        let clip = options.clips.video.unwrap_or_else(|| match video {
            Video::H264 => clip::h264(),
            Video::Vp8 => clip::vp8(),
            Video::H265 => clip::h265(),
        });
        feed("video", "video_rtp", clip, Duration::from_nanos(1_000_000_000 / clip::FPS), true);
    }
    if options.audio {
        feed("audio", "audio_rtp", options.clips.audio.unwrap_or_else(clip::opus), Duration::from_millis(20), false);
    }
    for (i, feed) in feeds.iter().enumerate() {
        let transceiver: gst_webrtc::WebRTCRTPTransceiver = pipeline
            .by_name("webrtc")
            .expect("webrtcbin")
            .emit_by_name("get-transceiver", &[&i32::try_from(i).expect("few")]);
        transceiver.set_property("direction", gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_property("do-nack", true);
        // What is pushed before the start only makes the payloader fix its caps: its packets stay here.
        let started = started.clone();
        let pad = pipeline.by_name(feed.filter).and_then(|f| f.static_pad("src")).expect("pad");
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            if started.load(SeqCst) { gst::PadProbeReturn::Remove } else { gst::PadProbeReturn::Drop }
        });
        let shared = shared.clone();
        let pad = feed.source.static_pad("src").expect("pad");
        pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if info.event().is_some_and(|event| gst_video::ForceKeyUnitEvent::is(event)) {
                shared.keyframe_requests.fetch_add(1, SeqCst);
                shared.jump.store(true, SeqCst);
            }
            gst::PadProbeReturn::Ok
        });
    }
    feeds
}

/// Lets the payloaders fix their caps, so that the offer holds the SSRCs.
fn prime(pipeline: &gst::Pipeline, feeds: &[Feed]) {
    for feed in feeds {
        let mut buffer = gst::Buffer::from_slice(feed.clip.units[0].data.as_slice());
        buffer.get_mut().expect("new").set_pts(gst::ClockTime::ZERO);
        feed.source.push_buffer(buffer).expect("push");
        let pad = pipeline.by_name(feed.filter).and_then(|f| f.static_pad("src")).expect("pad");
        wait_until("the payloader's caps", SOON, || {
            pad.current_caps().is_some_and(|c| c.structure(0).is_some_and(|s| s.has_field("ssrc"))).then_some(())
        });
    }
}

/// Sends each track at its pace, from the connection on until told to stop.
fn pump(pipeline: &gst::Pipeline, mut feeds: Vec<Feed>, started: &AtomicBool, shared: &Shared) {
    let webrtc = pipeline.by_name("webrtc").expect("webrtcbin");
    let bus = pipeline.bus().expect("bus");
    let mut start: Option<(Instant, gst::ClockTime)> = None;
    while !shared.stop.load(SeqCst) {
        while let Some(message) = bus.pop() {
            match message.view() {
                // Without this webrtcbin's sender reports are wrong.
                gst::MessageView::Latency(_) => drop(pipeline.recalculate_latency()),
                gst::MessageView::Error(e) => {
                    let text = format!("{} {}", e.error(), e.debug().unwrap_or_default());
                    shared.error.lock().expect("error").get_or_insert(text);
                }
                _ => (),
            }
        }
        if start.is_none() {
            let state: gst_webrtc::WebRTCPeerConnectionState = webrtc.property("connection-state");
            if state == gst_webrtc::WebRTCPeerConnectionState::Connected {
                let _ = pipeline.recalculate_latency(); // again, now that the transport is linked
                start = pipeline.current_running_time().map(|now| (Instant::now(), now));
                started.store(true, SeqCst);
            }
        }
        if let Some((from, base)) = start {
            for feed in &mut feeds {
                while from + feed.delay + feed.interval * feed.pushed <= Instant::now() {
                    feed.push(base, shared);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Feed {
    fn push(&mut self, base: gst::ClockTime, shared: &Shared) {
        let units = &self.clip.units;
        if self.video && shared.jump.swap(false, SeqCst) {
            while !units[self.next % units.len()].key {
                self.next += 1;
            }
        }
        let unit = &units[self.next % units.len()];
        let mut buffer = gst::Buffer::from_slice(unit.data.as_slice());
        {
            let buffer = buffer.get_mut().expect("new");
            let interval = gst::ClockTime::try_from(self.interval).expect("short");
            buffer.set_pts(base + interval * u64::from(self.pushed));
            buffer.set_dts(base + interval * u64::from(self.pushed));
            buffer.set_duration(interval);
            if !unit.key {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        if self.video {
            shared.sent.lock().expect("sent").push((Instant::now(), unit.slices));
        }
        let _ = self.source.push_buffer(buffer);
        self.next += 1;
        self.pushed += 1;
    }
}
