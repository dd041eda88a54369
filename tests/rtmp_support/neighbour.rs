//! Another stream of the same process, that must not notice what happens to one.
#![allow(clippy::unwrap_used)]

use gst::prelude::*;

use crate::{
    rtmp_support::{Pipeline, Server, check_without_gap},
    stage::STREAM,
};

/// The stream, on its way to a server of its own.
pub(crate) struct Neighbour {
    server: Server,
    pipeline: Pipeline,
    /// What was left out before it was live.
    dropped: u64,
}

impl Neighbour {
    pub(crate) fn start() -> Self {
        let (server, stream) = (Server::start(), STREAM.replace("bitrate=4000", "bitrate=1000"));
        let pipeline = Pipeline::start(&format!("{stream} rtmpbridgesink name=sink location={}", server.url()));
        pipeline.wait_until_is(0, "live");
        pipeline.wait_for_frames(0, 10);
        let dropped = pipeline.destination().get("dropped").unwrap();
        Self { server, pipeline, dropped }
    }

    /// Ends it: it went on until now, every picture got out in one connection, and its recording has no gap.
    pub(crate) fn assert_unharmed(mut self) {
        self.pipeline.wait_for_frames(0, 80);
        assert_eq!(self.pipeline.messages("error"), [""; 0]);
        assert_eq!(self.pipeline.messages("warning"), [""; 0]);
        assert!(self.pipeline.pipeline.send_event(gst::event::Eos::new()));
        self.pipeline.wait_for_eos();
        let destination = self.pipeline.destination();
        assert_eq!(destination.get::<u32>("reconnects"), Ok(0), "{destination}");
        assert_eq!(destination.get::<u64>("dropped"), Ok(self.dropped), "{destination}");
        assert_eq!(self.server.recordings().len(), 1, "one connection");
        check_without_gap(&self.server.whole_recording());
    }
}
