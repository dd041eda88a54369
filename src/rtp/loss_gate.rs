//! Keeps damaged frames back where the depayloader does not: after a lost packet nothing passes until a keyframe of which
//! every packet has come.
//!
//! Depayloaders for H.264 and H.265 keep what they have of a broken picture and append what follows. A loss that takes the end
//! of one picture and the beginning of a keyframe, or a slice of one, leaves a unit that still counts as a keyframe.

use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

/// What may pass. Pure, so that it can be tested.
#[derive(Debug)]
struct Gate {
    needs_keyframe: bool,
    /// Whether all packets since the last marker are there: the next one begins a picture.
    at_boundary: bool,
    /// Pictures of this time and later are whole. `None` after a loss, until one has begun.
    whole_from: Option<Option<gst::ClockTime>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { needs_keyframe: false, at_boundary: true, whole_from: Some(None) }
    }
}

impl Gate {
    fn lost(&mut self) {
        *self = Self { needs_keyframe: true, at_boundary: false, whole_from: None };
    }

    /// A packet of a picture of this time, the last one of it with the marker.
    fn packet(&mut self, time: Option<gst::ClockTime>, marker: bool) {
        if self.at_boundary && self.whole_from.is_none() {
            self.whole_from = Some(time);
        }
        self.at_boundary = marker;
    }

    fn passes(&mut self, is_keyframe: bool, time: Option<gst::ClockTime>) -> bool {
        let is_whole = self.whole_from.is_some_and(|from| time >= from);
        self.needs_keyframe &= !(is_keyframe && is_whole);
        !self.needs_keyframe
    }
}

/// Puts a gate around a chain whose first element is the depayloader.
pub(super) fn install(elements: &[gst::Element]) {
    let Some(input) = elements.first().and_then(|depayloader| depayloader.static_pad("sink")) else { return };
    let Some(output) = elements.last().and_then(|last| last.static_pad("src")) else { return };
    let gate = Arc::new(Mutex::new(Gate::default()));
    let (entry, exit) = (gate.clone(), gate);
    let seen = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    input.add_probe(seen, move |_, info| {
        let is_loss = |event: &gst::Event| event.structure().is_some_and(|s| s.name() == "GstRTPPacketLost");
        let mut gate = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if info.event().is_some_and(is_loss) {
            gate.lost();
        } else if let Some(buffer) = info.buffer() {
            gate.packet(buffer.pts(), has_marker(buffer));
        }
        gst::PadProbeReturn::Ok
    });
    let input = input.downgrade();
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let is_keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if exit.lock().unwrap_or_else(PoisonError::into_inner).passes(is_keyframe, buffer.pts()) {
            return gst::PadProbeReturn::Ok;
        }
        // How often the peer is asked is the session's business.
        if let Some(input) = input.upgrade() {
            input.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        gst::PadProbeReturn::Drop
    });
}

/// The marker bit (RFC 3550 section 5.1).
fn has_marker(packet: &gst::Buffer) -> bool {
    packet.map_readable().is_ok_and(|bytes| bytes.get(1).is_some_and(|byte| byte & 0x80 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(picture: u64) -> Option<gst::ClockTime> {
        Some(gst::ClockTime::from_mseconds(33 * picture))
    }

    #[test]
    fn nothing_is_held_back_without_a_loss() {
        let mut gate = Gate::default();
        for picture in 0..3 {
            gate.packet(at(picture), true);
            assert!(gate.passes(picture == 0, at(picture)));
        }
    }

    #[test]
    fn a_keyframe_that_lacks_its_beginning_or_a_slice_does_not_pass_and_the_next_whole_one_does() {
        let mut gate = Gate::default();
        gate.lost();
        gate.packet(at(5), false); // of the keyframe, but not from its beginning
        gate.packet(at(5), true);
        assert!(!gate.passes(true, at(5)));
        gate.packet(at(6), true);
        assert!(!gate.passes(false, at(6)), "it depends on what is missing");
        gate.packet(at(7), false);
        gate.lost();
        gate.packet(at(7), true);
        assert!(!gate.passes(true, at(7)), "a slice is missing");
        gate.packet(at(8), true);
        assert!(gate.passes(true, at(8)) && gate.passes(false, at(9)));
    }

    #[test]
    fn the_keyframe_right_after_a_damaged_picture_passes() {
        let mut gate = Gate::default();
        gate.packet(at(1), false);
        gate.lost();
        gate.packet(at(1), true);
        assert!(!gate.passes(false, at(1)));
        gate.packet(at(2), true);
        assert!(gate.passes(true, at(2)));
    }
}
