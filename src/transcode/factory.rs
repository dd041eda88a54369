//! Makes elements, and says what to install when one is missing.

use gst::prelude::*;

/// Why no chain could be made.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// An element that is needed does not exist here.
    #[error("the GStreamer element {element} is missing; install the Debian package {package}")]
    MissingElement {
        /// Its factory's name.
        element: String,
        /// Where it comes from.
        package: &'static str,
    },
    /// No encoder of a kind does.
    #[error("no {kind} encoder works here; install the Debian package {package}")]
    NoEncoder {
        /// `H.264` or `AAC`.
        kind: &'static str,
        /// Where a good one comes from.
        package: &'static str,
    },
    /// `encoder` names something that is not an H.264 encoder.
    #[error(
        "encoder={0} is not an H.264 encoder that GStreamer knows here; use auto, software or a factory name such as x264enc"
    )]
    NotAnEncoder(String),
    /// Nothing decodes this.
    #[error(
        "nothing decodes {media}; install the Debian packages gstreamer1.0-plugins-good, -bad and gstreamer1.0-libav"
    )]
    NoDecoder {
        /// The media type.
        media: String,
    },
    /// Raw video in memory that the CPU cannot read.
    #[error("raw video in {0} cannot be used; put the element that downloads it to system memory in front")]
    Memory(String),
    /// Caps that the pad does not take.
    #[error("{0} is not supported on this pad")]
    Unsupported(String),
}

/// Makes an element or names the package that has it.
pub fn make(factory: &str) -> Result<gst::Element, ChainError> {
    gst::ElementFactory::make(factory)
        .build()
        .map_err(|_| ChainError::MissingElement { element: factory.to_owned(), package: package_of(factory) })
}

/// The Debian package that an element comes from.
fn package_of(factory: &str) -> &'static str {
    match factory {
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "vp8dec" | "vp9dec" | "alawdec" | "mulawdec" => "gstreamer1.0-plugins-good",
        name if name.starts_with("avdec_") || name.starts_with("avenc_") => "gstreamer1.0-libav",
        "queue" | "capsfilter" => "libgstreamer1.0-0",
        "opusdec" | "videoconvert" | "audioconvert" | "audioresample" | "audiorate" => "gstreamer1.0-plugins-base",
        _ => "gstreamer1.0-plugins-bad",
    }
}

/// Sets a property from text where the element has it: versions and encoders differ.
pub(super) fn set_if_present(element: &gst::Element, name: &str, value: &str) {
    if element.find_property(name).is_some_and(|spec| spec.flags().contains(gst::glib::ParamFlags::WRITABLE)) {
        element.set_property_from_str(name, value);
    }
}

/// A capsfilter.
pub(super) fn filter(caps: &gst::Caps) -> Result<gst::Element, ChainError> {
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}
