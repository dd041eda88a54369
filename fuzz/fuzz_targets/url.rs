//! Any text may be given for a URL: it is read or refused, and what is shown of it has no secret.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gstwebrtcbridge::fuzzing::url(input));
