//! What becomes of pictures of several slices when packets are lost for good: of what was sent, only whole pictures come out,
//! and after a loss the first is a keyframe that lacks nothing.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstwebrtcbridge::{
    codec::Codec,
    rtp::Chain,
    session::{KeyframeControl, RtpPacket, Track},
};

use super::packet_loss::rtp_packet;
use crate::common::SOON;

/// From one picture to the next.
const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// Of the jitter buffer, in ms.
const LATENCY: u32 = 50;
/// Pictures from one keyframe to the next.
const GROUP: usize = 10;
const PICTURES: usize = 4 * GROUP;

/// The slices of one picture.
type Slices = Vec<Vec<u8>>;

/// A codec as the tests have it encoded: each slice in a packet of its own.
#[derive(Clone, Copy)]
struct Sent {
    codec: Codec,
    encoder: &'static str,
    payloader: &'static str,
    is_slice: fn(&[u8]) -> bool,
    /// In each picture.
    slices: usize,
}

const H264: Sent = Sent {
    codec: Codec::H264,
    encoder: "x264enc tune=zerolatency threads=3 speed-preset=ultrafast bitrate=500 key-int-max=10 option-string=scenecut=0",
    payloader: "rtph264pay",
    is_slice: |nal| matches!(nal[0] & 0x1F, 1 | 5),
    slices: 3,
};

const H265: Sent = Sent {
    codec: Codec::H265,
    encoder: "x265enc tune=zerolatency speed-preset=ultrafast bitrate=500 key-int-max=10 \
              option-string=slices=2:ctu=16:scenecut=0:log-level=none",
    payloader: "rtph265pay",
    is_slice: |nal| nal[0] >> 1 < 32,
    slices: 2,
};

#[test]
fn a_keyframe_that_lost_its_beginning_with_the_end_of_the_picture_before_is_held_back() {
    for sent in [H264, H265] {
        let arrived = sent.through(|pictures| {
            pictures[GROUP - 1].pop();
            // Up to the first slice: what follows looks as if it belonged to the picture before.
            let first = pictures[GROUP].iter().position(|packet| (sent.is_slice)(&packet.payload)).unwrap();
            pictures[GROUP].drain(..=first);
        });
        assert_eq!(arrived, pictures_but(GROUP - 1..2 * GROUP), "{:?}", sent.codec);
    }
}

#[test]
fn a_keyframe_that_lost_a_slice_is_held_back() {
    for sent in [H264, H265] {
        let arrived = sent.through(|pictures| {
            let last = pictures[GROUP].len() - 1;
            pictures[GROUP].remove(last - 1);
        });
        assert_eq!(arrived, pictures_but(GROUP..2 * GROUP), "{:?}", sent.codec);
    }
}

#[test]
fn a_whole_keyframe_right_behind_a_picture_that_lost_a_slice_goes_on() {
    for sent in [H264, H265] {
        let arrived = sent.through(|pictures| {
            pictures[GROUP - 1].remove(0);
        });
        assert_eq!(arrived, pictures_but(GROUP - 1..GROUP), "{:?}", sent.codec);
    }
}

#[test]
fn a_sender_that_sets_no_markers_is_back_with_the_next_keyframe() {
    for sent in [H264, H265] {
        let arrived = sent.through(|pictures| {
            pictures.iter_mut().flatten().for_each(|packet| packet.marker = false);
            pictures[GROUP + 3].remove(1);
        });
        assert_eq!(arrived, pictures_but(GROUP + 3..2 * GROUP), "{:?}", sent.codec);
    }
}

/// All but these, in order.
fn pictures_but(lost: std::ops::Range<usize>) -> Vec<usize> {
    (0..PICTURES).filter(|picture| !lost.contains(picture)).collect()
}

impl Sent {
    /// Sends a stream in real time from which packets were taken. Returns which pictures came out, each as it was sent.
    fn through(&self, lose: impl FnOnce(&mut [Vec<RtpPacket>])) -> Vec<usize> {
        gst::init().unwrap();
        let mut pictures = self.pictures();
        let sent: Vec<Slices> =
            pictures.iter().map(|packets| self.slices(packets.iter().map(|p| &*p.payload))).collect();
        let counts: Vec<_> = sent.iter().map(Vec::len).collect();
        assert_eq!(counts, [self.slices; PICTURES + 1], "so many are asked for");
        lose(&mut pictures);

        let receiver = gst::Pipeline::new();
        let (bin, end) = (gst::Bin::new(), gst::ElementFactory::make("fakesink").build().unwrap());
        end.set_property("async", false);
        receiver.add_many([bin.upcast_ref(), &end]).unwrap();
        let ghost = gst::GhostPad::builder(gst::PadDirection::Src).name("src").build();
        bin.add_pad(&ghost).unwrap();
        let pad = end.static_pad("sink").unwrap();
        ghost.link(&pad).unwrap();
        let (sender, units) = mpsc::channel();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let _ = sender.send(info.buffer().unwrap().map_readable().unwrap().to_vec());
            gst::PadProbeReturn::Ok
        });
        receiver.set_state(gst::State::Playing).unwrap();
        let keyframes: Arc<dyn KeyframeControl> = Arc::new(NoKeyframes);
        let chain = Chain::start(&bin, &ghost, &self.track(), &keyframes, &Arc::default(), LATENCY).unwrap();
        let begun = Instant::now();
        for (due, packets) in (0..).map(|index| PERIOD * index).zip(&pictures) {
            thread::sleep(due.saturating_sub(begun.elapsed()));
            for packet in packets {
                // What came seconds ago would be left out, as downstream does not keep up.
                chain.push(RtpPacket { arrival: Instant::now(), ..packet.clone() });
            }
        }
        let mut arrived = Vec::new();
        while arrived.last() != Some(&(PICTURES - 1)) {
            let unit = units.recv_timeout(SOON).unwrap_or_else(|_| panic!("only {arrived:?} arrived"));
            let slices = self.slices(nals(&unit).into_iter());
            let picture = sent.iter().position(|sent| *sent == slices);
            arrived.push(picture.unwrap_or_else(|| panic!("something else arrived after {arrived:?}")));
        }
        receiver.set_state(gst::State::Null).unwrap();
        chain.stop(&bin);
        arrived
    }

    /// The packets of each picture, and a keyframe more: what has no markers ends where the next begins.
    fn pictures(&self) -> Vec<Vec<RtpPacket>> {
        let sender = gst::parse::launch(&format!(
            "videotestsrc num-buffers={} pattern=snow ! video/x-raw,width=320,height=240,framerate=30/1 ! {} ! \
             {} mtu=60000 aggregate-mode=none config-interval=-1 pt=96 ! \
             appsink name=out sync=false buffer-list=false max-buffers=0",
            PICTURES + 1,
            self.encoder,
            self.payloader
        ));
        let sender = sender.unwrap().downcast::<gst::Pipeline>().unwrap();
        let out = sender.by_name("out").unwrap();
        sender.set_state(gst::State::Playing).unwrap();
        let next = || out.emit_by_name::<Option<gst::Sample>>("try-pull-sample", &[&(SOON.as_nanos() as u64)]);
        let packets: Vec<_> = std::iter::from_fn(next).map(|sample| rtp_packet(sample.buffer().unwrap())).collect();
        sender.set_state(gst::State::Null).unwrap();
        packets.chunk_by(|one, next| one.timestamp == next.timestamp).map(<[_]>::to_vec).collect()
    }

    fn slices<'a>(&self, nals: impl Iterator<Item = &'a [u8]>) -> Slices {
        nals.filter(|nal| (self.is_slice)(nal)).map(<[u8]>::to_vec).collect()
    }

    fn track(&self) -> Track {
        Track {
            index: 0,
            mid: None,
            codec: self.codec,
            payload_type: 96,
            channels: 0,
            fmtp: String::new(),
            rtx: None,
            red: None,
            ssrcs: Vec::new(),
            feedback: Vec::new(),
        }
    }
}

/// What is asked for does not come sooner.
struct NoKeyframes;

impl KeyframeControl for NoKeyframes {
    fn request_keyframe(&self, _: usize) {}

    fn keyframe_arrived(&self, _: usize) {}
}

/// Splits a unit whose NALs have their lengths in front.
fn nals(mut unit: &[u8]) -> Vec<&[u8]> {
    let mut nals = Vec::new();
    while let Some((length, rest)) = unit.split_first_chunk() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(nal);
        unit = rest;
    }
    nals
}
