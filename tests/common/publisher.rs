//! A WHIP publisher inside the test process: GStreamer's webrtcbin, fed in real time from encoded media in memory.
//!
//! Media starts with a keyframe once connected, as a browser's encoder does; a PLI makes it jump to the next keyframe.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gst::prelude::*;

use super::{
    SOON,
    clip::{self, Clip},
    http,
    lossy::LossyPath,
    wait_until,
};

/// What to publish, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub video: Option<Video>,
    pub audio: bool,
    /// Whether the offer names candidates; OBS's names none.
    pub candidates: bool,
    pub token: Option<String>,
    /// What `a=setup:` the offer says in place of `actpass`: the DTLS role that is left to the bridge is the other one.
    pub setup: Option<&'static str>,
    /// The network that media goes through, if not loopback itself.
    pub path: Option<LossyPath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    H264,
    Vp8,
}

impl Default for Options {
    fn default() -> Self {
        Self { video: Some(Video::H264), audio: true, candidates: true, token: None, setup: None, path: None }
    }
}

/// The endpoint's answer when it was not 201.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

/// A publisher with an accepted offer. Dropping it is `vanish`.
pub struct Publisher {
    pipeline: gst::Pipeline,
    resource: String,
    options: Options,
    shared: Arc<Shared>,
    pump: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    jump: AtomicBool,
    keyframe_requests: std::sync::atomic::AtomicUsize,
    sent: Mutex<Vec<u64>>,
    error: Mutex<Option<String>>,
}

impl Publisher {
    /// Publishes H.264 and Opus and waits for the connection.
    pub fn start(url: &str) -> Self {
        Self::start_with(url, Options::default())
    }

    /// Publishes and waits for the connection.
    pub fn start_with(url: &str, options: Options) -> Self {
        let publisher = Self::offer(url, options).unwrap_or_else(|r| panic!("refused: {} {}", r.status, r.body));
        publisher.wait_connected(SOON);
        publisher
    }

    /// Makes an offer and posts it.
    pub fn offer(url: &str, options: Options) -> Result<Self, Refused> {
        let (mut publisher, mut offer) = Self::describe(options);
        if let Some(setup) = publisher.options.setup {
            offer = offer.replace("a=setup:actpass", &format!("a=setup:{setup}"));
        }
        let mut request = http().post(url).header("Content-Type", "application/sdp");
        if let Some(token) = &publisher.options.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(offer.as_str()).expect("POST of the offer");
        let status = response.status().as_u16();
        let location = response.headers().get("location").map(|l| l.to_str().expect("Location").to_owned());
        let body = response.body_mut().read_to_string().expect("body");
        if status != 201 {
            publisher.stop();
            return Err(Refused { status, body });
        }
        let resource = url::Url::parse(url).and_then(|u| u.join(&location.expect("201 with a Location"))).expect("URL");
        publisher.resource = resource.into();
        publisher.accept(&body);
        Ok(publisher)
    }

    /// Only makes an offer, for whoever signals in another way; [`Self::accept`] takes the answer.
    pub fn describe(options: Options) -> (Self, String) {
        let prepared = Prepared::new(&description(&options), &options);
        let offer = local_description(&prepared.webrtc(), "offer", options.candidates);
        (prepared.start(options), offer)
    }

    /// Takes the answer to its offer.
    pub fn accept(&self, answer: &str) {
        let answer = self.options.path.as_ref().map_or(answer.to_owned(), |path| path.reroute(answer));
        let webrtc = self.pipeline.by_name("webrtc").expect("webrtcbin");
        set_remote_description(&webrtc, gst_webrtc::WebRTCSDPType::Answer, &answer);
    }

    /// Answers an offer to receive, as a WHEP server does.
    pub fn answer(offer: &str, options: Options) -> (Self, String) {
        // webrtcbin wants its payloaders to use the payload types of the offer.
        let mut text = description(&options);
        let video = match options.video {
            Some(Video::Vp8) => (96, "VP8/90000", ""),
            _ => (102, "H264/90000", "packetization-mode=1"),
        };
        for (ours, encoding, parameter) in [video, (111, "opus/48000", "")] {
            if let Some(theirs) = offered_payload_type(offer, encoding, parameter) {
                text = text.replace(&format!("pt={ours} "), &format!("pt={theirs} "));
                text = text.replace(&format!("payload={ours},"), &format!("payload={theirs},"));
            }
        }
        let prepared = Prepared::new(&text, &options);
        set_remote_description(&prepared.webrtc(), gst_webrtc::WebRTCSDPType::Offer, offer);
        let answer = local_description(&prepared.webrtc(), "answer", options.candidates);
        (prepared.start(options), answer)
    }

    /// Waits for ICE and DTLS.
    pub fn wait_connected(&self, deadline: Duration) {
        use gst_webrtc::WebRTCPeerConnectionState as State;
        wait_until("the publisher's connection", deadline, || {
            self.assert_unharmed();
            (self.state() == State::Connected).then_some(())
        });
    }

    /// The connection's state as webrtcbin sees it.
    pub fn state(&self) -> gst_webrtc::WebRTCPeerConnectionState {
        self.pipeline.by_name("webrtc").expect("webrtcbin").property("connection-state")
    }

    /// Fails the test when anything went wrong on this side.
    pub fn assert_unharmed(&self) {
        if let Some(error) = self.shared.error.lock().expect("error").clone() {
            panic!("the publisher failed: {error}");
        }
    }

    /// Hashes of the slices of every access unit sent so far.
    pub fn sent(&self) -> Vec<u64> {
        self.shared.sent.lock().expect("sent").clone()
    }

    /// How many keyframes it was asked for.
    pub fn keyframe_requests(&self) -> usize {
        self.shared.keyframe_requests.load(SeqCst)
    }

    /// Ends the session as WHIP wants it.
    pub fn delete(mut self) {
        let mut request = http().delete(&self.resource);
        if let Some(token) = &self.options.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let status = request.call().expect("DELETE").status();
        assert!(status.is_success(), "DELETE: {status}");
        self.stop();
    }

    /// Is gone without a word: no DELETE, no DTLS close_notify, no answer to STUN.
    pub fn vanish(self) {
        drop(self);
    }

    /// Ends with a goodbye of DTLS, as a server does whose client is gone.
    pub fn end(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.pump.is_none() {
            return;
        }
        // webrtcbin says goodbye when it is shut down: nothing gets out from here on.
        let webrtc = self.pipeline.by_name("webrtc").and_downcast::<gst::Bin>().expect("webrtcbin");
        for element in webrtc.iterate_all_by_element_factory_name("nicesink").into_iter().flatten() {
            let pad = element.static_pad("sink").expect("pad");
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, |_, _| gst::PadProbeReturn::Drop);
        }
        self.stop();
    }
}

/// A pipeline with what it will send, before it is known to whom.
struct Prepared {
    pipeline: gst::Pipeline,
    feeds: Vec<Feed>,
    started: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Prepared {
    fn new(description: &str, options: &Options) -> Self {
        gst::init().expect("GStreamer");
        let pipeline = gst::parse::launch(description).expect("pipeline");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("pipeline");
        let started = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared::default());
        let feeds = feeds(&pipeline, options, &started, &shared);
        pipeline.set_state(gst::State::Playing).expect("playing");
        prime(&pipeline, &feeds);
        Self { pipeline, feeds, started, shared }
    }

    fn webrtc(&self) -> gst::Element {
        self.pipeline.by_name("webrtc").expect("webrtcbin")
    }

    fn start(self, options: Options) -> Publisher {
        let Self { pipeline, feeds, started, shared } = self;
        let pump = {
            let (pipeline, shared) = (pipeline.clone(), shared.clone());
            std::thread::spawn(move || pump(&pipeline, feeds, &started, &shared))
        };
        Publisher { pipeline, resource: String::new(), options, shared, pump: Some(pump) }
    }
}

/// The first payload type that an offer has for an encoding.
fn offered_payload_type(offer: &str, encoding: &str, parameter: &str) -> Option<String> {
    let of_encoding = offer.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
    of_encoding.filter(|(_, name)| name.starts_with(encoding)).map(|(number, _)| number.to_owned()).find(|number| {
        parameter.is_empty()
            || offer.lines().any(|line| line.starts_with(&format!("a=fmtp:{number} ")) && line.contains(parameter))
    })
}

fn set_remote_description(webrtc: &gst::Element, kind: gst_webrtc::WebRTCSDPType, sdp: &str) {
    let sdp = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).expect("SDP");
    let description = gst_webrtc::WebRTCSessionDescription::new(kind, sdp);
    let promise = gst::Promise::new();
    webrtc.emit_by_name::<()>("set-remote-description", &[&description, &promise]);
    promise.wait();
}

/// One track: what is sent, at which pace, into which element.
struct Feed {
    source: gst_app::AppSrc,
    clip: &'static Clip,
    filter: &'static str,
    interval: Duration,
    video: bool,
    next: usize,
    pushed: u32,
}

fn description(options: &Options) -> String {
    let feedback = "rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true";
    let mut text = String::from("webrtcbin name=webrtc bundle-policy=max-bundle ");
    match options.video {
        Some(Video::H264) => text.push_str(&format!(
            "appsrc name=video is-live=true format=time max-bytes=0 \
             ! rtph264pay config-interval=-1 aggregate-mode=zero-latency mtu=1200 pt=102 \
             ! capsfilter name=video_rtp caps=\"application/x-rtp,media=video,encoding-name=H264,payload=102,\
             clock-rate=90000,packetization-mode=(string)1,level-asymmetry-allowed=(string)1,{feedback}\" ! webrtc. "
        )),
        Some(Video::Vp8) => text.push_str(&format!(
            "appsrc name=video is-live=true format=time max-bytes=0 ! rtpvp8pay picture-id-mode=2 mtu=1200 pt=96 \
             ! capsfilter name=video_rtp caps=\"application/x-rtp,media=video,encoding-name=VP8,payload=96,\
             clock-rate=90000,{feedback}\" ! webrtc. "
        )),
        None => (),
    }
    if options.audio {
        text.push_str(
            "appsrc name=audio is-live=true format=time max-bytes=0 ! rtpopuspay mtu=1200 pt=111 \
             ! capsfilter name=audio_rtp caps=\"application/x-rtp,media=audio,encoding-name=OPUS,payload=111,\
             clock-rate=48000,encoding-params=(string)2\" ! webrtc. ",
        );
    }
    text
}

fn feeds(pipeline: &gst::Pipeline, options: &Options, started: &Arc<AtomicBool>, shared: &Arc<Shared>) -> Vec<Feed> {
    let mut feeds = Vec::new();
    let mut feed = |name: &str, filter: &'static str, clip: &'static Clip, interval: Duration, video: bool| {
        let source = pipeline.by_name(name).and_downcast::<gst_app::AppSrc>().expect("appsrc");
        source.set_caps(Some(&clip.caps));
        feeds.push(Feed { source, clip, filter, interval, video, next: 0, pushed: 0 });
    };
    if let Some(video) = options.video {
        let clip = if video == Video::H264 { clip::h264() } else { clip::vp8() };
        feed("video", "video_rtp", clip, Duration::from_nanos(1_000_000_000 / clip::FPS), true);
    }
    if options.audio {
        feed("audio", "audio_rtp", clip::opus(), Duration::from_millis(20), false);
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

fn local_description(webrtc: &gst::Element, kind: &str, candidates: bool) -> String {
    let promise = gst::Promise::new();
    webrtc.emit_by_name::<()>(&format!("create-{kind}"), &[&None::<gst::Structure>, &promise]);
    assert_eq!(promise.wait(), gst::PromiseResult::Replied, "create-{kind}");
    let reply = promise.get_reply().expect("reply");
    let offer = reply.get::<gst_webrtc::WebRTCSessionDescription>(kind).expect("a description");
    let promise = gst::Promise::new();
    webrtc.emit_by_name::<()>("set-local-description", &[&offer, &promise]);
    promise.wait();
    if candidates {
        wait_until("the publisher's candidates", SOON, || {
            let state: gst_webrtc::WebRTCICEGatheringState = webrtc.property("ice-gathering-state");
            (state == gst_webrtc::WebRTCICEGatheringState::Complete).then_some(())
        });
    }
    let local: gst_webrtc::WebRTCSessionDescription = webrtc.property("local-description");
    let sdp = local.sdp().as_text().expect("SDP");
    if candidates {
        return sdp;
    }
    let kept = sdp.lines().filter(|l| !l.starts_with("a=candidate:") && !l.starts_with("a=end-of-candidates"));
    kept.flat_map(|l| [l.trim_end(), "\r\n"]).collect()
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
                while from + feed.interval * feed.pushed <= Instant::now() {
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
            shared.sent.lock().expect("sent").push(unit.slices);
        }
        let _ = self.source.push_buffer(buffer);
        self.next += 1;
        self.pushed += 1;
    }
}
