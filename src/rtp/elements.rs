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
        loss_gate::install(&elements);
    }
    Ok(elements)
}

pub(super) fn make(element: &'static str, package: &'static str) -> Result<gst::Element, ChainError> {
    gst::ElementFactory::make(element).build().map_err(|_| ChainError::Missing { element, package })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_of_the_table_has_its_elements() {
        gst::init().unwrap();
        for codec in Codec::ALL {
            elements(codec).unwrap();
        }
    }
}
