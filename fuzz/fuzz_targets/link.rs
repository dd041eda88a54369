//! A server may send any Link header field, and a user may describe any ICE server: both are read or refused.
#![no_main]

use gstwebrtcbridge::signaling::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzzing::link(text));
