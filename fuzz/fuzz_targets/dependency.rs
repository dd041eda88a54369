//! Any header extension may come as a dependency descriptor: it is refused, or can be told anew and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::dependency(input));
