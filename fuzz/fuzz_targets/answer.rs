//! A server may answer anything: reading it ends, with tracks or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::answer(input));
