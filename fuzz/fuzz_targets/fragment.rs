//! Any bytes may be sent as a trickled fragment: what is read is written so that it is read again, and its candidates are
//! taken or passed over.
#![no_main]

use gstwebrtcbridge::{session, signaling::IceFragment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(fragment) = IceFragment::parse(body) else { return };
    let printed = fragment.to_string();
    assert_eq!(IceFragment::parse(printed.as_bytes()).as_ref(), Ok(&fragment), "written as {printed:?}");
    for candidate in &fragment.candidates {
        session::fuzzing::candidate(&candidate.line);
    }
});
