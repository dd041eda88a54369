//! Any datagram may come to the shared port: routing it ends, and nobody's session gets what is not its own.
#![no_main]

use gstwebrtcbridge::session::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| fuzzing::route(datagram));
