//! A chain in its place between a pad and its end.

use std::sync::Arc;

use gst::{glib, prelude::*};

use super::{
    super::{RtmpBridgeSink, terminal},
    Progress,
};
use crate::{
    rtmp::Track,
    transcode::{Chain, ChainError, Route, Settings},
};

/// The chain, and its end.
pub(super) struct Installed {
    pub(super) route: Route,
    pub(super) chain: Arc<Chain>,
    pub(super) appsink: gst_app::AppSink,
}

impl Installed {
    /// Makes the chain for some caps, and puts it behind the pad.
    pub(super) fn put(
        element: &RtmpBridgeSink,
        pad: &gst::GhostPad,
        track: Track,
        route: Route,
        caps: &gst::CapsRef,
        settings: &Settings,
        progress: &Arc<Progress>,
    ) -> Result<Self, ChainError> {
        let chain = Arc::new(Chain::build(caps, settings)?);
        let appsink = terminal::make(element, track, &chain.output, chain.bitrate, progress.clone());
        let installed = Self { route, chain, appsink };
        let wire = || -> Result<(), glib::BoolError> {
            element.add_many(installed.elements())?;
            gst::Element::link_many(installed.elements())?;
            for child in installed.elements() {
                child.sync_state_with_parent()?;
            }
            let first = installed.elements().next().and_then(|first| first.static_pad("sink"));
            pad.set_target(first.as_ref())
        };
        if let Err(error) = wire() {
            installed.remove_from(element);
            return Err(ChainError::Unsupported(format!("{caps} ({})", error.message)));
        }
        Ok(installed)
    }

    /// Stops the chain and takes it out. The appsink first: it may be holding a streaming thread until a frame is due.
    pub(super) fn remove_from(&self, element: &RtmpBridgeSink) {
        let _ = self.appsink.set_state(gst::State::Null);
        for child in self.elements() {
            let _ = child.set_state(gst::State::Null);
            if child.parent().is_some() {
                let _ = element.remove(child);
            }
        }
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &gst::Element> {
        self.chain.elements.iter().chain([self.appsink.upcast_ref()])
    }
}
