//! The elements that turn a codec's packets into frames: depayloader and parser.

use gst::prelude::*;

use super::{av1, caps, loss_gate};
use crate::codec::Codec;

/// An element that cannot be made, with the package that has it.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A plugin is not installed.
    #[error("the GStreamer element {element} is missing: install the package {package}")]
    Missing {
        /// The element's factory.
        element: &'static str,
        /// Debian's package for it.
        package: &'static str,
    },
    /// A thread cannot be made.
    #[error("no thread for a track: {0}")]
    Thread(#[from] std::io::Error),
    /// GStreamer refused, which it should not.
    #[error("{0}")]
    Gst(#[from] gst::glib::BoolError),
    /// An element did not start.
    #[error("{0}")]
    State(#[from] gst::StateChangeError),
    /// Pads did not link.
    #[error("{0}")]
    Link(#[from] gst::PadLinkError),
}

pub(super) const GOOD: &str = "gstreamer1.0-plugins-good";
pub(super) const BAD: &str = "gstreamer1.0-plugins-bad";

/// What is missing on this machine to receive a codec, if anything.
pub fn missing(codec: Codec) -> Option<ChainError> {
    elements(codec).err()
}

/// The parser that completes a codec's caps, where one is needed.
pub(super) fn parser(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::H264 => Some("h264parse"),
        Codec::H265 => Some("h265parse"),
        Codec::Av1 => Some("av1parse"),
        Codec::Vp8 | Codec::Vp9 | Codec::Opus | Codec::Pcmu | Codec::Pcma => None,
    }
}

fn depayloader(codec: Codec) -> Result<gst::Element, ChainError> {
    let depayloader = match codec {
        Codec::H264 => make("rtph264depay", GOOD)?,
        Codec::H265 => make("rtph265depay", GOOD)?,
        Codec::Vp8 => make("rtpvp8depay", GOOD)?,
        Codec::Vp9 => make("rtpvp9depay", GOOD)?,
        Codec::Av1 => av1::depayloader(),
        Codec::Opus => make("rtpopusdepay", GOOD)?,
        Codec::Pcmu => make("rtppcmudepay", GOOD)?,
        Codec::Pcma => make("rtppcmadepay", GOOD)?,
    };
    for property in ["wait-for-keyframe", "request-keyframe"] {
        if depayloader.has_property(property) {
            depayloader.set_property(property, true);
        }
    }
    Ok(depayloader)
}

/// The elements for a codec, in order.
pub(super) fn elements(codec: Codec) -> Result<Vec<gst::Element>, ChainError> {
    let mut elements = vec![depayloader(codec)?];
    if let Some(parser) = parser(codec) {
        elements.push(make(parser, BAD)?);
        let filter = make("capsfilter", "libgstreamer1.0-0")?;
        filter.set_property("caps", caps::media(codec));
        elements.push(filter);
    }
    if matches!(codec, Codec::H264 | Codec::H265) {
        // The depayloaders that let pictures pass that lack a packet.
        loss_gate::install(codec, &elements);
    }
    Ok(elements)
}

pub(super) fn make(element: &'static str, package: &'static str) -> Result<gst::Element, ChainError> {
    gst::ElementFactory::make(element).build().map_err(|_| ChainError::Missing { element, package })
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::{
        super::{
            networks::pictures::{Picture, slices_of},
            packet::to_buffer,
        },
        *,
    };
    use crate::session::{RtpPacket, simulation::dice::Dice};

    #[test]
    fn every_codec_of_the_table_has_its_elements() {
        gst::init().unwrap();
        for codec in Codec::ALL {
            elements(codec).unwrap();
        }
    }

    /// The depayloader kept the first slice of the picture, and took the keyframe's for more of that.
    #[test]
    fn a_keyframe_right_behind_a_picture_that_lost_its_end_comes_out() {
        gst::init().unwrap();
        let dice = &mut Dice::new(1);
        let mut picture = |number: u32, is_keyframe: bool| Picture::new(number, is_keyframe, 3, 900, number % 3, dice);
        let pictures = [picture(0, true), picture(1, false), picture(2, false), picture(3, true), picture(4, false)];
        let (pipeline, source, came) = chain(Codec::H264);
        let mut number = 0;
        for (index, picture) in pictures.iter().enumerate() {
            let payloads = picture.payloads();
            let count = payloads.len();
            for (place, payload) in payloads.into_iter().enumerate() {
                number += 1;
                if index == 2 && place > 0 {
                    continue;
                }
                if index == 3 && place == 0 {
                    source.push_event(lost(number - 2, index));
                }
                source.push(packet(payload, place + 1 == count, number, index)).unwrap();
            }
        }
        let shown: Vec<_> = came.try_iter().collect();
        let expected: Vec<_> = [0, 1, 3, 4].map(|index: usize| pictures[index].slices.clone()).into();
        assert_eq!(shown.len(), expected.len());
        assert!(shown == expected, "they are what was sent");
        pipeline.set_state(gst::State::Null).unwrap();
    }

    /// Pictures of so many slices and bytes, a keyframe behind three, of which the last has lost all but its first packets; which
    /// pictures come out, and how many slices of each.
    fn behind_a_loss(slices: u32, kept: usize, keyframe: (u32, u32)) -> Vec<(Option<usize>, usize)> {
        let dice = &mut Dice::new(1);
        let mut picture = |number: u32| match number {
            0 => Picture::new(0, true, slices, 5000, 0, dice),
            3 => Picture::new(3, true, keyframe.0, keyframe.1, 0, dice),
            _ => Picture::new(number, false, slices, 5000, number % 3, dice),
        };
        let pictures = [0, 1, 2, 3, 4].map(&mut picture);
        let (pipeline, source, came) = chain(Codec::H264);
        let mut number = 0;
        for (index, picture) in pictures.iter().enumerate() {
            let payloads = picture.payloads();
            let count = payloads.len();
            for (place, payload) in payloads.into_iter().enumerate() {
                number += 1;
                if index == 2 && place >= kept {
                    continue;
                }
                if index == 3 && place == 0 {
                    source.push_event(lost(number - 1, index));
                }
                source.push(packet(payload, place + 1 == count, number, index)).unwrap();
            }
        }
        let number = |unit: &Vec<Vec<u8>>| pictures.iter().position(|picture| picture.slices == *unit);
        let came = came.try_iter().map(|unit| (number(&unit), unit.len())).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        came
    }

    #[test]
    fn nothing_of_a_picture_that_lost_its_end_comes_out_with_the_keyframe_behind_it() {
        gst::init().unwrap();
        for kept in [1, 2] {
            for bytes in [900, 5000] {
                let came = behind_a_loss(1, kept, (1, bytes));
                assert_eq!(came, [0, 1, 3, 4].map(|picture| (Some(picture), 1)), "{kept} fragments, {bytes} bytes");
            }
        }
        // The depayloader keeps whole slices, and takes one that has the marker for more of the same picture.
        let came = behind_a_loss(3, 2, (1, 900));
        assert_eq!(came, [0, 1].map(|picture| (Some(picture), 3)), "rather none than a damaged one");
    }

    const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(50);

    /// What is told of the packet with this number, in front of the picture with this index.
    fn lost(number: u16, picture: usize) -> gst::Event {
        let lost = gst::Structure::builder("GstRTPPacketLost")
            .field("seqnum", u32::from(number))
            .field("timestamp", (FRAME * picture as u64).nseconds())
            .field("duration", 0_u64)
            .build();
        gst::event::CustomDownstream::new(lost)
    }

    /// A packet of the picture with this index; the first one of all has number 1.
    fn packet(payload: bytes::Bytes, marker: bool, number: u16, picture: usize) -> gst::Buffer {
        let packet = RtpPacket {
            dependencies: None,
            marker,
            payload_type: 96,
            sequence_number: number,
            timestamp: picture as u32 * 4500,
            ssrc: 1,
            payload,
            arrival: Instant::now(),
        };
        let mut buffer = to_buffer(&packet, number).unwrap();
        let buffer_mut = buffer.get_mut().unwrap();
        let time = FRAME * picture as u64;
        buffer_mut.set_pts(time);
        buffer_mut.set_dts(time);
        if number == 1 {
            buffer_mut.set_flags(gst::BufferFlags::DISCONT);
        }
        buffer
    }

    /// A codec's elements, a pad to push to, and the slices of what comes out.
    fn chain(codec: Codec) -> (gst::Pipeline, gst::Pad, mpsc::Receiver<Vec<Vec<u8>>>) {
        let (pipeline, elements) = (gst::Pipeline::new(), elements(codec).unwrap());
        pipeline.add_many(&elements).unwrap();
        gst::Element::link_many(&elements).unwrap();
        let (tell, came) = mpsc::channel();
        let output = elements.last().unwrap().static_pad("src").unwrap();
        output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let bytes = info.buffer().unwrap().map_readable().unwrap();
            tell.send(slices_of(&bytes)).unwrap();
            gst::PadProbeReturn::Handled
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let source = gst::Pad::builder(gst::PadDirection::Src).build();
        let sink = elements[0].static_pad("sink").unwrap();
        source.link_full(&sink, gst::PadLinkCheck::empty()).unwrap();
        source.set_active(true).unwrap();
        let caps = gst::Caps::builder("application/x-rtp")
            .field("media", "video")
            .field("clock-rate", 90_000)
            .field("encoding-name", codec.name())
            .field("payload", 96)
            .build();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        for event in
            [gst::event::StreamStart::new("test"), gst::event::Caps::new(&caps), gst::event::Segment::new(&segment)]
        {
            source.push_event(event);
        }
        (pipeline, source, came)
    }
}
