//! Whatever an RTMP server sends, a publisher reads it or hangs up, and says no more than it is asked.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::rtmp(input));
