//! The place where a video encoder works: one at a time, replaced by the next when it fails, without upstream or
//! downstream noticing more than missing frames and a keyframe.
//!
//! Raw frames in, encoded ones out. An error of the encoder stays inside, and becomes a warning that names its successor.

use gst::{glib, subclass::prelude::*};

use super::{ChainError, candidates::Candidates, unit::Tuning};
use crate::codec::Codec;

mod ending;
mod imp;
mod renewal;
mod replacement;

glib::wrapper! {
    /// A bin that no factory makes. Public for the macro only: the module is not.
    pub struct Slot(ObjectSubclass<imp::Slot>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy;
}

/// What is to be encoded as what.
pub(super) struct Encode<'a> {
    /// `auto`, `hardware`, `software` or the name of an encoder's factory.
    pub(super) choice: &'a str,
    pub(super) codec: Codec,
    pub(super) tuning: Tuning,
}

impl Slot {
    /// Makes it with the best encoder in it.
    pub(super) fn build(Encode { choice, codec, tuning }: Encode<'_>) -> Result<Self, ChainError> {
        let mut candidates = Candidates::of(choice, codec)?;
        let unit = candidates.first(&tuning)?;
        let slot: Self = glib::Object::new();
        slot.imp().begin(unit, candidates, tuning);
        Ok(slot)
    }

    /// The factory of the encoder in it.
    pub(super) fn encoder_name(&self) -> String {
        self.imp().with_state(|state| state.name.clone())
    }

    /// The encoders that do not do, each with the reason.
    pub(super) fn passed_over(&self) -> Vec<String> {
        self.imp().with_state(|state| state.candidates.passed_over().to_vec())
    }

    /// Frames that never reached an encoder's input.
    pub(super) fn frames_skipped(&self) -> u64 {
        self.imp().with_state(|state| state.skipped)
    }

    /// Whether frames are left out when the encoder is too slow. If not, upstream waits.
    pub(super) fn set_live(&self, live: bool) {
        self.imp().with_state(|state| state.live = live);
    }

    /// Makes the next frame a keyframe where the encoder is deaf to being asked, by another encoder of its kind; false if it
    /// is not.
    pub(super) fn begin_anew_if_deaf(&self) -> bool {
        self.imp().with_state(|state| {
            let is_deaf = super::known::is_deaf(&state.name);
            state.stale |= is_deaf;
            is_deaf
        })
    }

    /// In bit/s, also while it runs.
    pub(super) fn set_bitrate(&self, bitrate: u32) {
        self.imp().set_bitrate(bitrate);
    }
}
