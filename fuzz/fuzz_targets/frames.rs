//! Any bytes may come by TCP in the place of datagrams: they are the same ones in whatever portions they come.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::frames(input));
