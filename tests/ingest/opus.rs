//! Opus from RTP to samples, as rtmpbridgesink decodes it: lost packets, mono and stereo.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstwebrtcbridge::{
    codec::Codec,
    rtp::{Chain, Counts},
    session::{KeyframeControl, RtpPacket, Track},
    transcode,
};

/// Samples of a packet of 20 ms.
const FRAME: usize = 960;
const PACKETS: usize = 60;
/// The one whose sound differs from all others.
const LOUD: usize = 40;

struct Nobody;

impl KeyframeControl for Nobody {
    fn request_keyframe(&self, _: usize) {}

    fn keyframe_arrived(&self, _: usize) {}
}

#[test]
fn a_lost_packet_is_heard_as_the_next_one_repeats_it() {
    // Quiet but for one packet, which is lost: concealment could only go on being quiet.
    let sound = tone(|packet| if packet == LOUD { [12_000.0; 2] } else { [1200.0; 2] });
    let encoder = "opusenc audio-type=voice bandwidth=wideband bitrate=40000 inband-fec=true packet-loss-percentage=40";
    let packets = encode(&sound, 1, encoder);
    let whole = decode(&packets, None);
    // As long as the whole one.
    let repaired = decode_so_many(&packets, Some(LOUD), whole.len() - FRAME);
    let loudness = |samples: &[[i16; 2]]| loudest_packet(samples);
    assert!(loudness(&whole) > 6000.0, "{}", loudness(&whole));
    assert!(loudness(&repaired) > 6000.0, "of the lost packet nothing was heard: {}", loudness(&repaired));
}

#[test]
fn stereo_stays_stereo_and_mono_is_on_both_sides() {
    let left = decode(&encode(&tone(|_| [10_000.0, 0.0]), 2, "opusenc bitrate=96000"), None);
    let energy = |samples: &[[i16; 2]], side: usize| {
        samples.iter().map(|sample| f64::from(sample[side]).abs()).sum::<f64>() / samples.len() as f64
    };
    assert!(energy(&left, 0) > 3000.0 && energy(&left, 1) < 300.0, "{} {}", energy(&left, 0), energy(&left, 1));
    let mono = decode(&encode(&tone(|_| [10_000.0; 2]), 1, "opusenc"), None);
    assert!(energy(&mono, 0) > 3000.0 && mono.iter().all(|sample| sample[0] == sample[1]));
}

/// A voice's fundamental and its overtones, with the loudness of each side by packet.
fn tone(amplitudes: impl Fn(usize) -> [f64; 2]) -> Vec<[i16; 2]> {
    let wave = |sample: usize| {
        let phase = sample as f64 * std::f64::consts::TAU * 150.0 / 48_000.0;
        (phase.sin() + (2.0 * phase).sin() / 2.0 + (3.0 * phase).sin() / 3.0) / 1.5
    };
    (0..PACKETS * FRAME).map(|sample| amplitudes(sample / FRAME).map(|a| (a * wave(sample)) as i16)).collect()
}

fn loudest_packet(samples: &[[i16; 2]]) -> f64 {
    let loudness = |packet: &[[i16; 2]]| {
        (packet.iter().map(|sample| f64::from(sample[0]).powi(2)).sum::<f64>() / packet.len() as f64).sqrt()
    };
    samples.chunks(FRAME / 2).map(loudness).fold(0.0, f64::max) * std::f64::consts::SQRT_2
}

/// RTP packets of the sound in so many channels.
fn encode(sound: &[[i16; 2]], channels: usize, encoder: &str) -> Vec<RtpPacket> {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time caps=audio/x-raw,format=S16LE,layout=interleaved,rate=48000,channels={channels} ! \
         {encoder} frame-size=20 ! rtpopuspay pt=111 ! appsink name=out sync=false buffer-list=false"
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let source = pipeline.by_name("in").and_downcast::<gst_app::AppSrc>().unwrap();
    let bytes: Vec<u8> = sound.iter().flat_map(|s| s[..channels].iter().flat_map(|s| s.to_le_bytes())).collect();
    let mut buffer = gst::Buffer::from_slice(bytes);
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
    source.push_buffer(buffer).unwrap();
    source.end_of_stream().unwrap();
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().unwrap();
    let mut packets = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer_owned().unwrap();
        let rtp = gst_rtp::RTPBuffer::from_buffer_readable(&buffer).unwrap();
        packets.push(RtpPacket {
            dependencies: None,
            marker: rtp.is_marker(),
            payload_type: 111,
            sequence_number: rtp.seq(),
            timestamp: rtp.timestamp(),
            ssrc: rtp.ssrc(),
            payload: rtp.payload().unwrap().to_vec().into(),
            arrival: Instant::now(),
        });
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(packets.len() >= PACKETS, "{}", packets.len());
    packets
}

/// What the decoder makes of the packets.
fn decode(packets: &[RtpPacket], lost: Option<usize>) -> Vec<[i16; 2]> {
    // It keeps one packet back, until it knows whether the next has something for it.
    decode_so_many(packets, lost, (PACKETS - 4) * FRAME)
}

/// At their pace, without the one that is lost, until there are so many samples.
fn decode_so_many(packets: &[RtpPacket], lost: Option<usize>, wanted: usize) -> Vec<[i16; 2]> {
    let pipeline = gst::Pipeline::new();
    let bin = gst::Bin::new();
    let ghost = gst::GhostPad::builder(gst::PadDirection::Src).name("src").build();
    bin.add_pad(&ghost).unwrap();
    let settings = transcode::Settings {
        canvas: transcode::Canvas::default(),
        video_codec: Default::default(),
        audio_codec: Default::default(),
        encoder: "auto".into(),
        video_bitrate: 1_000_000,
        audio_bitrate: 128_000,
        keyframe_interval: Duration::from_secs(2),
    };
    let caps = gst::Caps::builder("audio/x-opus").field("channel-mapping-family", 0i32).build();
    let chain = transcode::Chain::build(&caps, &settings).unwrap();
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build().unwrap();
    pipeline.add(&bin).unwrap();
    pipeline.add_many(&chain.elements).unwrap();
    pipeline.add(&sink).unwrap();
    gst::Element::link_many(&chain.elements).unwrap();
    chain.elements.last().unwrap().link(&sink).unwrap();
    ghost.link(&chain.elements[0].static_pad("sink").unwrap()).unwrap();

    let samples = Arc::new(Mutex::new(Vec::new()));
    let collected = samples.clone();
    // Behind the decoder and what makes its output 48 kHz stereo for the encoder.
    let pad = chain.elements.iter().rev().nth(2).unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let info_of = gst_audio::AudioInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
        assert_eq!((info_of.channels(), info_of.rate()), (2, 48_000));
        let map = info.buffer().unwrap().map_readable().unwrap();
        let side = |bytes: &[u8]| i16::from_le_bytes([bytes[0], bytes[1]]);
        assert_eq!(info_of.format(), gst_audio::AudioFormat::S16le);
        collected.lock().unwrap().extend(map.chunks_exact(4).map(|sample| [side(sample), side(&sample[2..])]));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();

    let track = Track {
        index: 0,
        mid: None,
        codec: Codec::Opus,
        payload_type: 111,
        channels: 2,
        fmtp: String::new(),
        rtx: None,
        red: None,
        ssrcs: Vec::new(),
        feedback: Vec::new(),
    };
    let keyframes: Arc<dyn KeyframeControl> = Arc::new(Nobody);
    let counts = Arc::new(Counts::default());
    let depayloader = Chain::start(&bin, &ghost, &track, &keyframes, &counts, 60).unwrap();
    let start = Instant::now();
    for (index, packet) in packets.iter().enumerate() {
        let due = start + Duration::from_millis(20) * index as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if lost != Some(index) {
            depayloader.push(RtpPacket { arrival: Instant::now(), ..packet.clone() });
        }
    }
    let end = Instant::now() + Duration::from_secs(10);
    while samples.lock().unwrap().len() < wanted {
        assert!(Instant::now() < end, "{} samples of {wanted}, {counts:?}", samples.lock().unwrap().len());
        std::thread::sleep(Duration::from_millis(10));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    depayloader.stop(&bin);
    std::mem::take(&mut *samples.lock().unwrap())
}
