//! How an encoder stops with its pipeline. A driver may hang then, or may have hung before, and holds nobody up.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use gst::{prelude::*, subclass::prelude::*};

use super::{
    super::{CAT, proof},
    imp::Slot,
};

/// An encoder may take so long to stop: some drivers take one.
const STOPS: Duration = Duration::from_secs(5);

impl Slot {
    /// Takes the encoder to a lower state with the slot. One that hangs is left to itself, and the next run gets another.
    pub(super) fn stop_unit(&self, to: gst::State) {
        let Some(bin) = self.unit_bin() else { return };
        let (stopped, waits) = mpsc::channel();
        let stop = {
            let bin = bin.clone();
            move || {
                let _ = bin.set_state(to);
                let _ = stopped.send(());
            }
        };
        if thread::Builder::new().name("codec-stop".to_owned()).spawn(stop).is_err() {
            let _ = bin.set_state(to);
            return;
        }
        // Of one that is held up by what is behind it nothing bad is known.
        while waits.recv_timeout(STOPS) == Err(RecvTimeoutError::Timeout) {
            if self.with_state(|state| state.watch.is_held_up()) {
                continue;
            }
            if let Some(unit) = self.with_state(|state| state.unit.take_if(|unit| unit.bin == bin)) {
                let reason = "hangs when it is stopped";
                gst::warning!(CAT, imp = self, "{} {reason}", unit.candidate.name());
                proof::has_failed(&unit.candidate, reason);
                self.with_state(|state| state.candidates.pass_over(&unit.candidate, reason));
                self.dismiss(unit);
            }
            break;
        }
        // It may have been replaced meanwhile.
        if let Some(other) = self.unit_bin().filter(|other| *other != bin) {
            let _ = other.set_state(to);
        }
    }
}
