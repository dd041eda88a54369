//! From what a pad brings to what RTMP carries: H.264 as `avc` access units and raw AAC, or what was asked for instead.
//!
//! [`Chain::build`] makes the elements for some caps; whoever called it adds them to a bin and links its own end behind
//! them. H.264 and AAC pass through a parser only; everything else is decoded and encoded.

mod audio;
mod chain;
mod encoders;
mod enhanced;
mod factory;
mod gop;
mod video;

pub use chain::{Chain, Route, Settings};
pub use factory::{ChainError, make};
