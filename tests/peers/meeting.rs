//! Where two peers meet: a signaling server's channel, and pipelines whose elements are one of them or both.

use std::sync::Arc;

use crate::common::{SOON, wait_until};
use crate::socket_support::Site;
use crate::whip_support::Fake;
use gst::prelude::*;

pub(crate) fn site() -> Site {
    Site::new(Arc::new(Fake::default()))
}

pub(crate) fn url(site: &Site) -> String {
    format!("\"ws://{}/ws?channel=blue\"", site.addr())
}

/// What webrtcbin does may take its time, which must not be the server's.
pub(crate) async fn apart<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.expect("no panic")
}

/// A pipeline and what its elements tell.
pub(crate) struct Ends(pub(crate) gst::Pipeline);

impl Ends {
    pub(crate) fn start(description: &str) -> Self {
        let pipeline = gst::parse::launch(description).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
        pipeline.set_state(gst::State::Playing).expect("playing");
        Self(pipeline)
    }

    /// Waits until one of its calls has come to this state.
    pub(crate) fn wait_state(&self, state: &str) {
        let bus = self.0.bus().expect("a bus");
        wait_until(state, SOON, || {
            let message = bus.pop_filtered(&[gst::MessageType::Element])?;
            let structure = message.structure().filter(|s| s.name() == "webrtcbridge-connection")?;
            (structure.get::<&str>("state") == Ok(state)).then_some(())
        });
    }

    pub(crate) fn element(&self, name: &str) -> gst::Element {
        self.0.by_name(name).expect(name)
    }

    pub(crate) fn stats(&self, name: &str) -> gst::Structure {
        self.element(name).property("stats")
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// What each pad of a `webrtcegress` is sent by.
pub(crate) fn encoders(stats: &gst::Structure) -> Vec<(String, String)> {
    let tracks = stats.get::<gst::Array>("tracks").expect("tracks");
    let of = |track: &gst::glib::SendValue| {
        let track = track.get::<gst::Structure>().expect("a structure");
        (track.get("codec").unwrap_or_default(), track.get("encoder").unwrap_or_default())
    };
    tracks.as_slice().iter().map(of).collect()
}
