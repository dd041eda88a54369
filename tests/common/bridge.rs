//! The plugin under test as users run it: gst-launch-1.0 with webrtcingest and rtmpbridgesink.

use super::{SOON, free_port, launch::Launch, nginx::Nginx};

/// A running bridge from WHIP to one RTMP destination.
pub struct Bridge {
    pub launch: Launch,
    pub port: u16,
}

impl Bridge {
    /// The plain line of the README, pushing to `key` at the server; listens when this returns.
    pub fn start(server: &Nginx, key: &str) -> Self {
        Self::start_with(server, key, "", "")
    }

    /// The same with more properties on either element.
    pub fn start_with(server: &Nginx, key: &str, ingest: &str, sink: &str) -> Self {
        let port = free_port();
        let location = server.url(key);
        let mut launch = Launch::start(&format!(
            "webrtcingest uri=whip://127.0.0.1:{port}/whip/live {ingest} : rtmpbridgesink location={location} {sink}"
        ));
        launch.wait_listening(port);
        // From here on gst-launch-1.0 hears Ctrl-C.
        launch.wait_for_line("Setting pipeline to PLAYING", SOON);
        Self { launch, port }
    }

    /// Where to publish.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/whip/live", self.port)
    }

    /// The page.
    pub fn page(&self, query: &str) -> String {
        format!("http://127.0.0.1:{}/{query}", self.port)
    }
}
