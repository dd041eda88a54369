//! Any datagram may come in place of a DTLS handshake: putting its messages together ends, and stays within its bounds.
#![no_main]

use gstwebrtcbridge::session::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| fuzzing::handshake(datagram));
