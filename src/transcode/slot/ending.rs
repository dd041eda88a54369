//! How an encoder ends: with the stream, or with the pipeline. A driver may hang in either, and then holds nobody up.

use std::{
    sync::{PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use gst::{prelude::*, subclass::prelude::*};

use super::{
    super::{CAT, proof},
    imp::{LOOK, Slot},
};

/// With nothing out for so long behind the end of the stream there will be nothing more. Encoders may hold seconds of frames back,
/// but give them one by one.
const LAST_FRAMES: Duration = Duration::from_secs(10);
/// An encoder may take so long to stop: some drivers take one.
const STOPS: Duration = Duration::from_secs(5);

/// What has come out behind the end of the stream.
struct Progress {
    given: u64,
    since: Instant,
}

impl Slot {
    /// The encoder has been told that the stream is at its end. Should it never say so itself, that is said in its place.
    pub(super) fn see_to_the_end(&self) {
        let (run, given) = self.with_state(|state| (state.run, state.given));
        let (slot, mut progress) = (self.obj().downgrade(), Progress { given, since: Instant::now() });
        let watch = move || {
            while let Some(slot) = slot.upgrade() {
                if slot.imp().has_come_to_its_end(run, &mut progress) {
                    return;
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("codec-end".to_owned()).spawn(watch) {
            gst::warning!(CAT, imp = self, "nobody sees to the encoder's end: {error}");
        }
    }

    /// Whether nobody needs to look any more; waits a moment if somebody does.
    fn has_come_to_its_end(&self, run: u64, progress: &mut Progress) -> bool {
        let state = self.lock();
        if state.run != run || state.is_over() {
            return true;
        }
        let now = Instant::now();
        if state.given != progress.given || state.watch.is_held_up() {
            *progress = Progress { given: state.given, since: now };
        }
        if now - progress.since < LAST_FRAMES {
            drop(self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner));
            return false;
        }
        drop(state);
        self.give_up_the_rest();
        true
    }

    /// Ends the stream without what is still in the encoder.
    fn give_up_the_rest(&self) {
        let reason = "does not come to its end";
        let Some(unit) = self.with_state(|state| {
            state.begin_run();
            let unit = state.unit.take()?;
            state.candidates.pass_over(&unit.candidate, reason);
            Some(unit)
        }) else {
            return;
        };
        proof::has_failed(&unit.candidate, reason);
        gst::element_imp_warning!(
            self,
            gst::StreamError::Encode,
            ("the encoder {} failed: it {reason}; the stream ends without its last frames", unit.candidate.name())
        );
        self.dismiss(unit);
        self.push_eos();
    }

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
        } else if waits.recv_timeout(STOPS).is_err()
            && let Some(unit) = self.with_state(|state| state.unit.take())
        {
            let reason = "hangs when it is stopped";
            gst::warning!(CAT, imp = self, "{} {reason}", unit.candidate.name());
            proof::has_failed(&unit.candidate, reason);
            self.with_state(|state| state.candidates.pass_over(&unit.candidate, reason));
            self.dismiss(unit);
        }
    }
}
