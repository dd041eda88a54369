//! Anything may be changed in a handshake on its way: it comes to its end or does not, and neither side answers without bound.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::dtls(input));
