//! Any text may be posted as an offer: reading it ends, with tracks or an error, and the stack sees what was negotiated.
#![no_main]

use gstwebrtcbridge::{session, signaling};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Some(offer) = signaling::fuzzing::offer(body) {
        session::fuzzing::offer(offer);
    }
});
