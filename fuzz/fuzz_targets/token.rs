//! Any text may be shown as a token, by a page of any name: it is read or refused, and nothing gets in that was not signed.
#![no_main]

use gstwebrtcbridge::signaling::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzzing::token(text));
