//! The crossing alone, fed with packets that a test makes: what a session would hand over, at the times it chooses.
//!
//! Video is VP8 whose frames hold nothing but a header, audio is PCMU: nothing is decoded behind the pads.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstwebrtcbridge::{
    codec::{Codec, MediaKind},
    rtp::{ChainError, Crossing, Receiver, SessionFeed},
    session::{ConnectionState, EndReason, KeyframeControl, PacketSink, RtpPacket, SenderReport, Track},
};

use super::{SOON, wait_until};

pub const VIDEO: usize = 0;
pub const AUDIO: usize = 1;

/// How long the pipeline has been playing when it is started.
const PLAYED: gst::ClockTime = gst::ClockTime::from_seconds(600);

/// What came out of a pad.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub pts: gst::ClockTime,
    pub dts: gst::ClockTime,
    pub size: usize,
    pub key: bool,
    pub at: Instant,
}

/// What came out of one pad, frames and bridged pauses.
#[derive(Default)]
pub struct Output {
    pub frames: Mutex<Vec<Frame>>,
    /// Start and end.
    pub gaps: Mutex<Vec<(gst::ClockTime, gst::ClockTime)>>,
    /// Until when the pad's downstream does not take anything.
    pub blocked_until: Mutex<Option<Instant>>,
}

/// A playing pipeline around a crossing with one session of a video and an audio track.
pub struct Fed {
    pub pipeline: gst::Pipeline,
    pub crossing: Crossing,
    pub feed: SessionFeed,
    pub outputs: [Arc<Output>; 2],
    pub asked: Arc<Asked>,
}

/// Counts keyframe requests.
#[derive(Default)]
pub struct Asked(pub AtomicUsize);

impl KeyframeControl for Asked {
    fn request_keyframe(&self, _: usize) {
        self.0.fetch_add(1, SeqCst);
    }

    fn keyframe_arrived(&self, _: usize) {}
}

struct Pads {
    bin: gst::glib::WeakRef<gst::Bin>,
    outputs: [Arc<Output>; 2],
}

impl Receiver for Pads {
    fn bin(&self) -> Option<gst::Bin> {
        self.bin.upgrade()
    }

    fn add_pad(&self, kind: MediaKind, number: usize, _: Option<&gst::Caps>) -> Option<gst::GhostPad> {
        let bin = self.bin.upgrade()?;
        let pad = gst::GhostPad::builder(gst::PadDirection::Src).name(format!("{kind}_{number}")).build();
        pad.set_active(true).ok()?;
        bin.add_pad(&pad).ok()?;
        let pipeline = bin.parent().and_downcast::<gst::Pipeline>()?;
        let sink =
            gst::ElementFactory::make("fakesink").property("async", false).property("sync", false).build().ok()?;
        pipeline.add(&sink).ok()?;
        sink.sync_state_with_parent().ok()?;
        let entry = sink.static_pad("sink")?;
        watch(&entry, &self.outputs[if kind == MediaKind::Video { VIDEO } else { AUDIO }]);
        pad.link(&entry).ok()?;
        Some(pad)
    }

    fn no_more_pads(&self) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn session_started(&self, _: &str) {}
    fn session_ended(&self, _: &str, _: EndReason) {}
    fn stream_ended(&self) {}
    fn failed(&self, error: &ChainError) {
        panic!("{error}");
    }
    fn nothing_linked(&self) {
        panic!("nothing linked");
    }
    fn not_negotiated(&self, _: &gst::GhostPad) {
        panic!("not negotiated");
    }
}

fn watch(pad: &gst::Pad, output: &Arc<Output>) {
    let output = output.clone();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(buffer) = info.buffer() {
            if let Some(until) = *output.blocked_until.lock().unwrap() {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            output.frames.lock().unwrap().push(Frame {
                pts: buffer.pts().expect("a PTS"),
                dts: buffer.dts().expect("a DTS"),
                size: buffer.size(),
                key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                at: Instant::now(),
            });
        }
        if let Some(gst::EventView::Gap(gap)) = info.event().map(|event| event.view()) {
            let (start, duration) = gap.get();
            output.gaps.lock().unwrap().push((start, start + duration.expect("a duration")));
        }
        gst::PadProbeReturn::Ok
    });
}

fn track(index: usize, codec: Codec, payload_type: u8) -> Track {
    Track {
        index,
        mid: None,
        codec,
        payload_type,
        channels: 1,
        fmtp: String::new(),
        rtx: None,
        red: None,
        ssrcs: Vec::new(),
        feedback: Vec::new(),
    }
}

impl Fed {
    pub fn start(latency: u32) -> Self {
        gst::init().expect("GStreamer");
        let pipeline = gst::Pipeline::new();
        let bin = gst::Bin::new();
        pipeline.add(&bin).expect("a bin");
        // It has been playing for a while: a test can hand over what came a minute ago.
        let clock = gst::SystemClock::obtain();
        pipeline.use_clock(Some(&clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(clock.time().saturating_sub(PLAYED));
        pipeline.set_state(gst::State::Playing).expect("playing");
        wait_until("running time", SOON, || pipeline.current_running_time().filter(|now| !now.is_zero()));
        let outputs = [Arc::<Output>::default(), Arc::default()];
        let receiver = Pads { bin: bin.downgrade(), outputs: outputs.clone() };
        let crossing = Crossing::start("test:rtp", receiver, latency, false).expect("a thread");
        let feed = crossing.feed("test");
        let asked = Arc::<Asked>::default();
        feed.begin(asked.clone(), vec![track(VIDEO, Codec::Vp8, 96), track(AUDIO, Codec::Pcmu, 0)]);
        Self { pipeline, crossing, feed, outputs, asked }
    }

    /// Running time of an instant.
    pub fn running_time(&self, at: Instant) -> gst::ClockTime {
        let (now, running_time) = (Instant::now(), self.pipeline.current_running_time().expect("playing"));
        let age = |duration: Duration| gst::ClockTime::from_nseconds(duration.as_nanos() as u64);
        running_time + age(at.saturating_duration_since(now)) - age(now.saturating_duration_since(at))
    }

    pub fn frames(&self, track: usize) -> Vec<Frame> {
        self.outputs[track].frames.lock().unwrap().clone()
    }

    pub fn gaps(&self, track: usize) -> Vec<(gst::ClockTime, gst::ClockTime)> {
        self.outputs[track].gaps.lock().unwrap().clone()
    }

    pub fn keyframe_requests(&self) -> usize {
        self.asked.0.load(SeqCst)
    }

    /// Waits for so many frames of a track.
    #[track_caller]
    pub fn wait_frames(&self, track: usize, count: usize) -> Vec<Frame> {
        wait_until("frames", SOON, || Some(self.frames(track)).filter(|frames| frames.len() >= count))
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        self.crossing.stop();
    }
}

/// Makes the packets of one track, one after the other.
pub struct Packets {
    pub track: usize,
    pub ssrc: u32,
    pub sequence_number: u16,
    pub timestamp: u32,
}

impl Packets {
    pub fn video() -> Self {
        Self { track: VIDEO, ssrc: 0x1111, sequence_number: 65_500, timestamp: u32::MAX - 90_000 }
    }

    pub fn audio() -> Self {
        Self { track: AUDIO, ssrc: 0x2222, sequence_number: 65_500, timestamp: u32::MAX - 8_000 }
    }

    pub fn next(&mut self, marker: bool, payload: Vec<u8>, arrival: Instant) -> RtpPacket {
        let packet = RtpPacket {
            dependencies: None,
            marker,
            payload_type: if self.track == VIDEO { 96 } else { 0 },
            sequence_number: self.sequence_number,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            payload: payload.into(),
            arrival,
        };
        self.sequence_number = self.sequence_number.wrapping_add(1);
        packet
    }

    /// The packets of one frame: three of VP8 (RFC 7741), or 20 ms of PCMU.
    pub fn frame(&mut self, key: bool, arrival: Instant) -> Vec<RtpPacket> {
        if self.track == AUDIO {
            let packet = self.next(false, vec![0xFF; 160], arrival);
            return vec![packet];
        }
        let mut first = vec![0x10]; // start of the first partition
        match key {
            true => first.extend([0x10, 0, 0, 0x9D, 0x01, 0x2A, 64, 0, 64, 0]), // 64x64
            false => first.extend([0x11, 0, 0, 1, 2, 3]),
        }
        first.resize(500, 7);
        let mut middle = vec![0; 500];
        middle[0] = 0x00;
        vec![
            self.next(false, first, arrival),
            self.next(false, middle.clone(), arrival),
            self.next(true, middle, arrival),
        ]
    }

    /// A packet that holds padding and nothing else.
    pub fn padding(&mut self, arrival: Instant) -> RtpPacket {
        self.next(false, Vec::new(), arrival)
    }

    /// A sender report: the timestamp of the next frame is this time of the sender's clock.
    pub fn report(&self, wall_clock: Duration, arrival: Instant) -> SenderReport {
        let seconds = 3_900_000_000 + wall_clock.as_secs();
        let fraction = (u64::from(wall_clock.subsec_nanos()) << 32) / 1_000_000_000;
        SenderReport { ssrc: self.ssrc, ntp_time: seconds << 32 | fraction, rtp_time: self.timestamp, arrival }
    }
}

/// Sleeps until then: tests here play a sender, who keeps time.
pub fn at(start: Instant, after: Duration) -> Instant {
    let then = start + after;
    std::thread::sleep(then.saturating_duration_since(Instant::now()));
    then
}

/// Hands packets over.
pub fn send(fed: &Fed, track: usize, packets: impl IntoIterator<Item = RtpPacket>) {
    for packet in packets {
        fed.feed.rtp(track, packet);
    }
}
