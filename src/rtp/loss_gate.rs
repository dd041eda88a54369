//! Keeps damaged frames back where the depayloader does not: after a lost packet nothing passes until a keyframe that was
//! begun after it.

use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

/// Frames that a missing packet may have belonged to: the one under way when it was missed, and the next.
const SUSPECTS: u32 = 2;

/// What may pass. Pure, so that it can be tested.
#[derive(Debug, Default)]
struct Gate {
    suspects: u32,
    needs_keyframe: bool,
}

impl Gate {
    fn lost(&mut self) {
        self.suspects = SUSPECTS;
        self.needs_keyframe = true;
    }

    fn passes(&mut self, is_keyframe: bool) -> bool {
        if self.suspects > 0 {
            self.suspects -= 1;
            return false;
        }
        self.needs_keyframe &= !is_keyframe;
        !self.needs_keyframe
    }
}

/// Puts a gate around a chain whose first element is the depayloader.
pub(super) fn install(elements: &[gst::Element]) {
    let Some(input) = elements.first().and_then(|depayloader| depayloader.static_pad("sink")) else { return };
    let Some(output) = elements.last().and_then(|last| last.static_pad("src")) else { return };
    let gate = Arc::new(Mutex::new(Gate::default()));
    let (entry, exit) = (gate.clone(), gate);
    input.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let is_loss = |event: &gst::Event| event.structure().is_some_and(|s| s.name() == "GstRTPPacketLost");
        if info.event().is_some_and(is_loss) {
            entry.lock().unwrap_or_else(PoisonError::into_inner).lost();
        }
        gst::PadProbeReturn::Ok
    });
    let input = input.downgrade();
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let is_keyframe = info.buffer().is_some_and(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if exit.lock().unwrap_or_else(PoisonError::into_inner).passes(is_keyframe) {
            return gst::PadProbeReturn::Ok;
        }
        // How often the peer is asked is the session's business.
        if let Some(input) = input.upgrade() {
            input.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        gst::PadProbeReturn::Drop
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_loss_only_a_keyframe_begun_later_passes() {
        let mut gate = Gate::default();
        assert!(gate.passes(true) && gate.passes(false), "nothing was lost");
        gate.lost();
        assert!(!gate.passes(false), "the damaged one");
        assert!(!gate.passes(true), "a keyframe whose beginning may be missing");
        assert!(!gate.passes(false), "what depends on it");
        assert!(gate.passes(true) && gate.passes(false));
    }

    #[test]
    fn losses_in_a_row_count_from_the_last() {
        let mut gate = Gate::default();
        gate.lost();
        assert!(!gate.passes(true));
        gate.lost();
        assert!(!gate.passes(true) && !gate.passes(true));
        assert!(gate.passes(true));
    }
}
