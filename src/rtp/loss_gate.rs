//! Keeps damaged frames back where the depayloader does not: after a lost packet, and where a stream begins, nothing passes until a
//! keyframe of which every packet has come.
//!
//! Depayloaders for H.264 and H.265 keep what they have of a broken picture and append what follows. A loss that takes the end
//! of one picture and the beginning of a keyframe, or a slice of one, leaves a unit that still counts as a keyframe. What they
//! let go only when the next picture has begun may bear that one's time. Their own waiting for a keyframe
//! (`wait-for-keyframe`) misses one right behind a picture of which they have kept a slice, so that it ends with the first.

use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

use super::packet::{is_last, rtp_time, with_payload};
use crate::codec::{Codec, begins_with_delimiter, begins_with_first_slice, starts_keyframe};

/// What may pass. Pure, so that it can be tested.
#[derive(Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// After a loss, or before anything has come.
    Shut {
        /// RTP time of the packets that came since.
        picture: Option<u32>,
        /// Pictures from this time on have been seen from their beginning.
        whole_from: Option<gst::ClockTime>,
        /// That rests on parameter sets or a delimiter, until a slice has come.
        is_presumed: bool,
        /// Of the last picture the end has not come yet: a unit with its time is that of the one before.
        begun: Option<gst::ClockTime>,
    },
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// It begins with parameter sets, or with a delimiter, which a picture has in front of everything else.
    starts_picture: bool,
    /// Of the first slice in it, whether it is its picture's first.
    first_slice: Option<bool>,
    /// It has the marker.
    is_last: bool,
}

impl Gate {
    /// Of a stream that begins the first packets may be missing, and nobody knows.
    const SHUT: Self = Self::Shut { picture: None, whole_from: None, is_presumed: false, begun: None };

    /// Packets are missing here, or may be, as another stream begins.
    fn lost(&mut self) {
        *self = Self::SHUT;
    }

    /// A picture begins where RTP time changes between packets that follow on each other, as not all senders set markers. Of one
    /// that begins with parameter sets or a delimiter nothing can have been lost in front of them, if its first slice follows: what
    /// was lost is of the picture before. There are senders that repeat the sets in front of each slice.
    fn packet(&mut self, rtp_time: u32, seen: Seen, time: gst::ClockTime) {
        let Self::Shut { picture, whole_from, is_presumed, begun } = self else { return };
        *begun = (!seen.is_last).then_some(time);
        let begins = picture.replace(rtp_time).is_some_and(|last| last != rtp_time);
        if begins || (whole_from.is_none() && seen.starts_picture) {
            *is_presumed = !begins;
            whole_from.get_or_insert(time);
        }
        if let (true, Some(is_first)) = (*is_presumed, seen.first_slice) {
            *is_presumed = false;
            if !is_first {
                *whole_from = None;
            }
        }
    }

    fn passes(&mut self, is_keyframe: bool, time: gst::ClockTime) -> bool {
        match self {
            Self::Shut { whole_from: Some(from), begun, .. }
                if is_keyframe && (time > *from || time == *from && *begun != Some(time)) =>
            {
                *self = Self::Open;
            }
            Self::Shut { .. } => return false,
            Self::Open => {}
        }
        true
    }
}

/// Puts a gate around a chain whose first element is the codec's depayloader.
pub(super) fn install(codec: Codec, elements: &[gst::Element]) {
    let Some(depayloader) = elements.first() else { return };
    let output = elements.last().and_then(|last| last.static_pad("src"));
    let (Some(input), Some(output)) = (depayloader.static_pad("sink"), output) else { return };
    let gate = Arc::new(Mutex::new(Gate::SHUT));
    see_packets(codec, &input, gate.clone());
    hold_back(codec, &input, &output, gate);
    if let Some(units) = depayloader.static_pad("src") {
        stop_waiting(&units);
    }
}

/// Tells the gate of what goes in.
fn see_packets(codec: Codec, input: &gst::Pad, gate: Arc<Mutex<Gate>>) {
    let seen = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    input.add_probe(seen, move |_, info| {
        let is_loss = |event: &gst::Event| event.structure().is_some_and(|s| s.name() == "GstRTPPacketLost");
        let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if info.event().is_some_and(is_loss) {
            gate.lost();
        } else if let Some((rtp_time, buffer)) = info.buffer().and_then(|buffer| Some((rtp_time(buffer)?, buffer))) {
            if buffer.flags().contains(gst::BufferFlags::DISCONT) {
                gate.lost();
            }
            let seen = with_payload(buffer, |payload| Seen {
                starts_picture: starts_keyframe(codec, payload) || begins_with_delimiter(codec, payload),
                first_slice: begins_with_first_slice(codec, payload),
                is_last: is_last(buffer),
            });
            gate.packet(rtp_time, seen.unwrap_or_default(), time(buffer));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Lets out what the gate lets pass; asks for a keyframe instead of anything else.
fn hold_back(codec: Codec, input: &gst::Pad, output: &gst::Pad, gate: Arc<Mutex<Gate>>) {
    let input = input.downgrade();
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let is_keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)
            && (*gate == Gate::Open || !buffer.map_readable().is_ok_and(|unit| begins_with_another(codec, &unit)));
        let passes = gate.passes(is_keyframe, time(buffer));
        drop(gate);
        if passes {
            return gst::PadProbeReturn::Ok;
        }
        // How often the peer is asked is the session's business.
        if let Some(input) = input.upgrade() {
            input.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        gst::PadProbeReturn::Drop
    });
}

/// Whether slices of another picture stand in front of a keyframe's in a unit as the pads have it, each NAL unit behind its length:
/// what the depayloader had kept of a picture that lost its end, which is not its own where pictures have one slice.
fn begins_with_another(codec: Codec, mut unit: &[u8]) -> bool {
    let mut other = false;
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        let Some((nal, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { return false };
        let kind = nal.first().copied().unwrap_or_default();
        let (is_slice, is_key) = match codec {
            Codec::H264 => (matches!(kind & 0x1F, 1..=5), kind & 0x1F == 5),
            _ => (kind >> 1 & 0x3F < 32, matches!(kind >> 1 & 0x3F, 16..=23)),
        };
        if is_key && other {
            return true;
        }
        other |= is_slice && !is_key;
        unit = rest;
    }
    false
}

/// The depayloader waits for the first keyframe, before which it knows no caps, and then leaves waiting to the gate.
fn stop_waiting(units: &gst::Pad) {
    units.add_probe(gst::PadProbeType::BUFFER, |units, _| {
        let depayloader = units.parent_element().filter(|element| element.has_property("wait-for-keyframe"));
        if let Some(depayloader) = depayloader {
            depayloader.set_property("wait-for-keyframe", false);
        }
        gst::PadProbeReturn::Remove
    });
}

/// The lane gives all packets of a picture one time, and the depayloader hands it on.
fn time(buffer: &gst::BufferRef) -> gst::ClockTime {
    buffer.pts().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of a picture comes.
    fn packet(gate: &mut Gate, picture: u32) {
        gate.packet(picture.wrapping_mul(3000), Seen::default(), at(picture));
    }

    /// All packets of a picture come: the one with the marker is behind others, or alone.
    fn picture(gate: &mut Gate, picture: u32, packets: u32) {
        for number in 1..=packets {
            let seen = Seen { is_last: number == packets, ..Seen::default() };
            gate.packet(picture.wrapping_mul(3000), seen, at(picture));
        }
    }

    fn at(picture: u32) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(33) * u64::from(picture)
    }

    #[test]
    fn nothing_is_held_back_without_a_loss() {
        let mut gate = Gate::Open;
        for picture in 0..3 {
            packet(&mut gate, picture);
            assert!(gate.passes(picture == 0, at(picture)));
        }
    }

    #[test]
    fn a_keyframe_that_lacks_its_beginning_or_a_slice_does_not_pass_and_the_next_whole_one_does() {
        let mut gate = Gate::Open;
        gate.lost();
        packet(&mut gate, 5); // of the keyframe, but not from its beginning
        packet(&mut gate, 5);
        assert!(!gate.passes(true, at(5)));
        packet(&mut gate, 6);
        assert!(!gate.passes(false, at(6)), "it depends on what is missing");
        packet(&mut gate, 7);
        gate.lost();
        packet(&mut gate, 7);
        assert!(!gate.passes(true, at(7)), "a slice is missing");
        picture(&mut gate, 8, 1);
        assert!(gate.passes(true, at(8)) && gate.passes(false, at(9)));
    }

    #[test]
    fn the_keyframe_right_after_a_damaged_picture_passes() {
        let mut gate = Gate::Open;
        packet(&mut gate, 1);
        gate.lost();
        packet(&mut gate, 1);
        assert!(!gate.passes(false, at(1)));
        picture(&mut gate, 2, 3);
        assert!(gate.passes(true, at(2)));
    }

    #[test]
    fn a_keyframe_right_behind_what_was_lost_passes_if_its_parameter_sets_have_come() {
        let sets = Seen { starts_picture: true, ..Seen::default() };
        let slice = |is_first, is_last| Seen { first_slice: Some(is_first), is_last, starts_picture: false };
        let mut gate = Gate::Open;
        gate.lost();
        gate.packet(3000, sets, at(1));
        assert!(!gate.passes(true, at(1)), "that is what was left of the picture before");
        gate.packet(3000, slice(true, true), at(1));
        assert!(gate.passes(true, at(1)));

        gate.lost();
        gate.packet(6000, sets, at(2));
        gate.lost();
        gate.packet(6000, slice(false, true), at(2));
        assert!(!gate.passes(true, at(2)), "a slice is missing");

        gate.lost();
        gate.packet(9000, sets, at(3));
        gate.packet(9000, slice(false, false), at(3));
        gate.packet(9000, sets, at(3));
        gate.packet(9000, slice(false, true), at(3));
        assert!(!gate.passes(true, at(3)), "sets in front of each slice, of which the first is missing");
        picture(&mut gate, 4, 2);
        assert!(gate.passes(true, at(4)));
    }

    #[test]
    fn a_stream_passes_from_the_first_keyframe_on_that_has_come_from_its_beginning() {
        let sets = Seen { starts_picture: true, ..Seen::default() };
        let slice = |is_first, is_last| Seen { first_slice: Some(is_first), is_last, starts_picture: false };
        let mut gate = Gate::SHUT;
        gate.packet(3000, sets, at(1));
        gate.packet(3000, slice(true, false), at(1));
        gate.packet(3000, slice(false, true), at(1));
        assert!(gate.passes(true, at(1)), "nothing is missing");

        gate.lost(); // another one, of which nothing has come as yet
        gate.packet(6000, slice(false, true), at(2));
        assert!(!gate.passes(true, at(2)), "the end of a keyframe");
        picture(&mut gate, 3, 2);
        assert!(gate.passes(true, at(3)));

        let mut gate = Gate::SHUT;
        gate.packet(3000, Seen::default(), at(1)); // of something else, in front of the sets
        gate.packet(3000, sets, at(1));
        gate.packet(3000, slice(true, true), at(1));
        assert!(gate.passes(true, at(1)), "an SEI message or picture parameters may be the first");

        let mut gate = Gate::SHUT;
        gate.packet(3000, slice(false, false), at(1));
        gate.packet(3000, sets, at(1));
        gate.packet(3000, slice(false, true), at(1));
        assert!(!gate.passes(true, at(1)), "sets between the slices that there are");

        let mut gate = Gate::SHUT;
        gate.packet(3000, sets, at(1));
        gate.packet(3000, slice(false, true), at(1));
        assert!(
            !gate.passes(true, at(1)),
            "sets in front of each slice, of which the first was sent before anybody listened"
        );
        picture(&mut gate, 2, 2);
        assert!(gate.passes(true, at(2)));
    }

    #[test]
    fn a_damaged_keyframe_that_comes_out_only_when_the_next_picture_begins_does_not_pass() {
        let mut gate = Gate::Open;
        packet(&mut gate, 1);
        gate.lost();
        packet(&mut gate, 1);
        packet(&mut gate, 2);
        assert!(!gate.passes(true, at(1)));
        packet(&mut gate, 3);
        assert!(gate.passes(true, at(2)));
    }

    #[test]
    fn a_damaged_keyframe_that_comes_out_with_the_time_of_the_picture_that_begins_does_not_pass() {
        let mut gate = Gate::Open;
        gate.lost();
        packet(&mut gate, 1);
        for _ in 0..3 {
            packet(&mut gate, 2);
            assert!(!gate.passes(true, at(2)), "the end of the second picture has not come");
        }
        picture(&mut gate, 2, 2);
        assert!(!gate.passes(false, at(2)));
        picture(&mut gate, 3, 2);
        assert!(gate.passes(true, at(3)));
    }

    #[test]
    fn a_keyframe_with_slices_of_another_picture_in_front_of_it_is_told_from_one_without() {
        let unit = |nals: &[&[u8]]| -> Vec<u8> {
            nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), *nal].concat()).collect()
        };
        let (sets, key, delta): (&[u8], &[u8], &[u8]) = (&[0x67, 1], &[0x65, 0x88], &[0x41, 0x88]);
        for (nals, is_mixed) in [
            (&[sets, key, key][..], false),
            (&[delta, delta], false),
            (&[key, delta], false), // the second field of a keyframe
            (&[delta, key], true),
            (&[delta, sets, key], true),
        ] {
            assert_eq!(begins_with_another(Codec::H264, &unit(nals)), is_mixed, "{nals:?}");
        }
        assert!(begins_with_another(Codec::H265, &unit(&[&[2, 1, 0x80], &[0x40, 1], &[0x26, 1, 0x80]])));
        assert!(!begins_with_another(Codec::H264, &[0, 0, 0, 9, 1]), "no unit at all");
    }

    #[test]
    fn a_whole_keyframe_without_a_marker_passes_with_the_time_of_the_picture_that_begins() {
        let mut gate = Gate::Open;
        gate.lost();
        packet(&mut gate, 1);
        packet(&mut gate, 2);
        packet(&mut gate, 2);
        packet(&mut gate, 3);
        assert!(gate.passes(true, at(3)));
    }
}
