//! How one encoder leaves the slot and another one takes its place.

use std::time::Instant;

use gst::{prelude::*, subclass::prelude::*};

use super::{
    super::{CAT, aside, proof, unit::Unit, video},
    imp::Slot,
};

impl Slot {
    /// Puts another encoder in. On the streaming thread, so that nothing goes in meanwhile.
    pub(super) fn replace(&self, pad: &gst::GhostPad) -> Result<(), gst::FlowError> {
        let frame_rate = pad.current_caps().and_then(|caps| video::frame_rate(&caps));
        let frame_rate = frame_rate.map(|(numer, denom)| f64::from(numer) / f64::from(denom));
        let (old, failure, mut candidates, tuning) = self.with_state(|state| {
            state.begin_run();
            if let Some(tuning) = &mut state.tuning {
                tuning.frame_rate = frame_rate.or(tuning.frame_rate);
                state.renewal.begins(tuning.bitrate, Instant::now());
            }
            // What has been passed over stays readable.
            let candidates = std::mem::take(&mut state.candidates);
            (state.unit.take(), state.failure.take(), candidates, state.tuning.clone())
        });
        let (name, again) = match old {
            Some(unit) => {
                let candidate = unit.candidate.clone();
                self.dismiss(unit);
                (candidate.name(), Some(candidate))
            }
            None => (self.with_state(|state| state.name.clone()), None),
        };
        let Some(tuning) = tuning else { return Err(gst::FlowError::Error) };
        if let (Some(reason), Some(candidate)) = (&failure, &again) {
            proof::has_failed(candidate, reason);
            candidates.pass_over(candidate, reason);
        }
        let mut unit = match (&failure, &again) {
            (None, Some(candidate)) => Unit::build(candidate, &tuning).ok(),
            _ => None,
        };
        let installed = loop {
            let Some(next) = unit.take().or_else(|| candidates.next(&tuning)) else { break None };
            let candidate = next.candidate.clone();
            match self.install(next) {
                Ok(()) => break Some(candidate.name()),
                Err(reason) => candidates.pass_over(&candidate, &reason),
            }
        };
        self.with_state(|state| state.candidates = candidates);
        let reason = failure.unwrap_or_else(|| "has to start anew".to_owned());
        match installed {
            Some(next) if next == name => gst::info!(CAT, imp = self, "{name} {reason}"),
            Some(next) => {
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Encode,
                    ("the encoder {name} failed: {reason}; {next} goes on in its place")
                );
            }
            None => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Encode,
                    ("the encoder {name} failed: {reason}; there is no other that works here")
                );
                return Err(gst::FlowError::Error);
            }
        }
        Ok(())
    }

    pub(super) fn install(&self, unit: Unit) -> Result<(), String> {
        let broken = |what: &str| Err(format!("cannot be put in place: {what}"));
        let Some((sink, src)) = self.pads.get() else { return broken("no pads") };
        let (Some(unit_sink), Some(unit_src), Some(queue_end)) = (unit.pad("sink"), unit.pad("src"), unit.queue_end())
        else {
            return broken("no pads in it");
        };
        let run = self.with_state(|state| state.run);
        let slot = self.obj().downgrade();
        queue_end.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if let Some(slot) = slot.upgrade() {
                slot.imp().with_state(|state| {
                    if state.run == run {
                        state.queued = state.queued.saturating_sub(1);
                    }
                });
                slot.imp().changed.notify_all();
            }
            gst::PadProbeReturn::Ok
        });
        unit.bin.set_locked_state(true);
        if let Err(error) = self.obj().add(&unit.bin) {
            return broken(&error.message);
        }
        let linked = src.set_target(Some(&unit_src)).and_then(|()| sink.set_target(Some(&unit_sink)));
        let name = unit.candidate.name();
        let bin = unit.bin.clone();
        // From here on its errors are taken as its own.
        self.with_state(|state| (state.name, state.unit) = (name, Some(unit)));
        let started = bin.set_state(self.obj().current_state());
        if linked.is_ok() && started.is_ok() {
            return Ok(());
        }
        let (unit, failure) = self.with_state(|state| (state.unit.take(), state.failure.take()));
        if let Some(unit) = unit {
            self.dismiss(unit);
        }
        Err(failure.unwrap_or_else(|| "does not start".to_owned()))
    }

    /// Takes a unit out.
    pub(super) fn dismiss(&self, unit: Unit) {
        if let Some((sink, src)) = self.pads.get() {
            let _ = sink.set_target(None::<&gst::Pad>);
            let _ = src.set_target(None::<&gst::Pad>);
        }
        let _ = self.obj().remove(&unit.bin);
        aside::stop(unit.bin.upcast());
    }
}
