//! Any text may come in a frame of /ws: it is a message or an error, and what is passed on cannot break a line.
#![no_main]

use gstwebrtcbridge::signaling::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzzing::message(text));
