//! Any messages may come of a TURN server: nothing is asked for ever, and it never gets to see the password.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::relay(input));
