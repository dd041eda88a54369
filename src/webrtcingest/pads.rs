//! What the crossing asks of the element: pads, signals, messages.

use gst::{glib, prelude::*, subclass::prelude::*};

use super::imp;
use crate::{
    codec::MediaKind,
    rtp::{ChainError, Receiver},
    session::{ConnectionState, EndReason},
    signaling::abbreviate,
};

/// The element, as long as it is there.
pub(super) struct ElementReceiver(pub(super) glib::WeakRef<super::WebrtcIngest>);

impl ElementReceiver {
    fn element(&self) -> Option<super::WebrtcIngest> {
        self.0.upgrade()
    }
}

impl Receiver for ElementReceiver {
    fn bin(&self) -> Option<gst::Bin> {
        self.element().map(Cast::upcast)
    }

    fn add_pad(&self, kind: MediaKind, number: usize, caps: Option<&gst::Caps>) -> Option<gst::GhostPad> {
        let element = self.element()?;
        let template = element.pad_template(&format!("{kind}_%u"))?;
        let name = format!("{kind}_{number}");
        let pad = gst::GhostPad::builder_from_template(&template).name(name.as_str()).build();
        pad.set_active(true).ok()?;
        let stream = format!("webrtcbridge/{name}");
        let _ = pad.store_sticky_event(&gst::event::StreamStart::builder(&stream).build());
        if let Some(caps) = caps {
            let _ = pad.store_sticky_event(&gst::event::Caps::new(caps));
        }
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let _ = pad.store_sticky_event(&gst::event::Segment::new(&segment));
        element.add_pad(&pad).ok()?;
        Some(pad)
    }

    fn no_more_pads(&self) {
        if let Some(element) = self.element() {
            element.no_more_pads();
        }
    }

    fn state_changed(&self, state: ConnectionState) {
        if let Some(element) = self.element() {
            element.imp().set_connection_state(state.into());
        }
    }

    fn session_started(&self, id: &str) {
        if let Some(element) = self.element() {
            gst::info!(imp::CAT, obj = element, "session {} started", abbreviate(id));
            element.imp().set_session(id);
            element.emit_by_name::<()>("session-started", &[&id]);
        }
    }

    fn session_ended(&self, id: &str, reason: EndReason) {
        if let Some(element) = self.element() {
            gst::info!(imp::CAT, obj = element, "session {} ended: {}", abbreviate(id), reason.as_str());
            element.imp().end_session(reason.as_str());
            element.emit_by_name::<()>("session-ended", &[&id, &reason.as_str()]);
        }
    }

    fn stream_ended(&self) {
        if let Some(element) = self.element() {
            element.imp().refuse_offers();
        }
    }

    fn not_negotiated(&self, pad: &gst::GhostPad) {
        if let Some(element) = self.element() {
            gst::element_error!(
                element,
                gst::StreamError::Format,
                ("What is linked to {} of {} does not take {}", pad.name(), element.name(), caps_of(pad)),
                ["streaming stopped, reason not-negotiated (-4)"]
            );
        }
    }

    fn failed(&self, error: &ChainError) {
        if let Some(element) = self.element() {
            let code = if matches!(error, ChainError::Missing { .. }) {
                gst::CoreError::MissingPlugin
            } else {
                gst::CoreError::Failed
            };
            gst::element_error!(element, code, ("{}", error));
        }
    }

    fn nothing_linked(&self) {
        if let Some(element) = self.element() {
            gst::element_error!(
                element,
                gst::StreamError::Failed,
                (
                    "A publisher sends, but no pad of {} is linked; link them, for example: webrtcingest : rtmpbridgesink",
                    element.name()
                ),
                ["streaming stopped, reason not-linked (-1)"]
            );
        }
    }
}

fn caps_of(pad: &gst::GhostPad) -> String {
    pad.current_caps().map_or_else(|| "what comes".to_owned(), |caps| caps.to_string())
}
