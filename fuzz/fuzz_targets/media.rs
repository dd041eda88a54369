//! Any packets may come of a peer once SRTP has let them through: each goes on once, and brings about few others.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::media(input));
