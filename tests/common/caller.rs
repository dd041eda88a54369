//! A peer of both directions on GStreamer's webrtcbin: its offer goes to `/offer` as JSON, as the tests of webrtc-echoes have it;
//! what comes back is decoded and kept.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_webrtc::{WebRTCDataChannel, WebRTCDataChannelState, WebRTCSDPType};

use super::{
    SOON, http,
    publisher::sdp::{local_description, set_remote_description},
    wait_until, webrtcbin_may_complain,
};

const FEEDBACK: &str = "rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true";
/// Of what comes back.
pub const RATE: usize = 48_000;

/// A call; ended when dropped.
pub struct Caller {
    pipeline: gst::Pipeline,
    pub channel: WebRTCDataChannel,
    back: Arc<Back>,
}

#[derive(Default)]
struct Back {
    samples: Mutex<Vec<i16>>,
    pictures: Mutex<(usize, Picture)>,
    texts: Mutex<Vec<String>>,
    bytes: Mutex<Vec<Vec<u8>>>,
}

/// One picture, as RGB.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    pub width: usize,
    stride: usize,
    pub data: Vec<u8>,
}

impl Picture {
    /// The colour at a place.
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = y * self.stride + x * 3;
        self.data[start..start + 3].try_into().expect("three bytes")
    }

    /// Whether it is this one, but for what encoders and conversions make of it.
    pub fn is_near(&self, x: usize, y: usize, colour: [u8; 3]) -> bool {
        self.at(x, y).iter().zip(colour).all(|(shown, meant)| shown.abs_diff(meant) < 60)
    }
}

impl Caller {
    /// Calls the server of a page, with what these elements give and a data channel "chat"; returns once that is open.
    pub fn start(page: &str, audio: Option<&str>, video: Option<&str>) -> Self {
        gst::init().expect("GStreamer");
        webrtcbin_may_complain();
        let mut text = String::from("webrtcbin name=webrtc bundle-policy=max-bundle ");
        if let Some(audio) = audio {
            text.push_str(&format!(
                "{audio} ! queue ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=2 ! opusenc \
                 ! rtpopuspay pt=111 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,\
                 encoding-params=(string)2 ! webrtc. "
            ));
        }
        if let Some(video) = video {
            text.push_str(&format!(
                "{video} ! queue ! videoconvert ! vp8enc deadline=1 cpu-used=16 keyframe-max-dist=30 target-bitrate=800000 \
                 ! rtpvp8pay picture-id-mode=2 mtu=1200 pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96,\
                 clock-rate=90000,{FEEDBACK} ! webrtc. "
            ));
        }
        let pipeline = match gst::parse::launch(&text).expect("a pipeline").downcast::<gst::Pipeline>() {
            Ok(pipeline) => pipeline,
            Err(alone) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&alone).expect("one element");
                pipeline
            }
        };
        let webrtc = pipeline.by_name("webrtc").expect("webrtcbin");
        let back = Arc::<Back>::default();
        let (weak, kept) = (pipeline.downgrade(), back.clone());
        webrtc.connect_pad_added(move |_, pad| {
            if let (Some(pipeline), gst::PadDirection::Src) = (weak.upgrade(), pad.direction()) {
                decode(&pipeline, pad, &kept);
            }
        });
        pipeline.set_state(gst::State::Playing).expect("playing");
        let channel =
            webrtc.emit_by_name::<WebRTCDataChannel>("create-data-channel", &[&"chat", &None::<gst::Structure>]);
        let (texts, bytes) = (back.clone(), back.clone());
        channel.connect_on_message_string(move |_, text| {
            texts.texts.lock().expect("lock").push(text.unwrap_or_default().to_owned());
        });
        channel.connect_on_message_data(move |_, data| {
            bytes.bytes.lock().expect("lock").push(data.map(|data| data.to_vec()).unwrap_or_default());
        });
        let offer = local_description(&webrtc, "offer", true);
        let body = serde_json::json!({"type": "offer", "sdp": offer}).to_string();
        let url = url::Url::parse(page).and_then(|page| page.join("/offer")).expect("a URL");
        let mut response =
            http().post(url.as_str()).header("Content-Type", "application/json").send(body).expect("POST of the offer");
        let answer = response.body_mut().read_to_string().expect("a body");
        assert_eq!(response.status(), 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        set_remote_description(&webrtc, WebRTCSDPType::Answer, answer["sdp"].as_str().expect("sdp"));
        wait_until("the channel", SOON, || (channel.ready_state() == WebRTCDataChannelState::Open).then_some(()));
        Self { pipeline, channel, back }
    }

    /// The texts that have come, once there is one that fits.
    pub fn wait_text(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        wait_until("a text", 3 * SOON, || {
            let texts = self.back.texts.lock().expect("lock");
            texts.iter().any(|text| fits(text)).then(|| texts.clone())
        })
    }

    /// The first message of bytes.
    pub fn wait_bytes(&self) -> Vec<u8> {
        wait_until("bytes", SOON, || self.back.bytes.lock().expect("lock").first().cloned())
    }

    /// A picture that fits, of those that come back.
    pub fn wait_picture(&self, fits: impl Fn(&Picture) -> bool) -> Picture {
        wait_until("a picture that fits", SOON, || {
            let (_, picture) = self.back.pictures.lock().expect("lock").clone();
            (picture.width > 0 && fits(&picture)).then_some(picture)
        })
    }

    /// Waits for so many pictures.
    pub fn wait_pictures(&self, count: usize) {
        wait_until("pictures", SOON, || (self.back.pictures.lock().expect("lock").0 >= count).then_some(()));
    }

    /// The pitch in Hz of a second of sound that comes back, once it fits.
    pub fn wait_pitch(&self, fits: impl Fn(f64) -> bool) -> f64 {
        let mut heard = Vec::new();
        let end = std::time::Instant::now() + SOON;
        loop {
            let samples = wait_until("a second of sound", SOON, || {
                let mut samples = self.back.samples.lock().expect("lock");
                (samples.len() >= RATE).then(|| std::mem::take(&mut *samples))
            });
            let pitch = pitch(&samples[..RATE]);
            heard.push(pitch);
            if fits(pitch) {
                return pitch;
            }
            assert!(std::time::Instant::now() < end, "only these pitches: {heard:?}");
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// How often a second of sound goes upwards through zero, and well beyond.
fn pitch(samples: &[i16]) -> f64 {
    let mut below = false;
    let mut count = 0;
    for sample in samples {
        match *sample {
            sample if sample < -500 => below = true,
            sample if sample > 500 && below => (below, count) = (false, count + 1),
            _ => {}
        }
    }
    f64::from(count)
}

fn decode(pipeline: &gst::Pipeline, pad: &gst::Pad, back: &Arc<Back>) {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let is_video = caps.structure(0).is_some_and(|caps| caps.get("media") == Ok("video"));
    let chain = match is_video {
        true => "rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=RGB",
        false => {
            "rtpopusdepay ! opusdec ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,channels=1,rate=48000"
        }
    };
    let description = format!("{chain} ! appsink name=end sync=false async=false");
    let branch = gst::parse::bin_from_description(&description, true).expect("a branch");
    let end = branch.by_name("end").and_downcast::<gst_app::AppSink>().expect("appsink");
    let back = back.clone();
    let keep = move |sink: &gst_app::AppSink| -> Result<gst::FlowSuccess, gst::FlowError> {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let data = sample.buffer().expect("a buffer").map_readable().expect("bytes");
        if is_video {
            let info = gst_video::VideoInfo::from_caps(sample.caps().expect("caps")).expect("video");
            let stride = usize::try_from(info.stride()[0]).expect("a stride");
            let picture = Picture { width: info.width() as usize, stride, data: data.to_vec() };
            let mut pictures = back.pictures.lock().expect("lock");
            *pictures = (pictures.0 + 1, picture);
        } else {
            let samples = data.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            back.samples.lock().expect("lock").extend(samples);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    end.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(keep).build());
    pipeline.add(&branch).expect("added");
    branch.sync_state_with_parent().expect("a state");
    pad.link(&branch.static_pad("sink").expect("a pad")).expect("linked");
}
