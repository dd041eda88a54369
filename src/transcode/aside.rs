//! Stopping what may hang.

use std::thread;

use gst::prelude::*;

/// Stops a codec that has been taken out of its pipeline. Its driver may hang in any call, so that is left to a thread
/// which nobody waits for.
pub(super) fn stop(codec: gst::Element) {
    let left = codec.clone();
    let stop = move || {
        let _ = left.set_state(gst::State::Null);
    };
    if thread::Builder::new().name("codec-stop".to_owned()).spawn(stop).is_err() {
        let _ = codec.set_state(gst::State::Null);
    }
}
