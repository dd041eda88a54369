//! The chain that is behind a pad as long as somebody watches: made for what comes and what is wanted, put in place, taken away.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use gst::{glib, prelude::*};

use super::{Input, Place, lock};
use crate::{
    codec::Codec,
    rtp::Payloader,
    transcode::{self, Chain, Conversation},
    webrtcegress::{WebrtcEgress, imp::CAT, sender::Sender},
};

/// The chain, what it is for, and its end.
pub(super) struct Installed {
    pub(super) purpose: Purpose,
    pub(super) chain: Option<Arc<Chain>>,
    pub(super) elements: Vec<gst::Element>,
    pub(super) sink: gst_app::AppSink,
}

/// What a chain is made for; another purpose takes another chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    pub(super) from: String,
    pub(super) to: Codec,
}

impl Input {
    pub(super) fn install(
        &self,
        pad: &gst::Pad,
        caps: &gst::CapsRef,
        purpose: Purpose,
        place: &Place,
        bitrate: u32,
    ) -> bool {
        self.clear();
        let Some(element) = self.element.upgrade() else { return false };
        match self.build(&element, pad, caps, &purpose, place, bitrate) {
            Ok(installed) => {
                *lock(&self.refused) = None;
                let name = installed.chain.as_ref().map_or_else(|| "as it is".to_owned(), |chain| chain.name());
                gst::info!(CAT, obj = self.pad, "{caps} is sent as {}: {name}", purpose.to);
                self.bitrate.store(bitrate, Relaxed);
                *self.lock() = Some(installed);
                true
            }
            Err(error) => {
                *lock(&self.refused) = Some(purpose);
                gst::element_error!(element, gst::StreamError::CodecNotFound, ("{}: {error}", self.pad.name()));
                false
            }
        }
    }

    fn build(
        &self,
        element: &WebrtcEgress,
        pad: &gst::Pad,
        caps: &gst::CapsRef,
        purpose: &Purpose,
        place: &Place,
        bitrate: u32,
    ) -> Result<Installed, String> {
        let passes = caps.structure(0).is_some_and(|structure| structure.name() == purpose.to.caps_name());
        let chain = if passes {
            None
        } else {
            let wanted = Conversation { video_bitrate: bitrate, ..element.conversation(purpose.to) };
            let chain = Chain::conversation(caps, &wanted).map_err(|error| error.to_string())?;
            // Whether live or a file: what is late is of no use to those who watch.
            chain.set_live(true);
            Some(Arc::new(chain))
        };
        let sender = Sender {
            element: self.element.clone(),
            fanout: place.fanout.clone(),
            index: place.index,
            codec: purpose.to,
            stream: self.stream.clone(),
            progress: self.progress.clone(),
        };
        let payloader = Payloader::new(purpose.to, passes, sender).map_err(|error| error.to_string())?;
        let mut elements: Vec<gst::Element> = Vec::new();
        if let Some(chain) = &chain {
            elements.extend(chain.elements.iter().cloned());
            let filter = transcode::make("capsfilter").map_err(|error| error.to_string())?;
            filter.set_property("caps", &chain.output);
            elements.push(filter);
        }
        elements.extend(payloader.elements);
        let installed = Installed { purpose: purpose.clone(), chain, elements, sink: payloader.sink };
        let wire = || -> Result<(), glib::BoolError> {
            element.add_many(&installed.elements)?;
            gst::Element::link_many(&installed.elements)?;
            for child in installed.elements.iter().rev() {
                child.sync_state_with_parent()?;
            }
            let first = installed.elements.first().and_then(|first| first.static_pad("sink"));
            let first = first.ok_or_else(|| glib::bool_error!("a chain without a pad"))?;
            pad.link(&first).map_err(|error| glib::bool_error!("{}", error))?;
            Ok(())
        };
        match wire() {
            Ok(()) => Ok(installed),
            Err(error) => {
                installed.remove_from(element, pad);
                Err(format!("{caps} cannot be sent as {}: {}", purpose.to, error.message))
            }
        }
    }

    /// Takes the chain away.
    pub(super) fn clear(&self) {
        let installed = self.lock().take();
        if let (Some(installed), Some(element), Some(pad)) =
            (installed, self.element.upgrade(), self.pacer.static_pad("src"))
        {
            installed.remove_from(&element, &pad);
        }
    }
}

impl Installed {
    fn remove_from(&self, element: &WebrtcEgress, pad: &gst::Pad) {
        if let Some(peer) = pad.peer() {
            let _ = pad.unlink(&peer);
        }
        for child in self.elements.iter().rev() {
            let _ = child.set_state(gst::State::Null);
            if child.parent().is_some() {
                let _ = element.remove(child);
            }
        }
    }
}

/// What tells one chain's input from another's: the media type, the memory of raw video, the channels of raw audio.
pub(super) fn from(caps: &gst::CapsRef) -> String {
    let Some(structure) = caps.structure(0) else { return String::new() };
    let features = caps.features(0).map(|features| features.to_string()).unwrap_or_default();
    let channels = structure.get::<i32>("channels").unwrap_or_default();
    format!("{} {features} {channels}", structure.name())
}
