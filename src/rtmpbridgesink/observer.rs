//! What the destinations' news lead to: messages on the bus and requests upstream.

use gst::prelude::*;

use super::{RtmpBridgeSink, imp::CAT, terminal::WeakElement};
use crate::rtmp::{Failure, Location, Observer, State};

/// Tells the element, as long as it is there.
pub(super) struct ElementObserver(WeakElement);

impl ElementObserver {
    pub(super) fn new(element: &RtmpBridgeSink) -> Self {
        Self(element.downgrade())
    }
}

impl Observer for ElementObserver {
    fn state_changed(&self, index: u32, location: &Location, state: State, reason: &str) {
        let Some(element) = self.0.upgrade() else { return };
        gst::info!(CAT, obj = element, "{location} is {}: {reason}", state.as_str());
        let structure = gst::Structure::builder("rtmpbridge-destination")
            .field("index", index)
            .field("url", location.to_string())
            .field("state", state.as_str())
            .field("reason", reason)
            .build();
        let _ = element.post_message(gst::message::Element::builder(structure).src(&element).build());
    }

    fn failed(&self, location: &Location, failure: &Failure) {
        let Some(element) = self.0.upgrade() else { return };
        let cure = failure.cure();
        gst::element_warning!(element, gst::ResourceError::OpenWrite, ("{location}: {failure}; {cure}"));
    }

    fn gave_up(&self, location: &Location, failure: &Failure) {
        let Some(element) = self.0.upgrade() else { return };
        let cure = failure.cure();
        gst::element_warning!(element, gst::ResourceError::OpenWrite, ("gave up on {location}: {failure}; {cure}"));
    }

    fn all_gave_up(&self, location: &Location, failure: &Failure) {
        let Some(element) = self.0.upgrade() else { return };
        let cure = failure.cure();
        // The last of them; the others have had their warnings.
        gst::element_error!(element, gst::ResourceError::OpenWrite, ("gave up on {location}: {failure}; {cure}"));
    }

    fn finished(&self) {
        let Some(element) = self.0.upgrade() else { return };
        element.post_eos();
    }

    fn request_keyframe(&self) {
        let Some(element) = self.0.upgrade() else { return };
        element.request_keyframe();
    }
}
