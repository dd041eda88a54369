//! Any payload may come as redundant audio: each packet goes on once, and none has bytes that did not come.
#![no_main]

use gstwebrtcbridge::session::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packets: &[u8]| fuzzing::red(packets));
