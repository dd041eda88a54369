//! Any payload may come as AV1.
//!
//! The assembler is taken in as a file: its module is part of the plugin, which needs GStreamer.
#![no_main]

#[path = "../../src/rtp/av1/fuzzing.rs"]
mod fuzzing;
#[path = "../../src/rtp/av1/unit.rs"]
mod unit;

libfuzzer_sys::fuzz_target!(|packets: &[u8]| fuzzing::av1(packets));
