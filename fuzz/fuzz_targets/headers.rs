//! Any path and headers may be asked with: a proxy counts if it is ours, a path has one spelling, a tag fits itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::headers(input));
