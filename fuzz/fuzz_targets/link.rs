//! A server may send any Link header field, and a user may describe any ICE server: both are read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::link(input));
