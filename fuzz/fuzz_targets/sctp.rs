//! Anything may be changed in what a peer sends for data channels: no message is longer than what was agreed upon.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::sctp(input));
