//! Any datagram may come in place of a DTLS handshake: putting its messages together ends, and stays within its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::handshake(input));
