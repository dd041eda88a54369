//! Any text may be posted as an offer: reading it ends, with tracks or an error, and the stack sees what was negotiated.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::offer(input));
