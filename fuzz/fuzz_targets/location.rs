//! Any text may be given for a destination: it is read or refused, and what is shown of it has no key.
//!
//! The reader is taken in as a file: its module is part of the plugin, which needs GStreamer.
#![no_main]

#[path = "../../src/rtmp/fuzzing.rs"]
mod fuzzing;
#[path = "../../src/rtmp/location.rs"]
mod location;

libfuzzer_sys::fuzz_target!(|text: &str| fuzzing::location(text));
