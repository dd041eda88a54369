//! Any datagram may come to the shared port: routing it ends, and nobody's session gets what is not its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::stun(input));
