//! A publisher inside the test process: GStreamer's webrtcbin, fed in real time from encoded media in memory. It publishes by
//! WHIP, or is the sending end of a WHEP server.
//!
//! Media starts with a keyframe once connected, as a browser's encoder does; a PLI makes it jump to the next keyframe.

mod feed;
pub mod sdp;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gst::prelude::*;

use self::{
    feed::Prepared,
    sdp::{description, local_description, offered_payload_type, set_remote_description},
};
pub use super::whip::Refused;
use super::{
    SOON,
    clip::Clip,
    lossy::LossyPath,
    wait_until,
    whip::{self, Resource},
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
    /// `stun://host:port`, which is asked as what the publisher is seen.
    pub stun: Option<String>,
    /// How much longer audio takes from its capture to being sent.
    pub audio_delay: Duration,
    /// What is sent in place of the usual clips, in the same codecs.
    pub clips: Clips,
}

/// Clips to send; the usual ones where there is none.
#[derive(Clone, Copy, Default)]
pub struct Clips {
    pub video: Option<&'static Clip>,
    pub audio: Option<&'static Clip>,
}

impl std::fmt::Debug for Clips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.video.is_some(), self.audio.is_some())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    H264,
    Vp8,
    H265,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            video: Some(Video::H264),
            audio: true,
            candidates: true,
            token: None,
            setup: None,
            path: None,
            stun: None,
            audio_delay: Duration::ZERO,
            clips: Clips::default(),
        }
    }
}

/// A publisher with an accepted offer. Dropping it is `vanish`.
pub struct Publisher {
    pipeline: gst::Pipeline,
    resource: Resource,
    options: Options,
    shared: Arc<Shared>,
    pump: Option<JoinHandle<()>>,
    /// When its offer was posted.
    posted: Instant,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    jump: AtomicBool,
    keyframe_requests: std::sync::atomic::AtomicUsize,
    sent: Mutex<Vec<(Instant, u64)>>,
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
        let (mut publisher, offer) = Self::describe(options);
        publisher.posted = Instant::now();
        match whip::post(url, publisher.options.token.as_deref(), &offer) {
            Ok((resource, answer)) => {
                publisher.resource = resource;
                publisher.accept(&answer);
                Ok(publisher)
            }
            Err(refused) => {
                publisher.stop();
                Err(refused)
            }
        }
    }

    /// Only makes an offer, for whoever signals in another way; [`Self::accept`] takes the answer.
    pub fn describe(options: Options) -> (Self, String) {
        let prepared = Prepared::new(&description(&options), &options);
        let mut offer = local_description(&prepared.webrtc(), "offer", options.candidates);
        if let Some(setup) = options.setup {
            offer = offer.replace("a=setup:actpass", &format!("a=setup:{setup}"));
        }
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
        self.shared.sent.lock().expect("sent").iter().map(|(_, slices)| *slices).collect()
    }

    /// The same, with when each was handed over.
    pub fn sent_at(&self) -> Vec<(Instant, u64)> {
        self.shared.sent.lock().expect("sent").clone()
    }

    /// When its offer was posted.
    pub fn posted(&self) -> Instant {
        self.posted
    }

    /// How many keyframes it was asked for.
    pub fn keyframe_requests(&self) -> usize {
        self.shared.keyframe_requests.load(SeqCst)
    }

    /// Ends the session as WHIP wants it.
    pub fn delete(mut self) {
        self.resource.delete();
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
            // Not `Drop`: by the bindings' doing, GStreamer 1.22 has nothing left to drop at a sink pad, and calls that critical.
            let types = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
            pad.add_probe(types, |_, _| gst::PadProbeReturn::Handled);
        }
        self.stop();
    }
}
