//! What the scripted publisher offers: codecs with their feedback, header extensions, streams, and the tracks made of them.

use std::time::Duration;

use rtc::{
    media_stream::MediaStreamTrack,
    rtp::{
        codec::{h264::H264Payloader, opus::OpusPayloader, vp8::Vp8Payloader},
        packetizer::Payloader,
    },
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
    },
};
use webrtc::peer_connection::MediaEngine;

use super::{
    super::{
        clip::{self, Clip},
        publisher::Video,
    },
    script::{Keyframes, Layer, Repairs, Script},
    sender::Stream,
};

const VIDEO_TYPE: u8 = 102;
const RTX_TYPE: u8 = 103;
const AUDIO_TYPE: u8 = 111;

pub(super) fn capability(uri: &str) -> RTCRtpHeaderExtensionCapability {
    RTCRtpHeaderExtensionCapability { uri: uri.to_owned() }
}

pub(super) fn extensions(script: &Script) -> Vec<(RtpCodecKind, &'static str)> {
    let mut extensions = vec![
        (RtpCodecKind::Audio, "urn:ietf:params:rtp-hdrext:sdes:mid"),
        (RtpCodecKind::Video, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    ];
    if !script.layers.is_empty() {
        extensions.push((RtpCodecKind::Video, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
        extensions.push((RtpCodecKind::Video, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"));
    }
    extensions
}

fn video_codec(script: &Script, video: Video) -> RTCRtpCodec {
    let mut feedback = Vec::new();
    let mut add = |typ: &str, parameter: &str| {
        feedback.push(RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() });
    };
    if script.repairs != Repairs::None {
        add("nack", "");
    }
    if script.keyframes != Keyframes::NotOffered {
        add("nack", "pli");
    }
    if script.keyframes == Keyframes::FirOnly {
        add("ccm", "fir");
    }
    let (mime_type, fmtp) = match video {
        Video::H264 => ("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        Video::Vp8 => ("video/VP8", ""),
        Video::H265 => panic!("scripts are for H.264 and VP8"),
    };
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback: feedback,
    }
}

fn audio_codec(script: &Script) -> RTCRtpCodec {
    let nack = RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
    RTCRtpCodec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: if script.audio_nack { vec![nack] } else { Vec::new() },
    }
}

pub(super) fn media_engine(script: &Script) -> MediaEngine {
    let mut engine = MediaEngine::default();
    let mut register = |rtp_codec, payload_type, kind| {
        engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind).expect("a codec");
    };
    if let Some(video) = script.video {
        register(video_codec(script, video), VIDEO_TYPE, RtpCodecKind::Video);
        if script.repairs == Repairs::Rtx {
            let rtx = RTCRtpCodec {
                mime_type: "video/rtx".to_owned(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line: format!("apt={VIDEO_TYPE}"),
                rtcp_feedback: Vec::new(),
            };
            register(rtx, RTX_TYPE, RtpCodecKind::Video);
        }
    }
    if script.audio {
        register(audio_codec(script), AUDIO_TYPE, RtpCodecKind::Audio);
    }
    engine
}

/// The streams in the order of the offer's sections: audio first, as OBS and browsers have it.
pub(super) fn streams(script: &Script) -> Vec<Stream> {
    let new = |clip: &'static Clip, interval, payload_type, clock_rate, payloader: Box<dyn Payloader>| Stream {
        ssrc: rand::random(),
        rtx: None,
        payload_type,
        clock_rate,
        mid: "0",
        rid: None,
        clip,
        interval,
        payloader,
        is_video: false,
        time_base: rand::random(),
        active: true,
        next: 0,
        due: 0,
        sequence: rand::random(),
        rtx_sequence: rand::random(),
        jump: false,
        history: Default::default(),
        sent: Vec::new(),
        sent_at: Vec::new(),
        packets: 0,
        reports_sent: 0,
    };
    let mut streams = Vec::new();
    if script.audio {
        let opus = Box::new(OpusPayloader);
        streams.push(new(clip::opus(), Duration::from_millis(20), AUDIO_TYPE, 48_000, opus));
    }
    let Some(video) = script.video else { return streams };
    let time_base = rand::random();
    let layers: Vec<Option<&Layer>> =
        if script.layers.is_empty() { vec![None] } else { script.layers.iter().map(Some).collect() };
    for layer in layers {
        let (width, height) = layer.map_or((clip::WIDTH, clip::HEIGHT), |layer| layer.size);
        let (clip, payloader): (_, Box<dyn Payloader>) = match video {
            Video::H264 if script.sparse => (clip::h264_sparse(width, height), Box::<H264Payloader>::default()),
            Video::H264 => (clip::h264_at(width, height), Box::<H264Payloader>::default()),
            Video::Vp8 => {
                let mut payloader = Vp8Payloader::default();
                payloader.enable_picture_id = true; // its other field is private
                (clip::vp8_at(width, height), Box::new(payloader))
            }
            Video::H265 => panic!("scripts are for H.264 and VP8"),
        };
        let interval = Duration::from_nanos(1_000_000_000 / clip::FPS);
        let mut stream = new(clip, interval, VIDEO_TYPE, 90_000, payloader);
        stream.is_video = true;
        stream.mid = if script.audio { "1" } else { "0" };
        stream.rid = layer.map(|layer| layer.rid);
        stream.rtx = (script.repairs == Repairs::Rtx).then(|| (rand::random(), RTX_TYPE));
        if script.one_time_base {
            stream.time_base = time_base;
        }
        streams.push(stream);
    }
    streams
}

pub(super) fn tracks(script: &Script, streams: &[Stream]) -> Vec<MediaStreamTrack> {
    let track = |kind, name: &str, codec: &RTCRtpCodec, is_video: bool| {
        let encodings = streams.iter().filter(|stream| stream.is_video == is_video).map(|stream| {
            let rtp_coding_parameters = RTCRtpCodingParameters {
                rid: stream.rid.unwrap_or_default().to_owned(),
                ssrc: Some(stream.ssrc),
                rtx: stream.rtx.map(|(ssrc, _)| RTCRtpRtxParameters { ssrc }),
                fec: None,
            };
            RTCRtpEncodingParameters { rtp_coding_parameters, codec: codec.clone(), ..Default::default() }
        });
        MediaStreamTrack::new("stream".to_owned(), name.to_owned(), name.to_owned(), kind, encodings.collect())
    };
    let mut tracks = Vec::new();
    if script.audio {
        tracks.push(track(RtpCodecKind::Audio, "audio", &audio_codec(script), false));
    }
    if let Some(video) = script.video {
        tracks.push(track(RtpCodecKind::Video, "video", &video_codec(script, video), true));
    }
    tracks
}
