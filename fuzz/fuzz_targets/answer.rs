//! A server may answer anything: reading it ends, with tracks or an error.
#![no_main]

use gstwebrtcbridge::{session, signaling};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Some(answer) = signaling::fuzzing::answer(body) {
        session::fuzzing::answer(answer);
    }
});
