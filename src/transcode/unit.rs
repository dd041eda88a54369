//! One encoder with what it needs around it: a queue, conversion, the way into its memory, a parser behind it.

use std::time::Duration;

use gst::{glib, prelude::*};

use super::{
    ChainError,
    candidates::Candidate,
    factory::{filter, make, set_if_present},
    gop,
    known::{self, Bitrate, Known, known},
    memory, video,
};
use crate::codec::Codec;

/// What an encoder is told.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    /// Bit/s.
    pub(super) bitrate: u32,
    pub(super) keyframe_interval: Duration,
    /// As far as caps tell.
    pub(super) frame_rate: Option<f64>,
    pub(super) style: Style,
}

/// What it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    /// Platforms and players that buffer.
    #[default]
    Broadcast,
    /// Peers that show each picture at once, in what every browser decodes.
    Conversation,
}

/// More frames a second than there are: a group of pictures can then not become too long in frames before it does so in
/// time.
const FRAMES_A_SECOND_AT_MOST: f64 = 240.0;
/// Where caps say nothing.
const FRAMES_A_SECOND_USUALLY: f64 = 30.0;
const FRAMES_IN_A_GROUP_AT_MOST: f64 = 100_000.0;

/// The encoder at work.
#[derive(Debug)]
pub(super) struct Unit {
    /// Holds all of it; its pads are `sink` and `src`.
    pub(super) bin: gst::Bin,
    pub(super) candidate: Candidate,
    encoder: gst::Element,
    queue: gst::Element,
}

impl Unit {
    /// Makes it, not yet started.
    pub(super) fn build(candidate: &Candidate, tuning: &Tuning) -> Result<Self, ChainError> {
        let encoder = make(&candidate.name())?;
        let known = known(&candidate.name());
        configure(&encoder, &known, candidate.hardware, tuning);
        gop::keep(&encoder, tuning.keyframe_interval);

        let queue = make("queue")?;
        // The slot counts what it puts in; the queue is there for its thread.
        for limit in ["max-size-buffers", "max-size-bytes", "max-size-time"] {
            set_if_present(&queue, limit, "0");
        }
        let mut elements = vec![queue.clone(), make("videoconvert")?];
        elements.extend(memory::way_into(known.memory, &candidate.factory));
        elements.push(encoder.clone());
        let output = match (tuning.style, candidate.codec) {
            (Style::Conversation, Codec::H264) => known::conversation_h264(&candidate.factory),
            _ => known.output.and_then(|caps| caps.parse().ok()),
        };
        if let Some(caps) = output {
            elements.push(filter(&caps)?);
        }
        elements.extend(video::parser(candidate.codec)?);

        let bin = gst::Bin::new();
        wire(&bin, &elements).map_err(|error| ChainError::Unsupported(error.message.into_owned()))?;
        Ok(Self { bin, candidate: candidate.clone(), encoder, queue })
    }

    /// Where frames leave the queue.
    pub(super) fn queue_end(&self) -> Option<gst::Pad> {
        self.queue.static_pad("src")
    }

    pub(super) fn pad(&self, name: &str) -> Option<gst::Pad> {
        self.bin.static_pad(name)
    }

    /// The encoder alone, to set its bitrate without holding on to the rest.
    pub(super) fn encoder(&self) -> gst::Element {
        self.encoder.clone()
    }
}

/// Sets a video encoder's bitrate, given in bit/s. False if it has such a property but takes it only when it starts.
pub(super) fn set_bitrate(encoder: &gst::Element, tuning: &Tuning) -> bool {
    let factory = encoder.factory().map(|factory| factory.name().to_string()).unwrap_or_default();
    match known(&factory).bitrate {
        Bitrate::Property(name, unit) => {
            let runs = encoder.current_state() > gst::State::Ready;
            let flags = encoder.find_property(name).map(|spec| spec.flags());
            let is_silent = known::takes_bitrate_at_any_time(known(&factory).factory);
            if runs && !is_silent && flags.is_some_and(|flags| !flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING)) {
                return false;
            }
            set_if_present(encoder, name, &(tuning.bitrate / unit).max(1).to_string());
        }
        Bitrate::Controls => {
            let structure = controls(tuning).to_string();
            set_if_present(encoder, "extra-controls", &structure);
        }
    }
    true
}

fn configure(encoder: &gst::Element, known: &Known, hardware: bool, tuning: &Tuning) {
    for (name, value) in known.extra {
        set_if_present(encoder, name, value);
    }
    if tuning.style == Style::Conversation {
        for (name, value) in known::conversation(known.factory) {
            set_if_present(encoder, name, value);
        }
    }
    // Keyframes are asked for by time. Software is kept from making its own between; hardware, whose driver may be deaf to
    // being asked, makes them in case.
    let frames = if hardware { frames_in_a_group(tuning) } else { frames_at_most(tuning, FRAMES_A_SECOND_AT_MOST) };
    for name in known.gop {
        set_if_present(encoder, name, &frames.to_string());
    }
    set_bitrate(encoder, tuning);
}

fn frames_in_a_group(tuning: &Tuning) -> u32 {
    frames_at_most(tuning, tuning.frame_rate.unwrap_or(FRAMES_A_SECOND_USUALLY))
}

/// One more than there are in a group of pictures, so that the one that is asked for comes first.
fn frames_at_most(tuning: &Tuning, frame_rate: f64) -> u32 {
    let frames = (tuning.keyframe_interval.as_secs_f64() * frame_rate).ceil() + 1.0;
    frames.clamp(2.0, FRAMES_IN_A_GROUP_AT_MOST) as u32
}

/// What a Video4Linux encoder is told; its driver leaves out what it does not know.
fn controls(tuning: &Tuning) -> gst::Structure {
    gst::Structure::builder("controls")
        .field("video_bitrate", i32::try_from(tuning.bitrate).unwrap_or(i32::MAX))
        .field("video_bitrate_mode", 1i32) // constant
        .field("h264_i_frame_period", i32::try_from(frames_in_a_group(tuning)).unwrap_or(i32::MAX))
        .field("repeat_sequence_header", 1i32)
        .build()
}

fn wire(bin: &gst::Bin, elements: &[gst::Element]) -> Result<(), glib::BoolError> {
    bin.add_many(elements)?;
    gst::Element::link_many(elements)?;
    let ends = [(elements.first(), "sink"), (elements.last(), "src")];
    for (element, name) in ends {
        let pad = element.and_then(|element| element.static_pad(name));
        let pad = pad.ok_or_else(|| glib::bool_error!("an element lacks its {} pad", name))?;
        bin.add_pad(&gst::GhostPad::builder_with_target(&pad)?.name(name).build())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(bitrate: u32, frame_rate: Option<f64>) -> Tuning {
        Tuning { bitrate, keyframe_interval: Duration::from_secs(2), frame_rate, style: Style::Broadcast }
    }

    #[test]
    fn bitrates_are_set_in_each_encoders_unit() {
        gst::init().unwrap();
        for (name, property, value) in [
            ("x264enc", "bitrate", 1500u64),
            ("openh264enc", "bitrate", 1_500_000),
            ("x265enc", "bitrate", 1500),
            ("av1enc", "target-bitrate", 1500),
            ("vp9enc", "target-bitrate", 1_500_000),
        ] {
            let encoder = make(name).unwrap();
            assert!(set_bitrate(&encoder, &tuning(1_500_000, None)), "{name}");
            let bitrate = encoder.property_value(property).transform::<u64>().unwrap();
            assert_eq!(bitrate.get::<u64>().unwrap(), value, "{name}");
        }
    }

    #[test]
    fn hardware_makes_keyframes_just_after_they_are_asked_for() {
        assert_eq!(frames_in_a_group(&tuning(1, Some(25.0))), 51);
        assert_eq!(frames_in_a_group(&tuning(1, Some(30000.0 / 1001.0))), 61);
        assert_eq!(frames_in_a_group(&tuning(1, None)), 61);
        assert_eq!(frames_in_a_group(&tuning(1, Some(f64::INFINITY))), 100_000);
        let software = make_configured("x264enc");
        assert_eq!(software.property::<u32>("key-int-max"), 481);
    }

    fn make_configured(name: &str) -> gst::Element {
        gst::init().unwrap();
        let encoder = make(name).unwrap();
        configure(&encoder, &known(name), false, &tuning(2_000_000, None));
        encoder
    }

    #[test]
    fn video4linux_is_told_by_controls() {
        gst::init().unwrap();
        let controls = controls(&tuning(3_000_000, Some(30.0)));
        assert_eq!(controls.get::<i32>("video_bitrate"), Ok(3_000_000));
        assert_eq!(controls.get::<i32>("h264_i_frame_period"), Ok(61));
    }
}
