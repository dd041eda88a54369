//! Request pads: what they are called, how they come and go.

use std::sync::Arc;

use gst::{prelude::*, subclass::prelude::*};

use super::{CAT, WebrtcEgress, lock};
use crate::{codec::MediaKind, webrtcegress::input::Input};

impl WebrtcEgress {
    pub(super) fn new_media_pad(&self, template: &gst::PadTemplate, name: Option<&str>) -> Option<gst::Pad> {
        let kind = if template.name_template().starts_with("video") { MediaKind::Video } else { MediaKind::Audio };
        let name = self.name_of_new_pad(kind, name)?;
        // With nothing locked: whoever hears of new elements may look at this one.
        let input = Input::new(&self.obj(), kind, template, &name)?;
        lock(&self.inputs).push(input.clone());
        if let Some(fanout) = self.fanout() {
            input.start(&fanout);
        }
        let _ = input.pad.set_active(true);
        if self.obj().add_pad(&input.pad).is_err() {
            // Another thread has taken the name meanwhile.
            lock(&self.inputs).retain(|other| !Arc::ptr_eq(other, &input));
            input.remove(&self.obj());
            return None;
        }
        Some(input.pad.clone().upcast())
    }

    pub(super) fn release_media_pad(&self, pad: &gst::Pad) {
        let input = {
            let mut inputs = lock(&self.inputs);
            let index = inputs.iter().position(|input| input.pad.upcast_ref::<gst::Pad>() == pad);
            index.map(|index| inputs.remove(index))
        };
        let Some(input) = input else { return };
        input.remove(&self.obj());
        let _ = self.obj().remove_pad(&input.pad);
    }

    /// What a pad shall be called that is asked for by this name, or by none.
    fn name_of_new_pad(&self, kind: MediaKind, name: Option<&str>) -> Option<String> {
        let inputs = lock(&self.inputs);
        let taken = |name: &str| inputs.iter().any(|input| input.pad.name() == name);
        let name = match name.filter(|name| !name.contains('%')) {
            Some(name) => name.to_owned(),
            None => (0..).map(|number| format!("{kind}_{number}")).find(|name| !taken(name))?,
        };
        let is_free = !taken(&name);
        if !is_free {
            gst::warning!(CAT, imp = self, "there is a pad {name} already");
        }
        is_free.then_some(name)
    }

    pub(super) fn new_data_pad(&self, template: &gst::PadTemplate, name: Option<&str>) -> Option<gst::Pad> {
        let name = match name.filter(|name| !name.contains('%')) {
            Some(name) => name.to_owned(),
            None => (0..).map(|number| format!("data_{number}")).find(|name| !self.data.has(name))?,
        };
        if self.data.has(&name) {
            gst::warning!(CAT, imp = self, "there is a pad {name} already");
            return None;
        }
        let element = self.obj().downgrade();
        let ended = move |has_ended: bool| match element.upgrade() {
            Some(element) if has_ended => element.check_ending(),
            Some(element) => element.starts_again(),
            None => {}
        };
        let pad = self.data.pad(template, &name, Arc::new(ended));
        let _ = pad.set_active(true);
        self.obj().add_pad(&pad).ok()?;
        Some(pad)
    }
}
