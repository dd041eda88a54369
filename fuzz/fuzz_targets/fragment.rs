//! Any bytes may be sent as a trickled fragment: what is read is written so that it is read again, and its candidates are
//! taken or passed over.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::fragment(input));
