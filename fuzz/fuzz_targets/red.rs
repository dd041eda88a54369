//! Any payload may come as redundant audio: each packet goes on once, and none has bytes that did not come.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::red(input));
