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
                let pts = gst::ClockTime::from_mseconds(50 * index as u64);
                number += 1;
                if index == 2 && place > 0 {
                    continue;
                }
                if index == 3 && place == 0 {
                    let lost = gst::Structure::builder("GstRTPPacketLost")
                        .field("seqnum", u32::from(number - 2_u16))
                        .field("timestamp", pts.nseconds())
                        .field("duration", 0_u64)
                        .build();
                    source.push_event(gst::event::CustomDownstream::new(lost));
                }
                let packet = RtpPacket {
                    dependencies: None,
                    marker: place + 1 == count,
                    payload_type: 96,
                    sequence_number: number,
                    timestamp: index as u32 * 4500,
                    ssrc: 1,
                    payload,
                    arrival: Instant::now(),
                };
                let mut buffer = to_buffer(&packet, number).unwrap();
                let buffer_mut = buffer.get_mut().unwrap();
                buffer_mut.set_pts(pts);
                buffer_mut.set_dts(pts);
                if number == 1 {
                    buffer_mut.set_flags(gst::BufferFlags::DISCONT);
                }
                source.push(buffer).unwrap();
            }
        }
        let shown: Vec<_> = came.try_iter().collect();
        let expected: Vec<_> = [0, 1, 3, 4].map(|index: usize| pictures[index].slices.clone()).into();
        assert_eq!(shown.len(), expected.len());
        assert!(shown == expected, "they are what was sent");
        pipeline.set_state(gst::State::Null).unwrap();
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
