//! The type of `missing-track`.
#![allow(missing_docs)] // glib::Enum expands to undocumented items

use gst::glib;

/// What becomes of a track that does not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtmpBridgeMissingTrack")]
pub enum MissingTrack {
    /// The stream goes out without it.
    #[default]
    #[enum_value(name = "The stream goes out without it", nick = "ignore")]
    Ignore,
    /// Silence, or a picture, stands in for it.
    #[enum_value(name = "Silence, or the slate or a black picture, stands in for it", nick = "synthesise")]
    Synthesise,
}
