//! GStreamer's webrtcbin as a peer that decodes what it gets: a viewer, or one that sends as well. How descriptions come to
//! it is its user's business.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use super::{
    SOON,
    publisher::sdp::{local_description, set_remote_description},
    wait_until, webrtcbin_may_complain,
};

/// webrtcbin in a playing pipeline.
pub struct BinPeer {
    pub pipeline: gst::Pipeline,
    pub webrtc: gst::Element,
    decoded: Arc<Mutex<Decoded>>,
}

/// What has come out of its decoders.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    pub pictures: usize,
    /// Of the last picture.
    pub size: (i32, i32),
    pub sounds: usize,
    /// The loudest sample so far.
    pub peak: i16,
}

impl BinPeer {
    /// Receives video of this encoding (`H264`, `VP8`) and Opus.
    pub fn viewer(encoding: &str) -> Self {
        let peer = Self::start("webrtcbin name=webrtc bundle-policy=max-bundle");
        let video = match encoding {
            "H264" => {
                "payload=102,encoding-name=H264,packetization-mode=(string)1,profile-level-id=(string)42e01f,rtcp-fb-nack-pli=(boolean)true"
            }
            _ => "payload=96,encoding-name=VP8,rtcp-fb-nack-pli=(boolean)true",
        };
        let audio = "payload=111,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2";
        for caps in [
            format!("application/x-rtp,media=video,clock-rate=90000,{video}"),
            format!("application/x-rtp,media=audio,{audio}"),
        ] {
            let caps: gst::Caps = caps.parse().expect("caps");
            let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
            peer.webrtc.emit_by_name::<gst_webrtc::WebRTCRTPTransceiver>("add-transceiver", &[&direction, &caps]);
        }
        peer
    }

    /// Sends a picture of 320 by 240 in VP8 and a tone, and receives the same kinds.
    pub fn both_ways() -> Self {
        Self::start(
            "webrtcbin name=webrtc bundle-policy=max-bundle \
             videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 \
             ! vp8enc deadline=1 keyframe-max-dist=15 ! rtpvp8pay picture-id-mode=2 pt=96 \
             ! application/x-rtp,media=video,encoding-name=VP8,payload=96,rtcp-fb-nack-pli=(boolean)true ! webrtc. \
             audiotestsrc is-live=true volume=0.5 ! audioconvert ! opusenc ! rtpopuspay pt=111 \
             ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! webrtc.",
        )
    }

    fn start(description: &str) -> Self {
        gst::init().expect("GStreamer");
        webrtcbin_may_complain();
        let pipeline = match gst::parse::launch(description).expect("a pipeline").downcast::<gst::Pipeline>() {
            Ok(pipeline) => pipeline,
            Err(alone) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&alone).expect("one element");
                pipeline
            }
        };
        let webrtc = pipeline.by_name("webrtc").expect("webrtcbin");
        let decoded = Arc::<Mutex<Decoded>>::default();
        let (into, around) = (decoded.clone(), pipeline.downgrade());
        webrtc.connect_pad_added(move |_, pad| {
            if let Some(pipeline) = around.upgrade().filter(|_| pad.direction() == gst::PadDirection::Src) {
                decode(&pipeline, pad, &into);
            }
        });
        pipeline.set_state(gst::State::Playing).expect("playing");
        Self { pipeline, webrtc, decoded }
    }

    /// Receives what an offer has to send, and its answer.
    pub fn answering(offer: &str) -> (Self, String) {
        let peer = Self::start("webrtcbin name=webrtc bundle-policy=max-bundle");
        set_remote_description(&peer.webrtc, gst_webrtc::WebRTCSDPType::Offer, offer);
        let answer = local_description(&peer.webrtc, "answer", true);
        (peer, answer)
    }

    /// Its offer, with candidates.
    pub fn offer(&self) -> String {
        local_description(&self.webrtc, "offer", true)
    }

    /// Takes the answer.
    pub fn answered(&self, answer: &str) {
        set_remote_description(&self.webrtc, gst_webrtc::WebRTCSDPType::Answer, answer);
    }

    pub fn decoded(&self) -> Decoded {
        self.decoded.lock().expect("decoded").clone()
    }

    /// Waits until so many more pictures and sounds have been decoded.
    pub fn wait_decoded(&self, pictures: usize, sounds: usize) -> Decoded {
        let before = self.decoded();
        wait_until("pictures and sounds at webrtcbin", SOON, || {
            let now = self.decoded();
            (now.pictures >= before.pictures + pictures && now.sounds >= before.sounds + sounds).then_some(now)
        })
    }
}

impl Drop for BinPeer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn decode(pipeline: &gst::Pipeline, pad: &gst::Pad, into: &Arc<Mutex<Decoded>>) {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let encoding = caps.structure(0).and_then(|caps| caps.get::<String>("encoding-name").ok()).expect("an encoding");
    let chain = match encoding.as_str() {
        "H264" => "rtph264depay ! h264parse ! avdec_h264",
        "VP8" => "rtpvp8depay ! vp8dec",
        "OPUS" => "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE",
        other => panic!("webrtcbin has got {other}"),
    };
    let chain = format!("queue ! {chain} ! fakesink name=seen signal-handoffs=true sync=false async=false");
    let bin = gst::parse::bin_from_description(&chain, true).expect("a decoder");
    let seen = bin.by_name("seen").expect("its end");
    let into = into.clone();
    seen.connect("handoff", false, move |values| {
        let (buffer, pad) = (values[1].get::<gst::Buffer>().ok()?, values[2].get::<gst::Pad>().ok()?);
        let caps = pad.current_caps()?;
        let caps = caps.structure(0)?;
        let mut decoded = into.lock().expect("decoded");
        if caps.name().starts_with("video") {
            decoded.pictures += 1;
            decoded.size = (caps.get("width").ok()?, caps.get("height").ok()?);
        } else {
            decoded.sounds += 1;
            let data = buffer.map_readable().ok()?;
            let samples = data.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]]).saturating_abs());
            decoded.peak = decoded.peak.max(samples.max().unwrap_or(0));
        }
        None
    });
    pipeline.add(&bin).expect("room");
    bin.sync_state_with_parent().expect("playing");
    pad.link(&bin.static_pad("sink").expect("a pad")).expect("linked");
}
