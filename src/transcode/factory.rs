//! Makes elements, and says what to install when one is missing.

use gst::{glib, prelude::*};

use super::CAT;

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
        /// The codec.
        kind: &'static str,
        /// Where a good one comes from.
        package: &'static str,
    },
    /// `encoder` names something that does not make what `video-codec` asks for.
    #[error(
        "encoder={encoder} is no {codec} encoder that GStreamer knows here; use auto, hardware, software or the name of \
         an encoder's factory, such as x264enc for H.264"
    )]
    NotAnEncoder {
        /// What was named.
        encoder: String,
        /// What was asked for.
        codec: &'static str,
    },
    /// None of the encoders that `encoder` allows works.
    #[error("encoder={choice}: none works here ({reasons}); use encoder=auto to have the next best")]
    NoneWorks {
        /// What was asked for.
        choice: String,
        /// Each with what is wrong with it.
        reasons: String,
    },
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
        "queue" | "capsfilter" | "fakesink" | "identity" => "libgstreamer1.0-0",
        "opusdec" | "opusenc" | "videoconvert" | "videoconvertscale" | "videorate" | "videotestsrc"
        | "audioconvert" | "audioresample" | "audiorate" => "gstreamer1.0-plugins-base",
        _ => "gstreamer1.0-plugins-bad",
    }
}

/// Sets a property from text where the element has it and takes the value: versions and encoders differ. A number beyond
/// what the element takes becomes the nearest that it does. Returns whether it is set.
pub(super) fn set_if_present(element: &gst::Element, name: &str, value: &str) -> bool {
    let Some(spec) = element.find_property(name).filter(|spec| {
        let flags = spec.flags();
        flags.contains(glib::ParamFlags::WRITABLE) && !flags.contains(glib::ParamFlags::CONSTRUCT_ONLY)
    }) else {
        return false;
    };
    let nearest = value.parse().ok().and_then(|number| within(&spec, number)).map(|number| number.to_string());
    let value = nearest.as_deref().unwrap_or(value);
    match glib::Value::deserialize_with_pspec(value, &spec) {
        Ok(value) => {
            element.set_property_from_value(name, &value);
            true
        }
        Err(_) => {
            gst::debug!(CAT, obj = element, "does not take {name}={value}");
            false
        }
    }
}

/// A number brought into a numeric property's range.
fn within(spec: &glib::ParamSpec, number: i128) -> Option<i128> {
    let (least, most) = if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        (spec.minimum().into(), spec.maximum().into())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        (spec.minimum().into(), spec.maximum().into())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt64>() {
        (spec.minimum().into(), spec.maximum().into())
    } else if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
        (spec.minimum().into(), spec.maximum().into())
    } else {
        return None;
    };
    Some(number.clamp(least, most))
}

/// A capsfilter.
pub(super) fn filter(caps: &gst::Caps) -> Result<gst::Element, ChainError> {
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_beyond_what_an_element_takes_becomes_the_nearest_that_it_does() {
        gst::init().unwrap();
        let encoder = make("voaacenc").unwrap();
        set_if_present(&encoder, "bitrate", "4000000000");
        assert_eq!(encoder.property::<i32>("bitrate"), 320_000);
        assert!(!set_if_present(&encoder, "no-such-property", "1"));
    }

    #[test]
    fn a_value_that_an_element_does_not_know_is_left_out() {
        gst::init().unwrap();
        let queue = make("queue").unwrap();
        assert!(!set_if_present(&queue, "leaky", "sideways"));
        assert!(set_if_present(&queue, "leaky", "downstream"));
    }
}
