//! What happens to frames whose packets were lost for good: nothing damaged goes downstream, and a keyframe is asked for.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstwebrtcbridge::{
    codec::Codec,
    rtp::{Chain, Counts},
    session::{KeyframeControl, RtpPacket, Track},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Counts what is asked of the sender, and whether it should comply.
#[derive(Default)]
struct Asked {
    requests: AtomicUsize,
    pending: AtomicBool,
}

impl KeyframeControl for Asked {
    fn request_keyframe(&self, _: usize) {
        self.requests.fetch_add(1, SeqCst);
        self.pending.store(true, SeqCst);
    }

    fn keyframe_arrived(&self, _: usize) {}
}

struct Case {
    codec: Codec,
    encoder: &'static str,
    /// Empty where Debian has none, and the test makes the packets.
    payloader: &'static str,
    decoder: &'static str,
}

#[test]
fn an_h264_frame_with_a_lost_packet_is_dropped_up_to_the_next_keyframe() {
    lost_packets_damage_nothing(&Case {
        codec: Codec::H264,
        encoder: "x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=1000",
        payloader: "rtph264pay mtu=600 aggregate-mode=zero-latency config-interval=-1 pt=96",
        decoder: "avdec_h264",
    });
}

#[test]
fn a_vp8_frame_with_a_lost_packet_is_dropped_up_to_the_next_keyframe() {
    lost_packets_damage_nothing(&Case {
        codec: Codec::Vp8,
        encoder: "vp8enc deadline=1 cpu-used=8 target-bitrate=2000000 keyframe-max-dist=1000",
        payloader: "rtpvp8pay mtu=600 picture-id-mode=2 pt=96",
        decoder: "vp8dec",
    });
}

#[test]
fn a_vp9_frame_with_a_lost_packet_is_dropped_up_to_the_next_keyframe() {
    lost_packets_damage_nothing(&Case {
        codec: Codec::Vp9,
        encoder: "vp9enc deadline=1 cpu-used=8 target-bitrate=2000000 keyframe-max-dist=1000",
        payloader: "rtpvp9pay mtu=600 picture-id-mode=2 pt=96",
        decoder: "vp9dec",
    });
}

#[test]
fn an_h265_frame_with_a_lost_packet_is_dropped_up_to_the_next_keyframe() {
    lost_packets_damage_nothing(&Case {
        codec: Codec::H265,
        encoder: "x265enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=1000",
        payloader: "rtph265pay mtu=600 aggregate-mode=zero-latency config-interval=-1 pt=96",
        decoder: "avdec_h265",
    });
}

#[test]
fn an_av1_frame_with_a_lost_packet_is_dropped_up_to_the_next_keyframe() {
    lost_packets_damage_nothing(&Case {
        codec: Codec::Av1,
        // As of 1.22 it makes no keyframe when it is asked for one: one of its own has to do.
        encoder: "av1enc usage-profile=realtime cpu-used=10 target-bitrate=2000 lag-in-frames=0 keyframe-max-dist=60",
        payloader: "",
        decoder: "av1dec",
    });
}

/// Sends a live stream into a chain, loses one packet in the middle of a frame, and compares every picture that comes
/// out with what went in: the pictures carry a counter, and a damaged one does not look like any that was sent.
fn lost_packets_damage_nothing(case: &Case) {
    gst::init().unwrap();
    let sender = gst::parse::launch(&format!(
        "videotestsrc is-live=true pattern=snow ! video/x-raw,width=320,height=240,framerate=30/1 ! {} name=enc ! {} ! \
         appsink name=out sync=false buffer-list=false",
        case.encoder,
        if case.payloader.is_empty() {
            "av1parse ! video/x-av1,stream-format=obu-stream,alignment=tu"
        } else {
            case.payloader
        }
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let receiver =
        gst::parse::launch(&format!("queue name=in ! {} ! fakesink name=out sync=false async=false", case.decoder))
            .unwrap()
            .downcast::<gst::Pipeline>()
            .unwrap();

    let asked = Arc::new(Asked::default());
    let keyframes: Arc<dyn KeyframeControl> = asked.clone();
    let bin = gst::Bin::new();
    receiver.add(&bin).unwrap();
    let ghost = gst::GhostPad::builder(gst::PadDirection::Src).name("src").build();
    bin.add_pad(&ghost).unwrap();
    let entry = receiver.by_name("in").unwrap().static_pad("sink").unwrap();
    ghost.link(&entry).unwrap();
    receiver.set_state(gst::State::Playing).unwrap();

    let frames = Arc::new(Mutex::new(Vec::new()));
    let recorded = frames.clone();
    entry.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let delta = info.buffer().is_some_and(|buffer| buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        recorded.lock().unwrap().push(!delta);
        gst::PadProbeReturn::Ok
    });
    let (errors, decoder_errors) = mpsc::channel();
    receiver.bus().unwrap().set_sync_handler(move |_, message| {
        if matches!(message.type_(), gst::MessageType::Error | gst::MessageType::Warning) {
            let _ = errors.send(format!("{message:?}"));
        }
        gst::BusSyncReply::Drop
    });

    let track = Track {
        index: 0,
        mid: None,
        codec: case.codec,
        payload_type: 96,
        channels: 0,
        fmtp: String::new(),
        rtx: None,
        red: None,
        ssrcs: Vec::new(),
        feedback: Vec::new(),
    };
    let counts = Arc::new(Counts::default());
    let chain = Chain::start(&bin, &ghost, &track, &keyframes, &counts, 100).unwrap();

    sender.set_state(gst::State::Playing).unwrap();
    let out = sender.by_name("out").unwrap();
    let encoder = sender.by_name("enc").unwrap();
    let start = Instant::now();
    let (mut sent, mut lost_at, mut frames_at_loss) = (0_u32, None, 0);
    let mut keyframe_after_loss = false;
    let mut payloader = Av1Payloader::default();
    'sending: while start.elapsed() < DEADLINE {
        let sample: Option<gst::Sample> = out.emit_by_name("try-pull-sample", &[&100_000_000_u64]);
        let Some(sample) = sample else { continue };
        let buffer = sample.buffer().unwrap();
        let packets = if case.payloader.is_empty() { payloader.packets(buffer) } else { vec![rtp_packet(buffer)] };
        for packet in packets {
            sent += 1;
            // Well into the stream, and not the last packet of its frame, so that the damage is inside of a frame.
            if lost_at.is_none() && frames.lock().unwrap().len() > 20 && !packet.marker {
                lost_at = Some(sent);
                frames_at_loss = frames.lock().unwrap().len();
                asked.pending.store(false, SeqCst);
                continue;
            }
            chain.push(packet);
            // As a sender would: only once it is asked.
            if lost_at.is_some() && asked.pending.swap(false, SeqCst) {
                let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
                encoder.send_event(event);
            }
            let frames = frames.lock().unwrap();
            keyframe_after_loss = lost_at.is_some() && frames[frames_at_loss..].iter().any(|key| *key);
            if keyframe_after_loss && frames.len() > frames_at_loss + 20 {
                break 'sending;
            }
        }
    }
    assert!(lost_at.is_some(), "nothing was lost: {sent} packets sent");
    assert!(keyframe_after_loss, "the stream did not come back");
    assert!(asked.requests.load(SeqCst) > 0, "no keyframe was asked for");
    // The frames that were whole and before the lost one may still have come; then the next is the keyframe.
    let frames = frames.lock().unwrap();
    let before_key = frames[frames_at_loss..].iter().take_while(|key| !**key).count();
    assert!(before_key <= 3, "{before_key} frames came between the loss and the keyframe");
    assert_eq!(decoder_errors.try_recv().ok(), None, "the decoder met a damaged frame");

    sender.set_state(gst::State::Null).unwrap();
    receiver.set_state(gst::State::Null).unwrap();
    chain.stop(&bin);
}

#[derive(Default)]
struct Av1Payloader {
    sequence_number: u16,
}

impl Av1Payloader {
    fn packets(&mut self, unit: &gst::BufferRef) -> Vec<RtpPacket> {
        let payloads = crate::common::av1::payloads(&unit.map_readable().unwrap(), 600);
        let count = payloads.len();
        let timestamp = (unit.pts().unwrap().nseconds() * 9 / 100_000) as u32;
        let packets = payloads.into_iter().enumerate().map(|(index, payload)| {
            self.sequence_number = self.sequence_number.wrapping_add(1);
            RtpPacket {
                dependencies: None,
                marker: index + 1 == count,
                payload_type: 96,
                sequence_number: self.sequence_number,
                timestamp,
                ssrc: 1,
                payload: payload.into(),
                arrival: Instant::now(),
            }
        });
        packets.collect()
    }
}

pub(super) fn rtp_packet(buffer: &gst::BufferRef) -> RtpPacket {
    let owned = buffer.copy();
    let rtp = gst_rtp::RTPBuffer::from_buffer_readable(&owned).unwrap();
    RtpPacket {
        dependencies: None,
        marker: rtp.is_marker(),
        payload_type: rtp.payload_type(),
        sequence_number: rtp.seq(),
        timestamp: rtp.timestamp(),
        ssrc: rtp.ssrc(),
        payload: rtp.payload().unwrap().to_vec().into(),
        arrival: Instant::now(),
    }
}
