//! The publisher's descriptions: the pipeline that makes them, and what webrtcbin says.

use gst::prelude::*;

use super::{
    super::{SOON, wait_until},
    Options, Video,
};

pub(super) fn description(options: &Options) -> String {
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
        Some(Video::H265) => text.push_str(&format!(
            "appsrc name=video is-live=true format=time max-bytes=0 \
             ! rtph265pay config-interval=-1 aggregate-mode=zero-latency mtu=1200 pt=104 \
             ! capsfilter name=video_rtp caps=\"application/x-rtp,media=video,encoding-name=H265,payload=104,\
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

/// The first payload type that an offer has for an encoding.
pub(super) fn offered_payload_type(offer: &str, encoding: &str, parameter: &str) -> Option<String> {
    let of_encoding = offer.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
    of_encoding.filter(|(_, name)| name.starts_with(encoding)).map(|(number, _)| number.to_owned()).find(|number| {
        parameter.is_empty()
            || offer.lines().any(|line| line.starts_with(&format!("a=fmtp:{number} ")) && line.contains(parameter))
    })
}

pub fn set_remote_description(webrtc: &gst::Element, kind: gst_webrtc::WebRTCSDPType, sdp: &str) {
    let sdp = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).expect("SDP");
    let description = gst_webrtc::WebRTCSessionDescription::new(kind, sdp);
    let promise = gst::Promise::new();
    webrtc.emit_by_name::<()>("set-remote-description", &[&description, &promise]);
    promise.wait();
}

pub fn local_description(webrtc: &gst::Element, kind: &str, candidates: bool) -> String {
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
