//! Any packets may come of a publisher: each goes to a viewer under a number of its own, or does not.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::rewrite(input));
