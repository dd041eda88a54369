//! From what a pad brings to what RTMP carries: H.264 as `avc` access units and raw AAC, or what was asked for instead.
//!
//! [`Chain::build`] makes the elements for some caps; whoever called it adds them to a bin and links its own end behind
//! them. H.264 and AAC pass through a parser only, unless a canvas is asked for; everything else is decoded and encoded.
//!
//! ```text
//! video:  parse ─ decoder ─ [videorate] ─ scaler ─ caps of the canvas ─ slot ┄ holds one encoder at a time:
//!                                                        queue ─ convert ─ [upload] ─ encoder ─ parse
//! ```
//!
//! `conversation` makes chains for WebRTC peers in the same way: no canvas, low latency, keyframes when they are asked for.
//!
//! `known` is the table of encoders, `candidates` the order in which they are tried, `proof` whether one works here,
//! `unit` one encoder with what it needs around it, `slot` the place where it works and is replaced when it fails.

use once_cell::sync::Lazy;

mod aside;
mod audio;
mod candidates;
mod canvas;
mod chain;
mod conversation;
mod decoder;
mod entrance;
mod factory;
mod gop;
mod known;
mod memory;
mod proof;
mod slot;
mod still;
mod survey;
mod unit;
mod video;
mod watch;

pub use canvas::Canvas;
pub use chain::{Chain, Route, Settings};
pub use conversation::{Conversation, can_encode};
pub use factory::{ChainError, make};
pub use still::{Picture, Shape, Still, StillError};
pub use survey::{Surveyed, survey};

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("rtmpbridge-transcode", gst::DebugColorFlags::empty(), Some("Encoders and decoders"))
});
