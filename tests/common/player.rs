//! `webrtcingest` as a client inside the test process, and what its bus said.

use std::time::{Duration, Instant};

use gst::prelude::*;

use super::{SOON, wait_until};

/// A playing pipeline with the element as a client, and what its bus said.
pub struct Player {
    pub pipeline: gst::Pipeline,
    pub element: gst::Element,
    messages: std::sync::Mutex<Vec<gst::Message>>,
}

impl Player {
    pub fn start(url: &str, properties: &str) -> Self {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
        let sink = "fakesink sync=false async=false";
        let description =
            format!("webrtcingest name=in uri={url} {properties} in.video_0 ! {sink} in.audio_0 ! {sink}");
        let pipeline = gst::parse::launch(&description).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
        let element = pipeline.by_name("in").expect("the element");
        let player = Self { pipeline, element, messages: std::sync::Mutex::default() };
        let start = Instant::now();
        player.pipeline.set_state(gst::State::Playing).expect("playing");
        assert!(start.elapsed() < Duration::from_secs(1), "the change of state does not wait for the server");
        player
    }

    pub fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }

    pub fn frames(&self) -> u64 {
        self.stats().get("frames").unwrap_or(0)
    }

    pub fn wait_frames(&self, more: u64) {
        let enough = self.frames() + more;
        wait_until("frames", SOON, || (self.frames() >= enough).then_some(()));
    }

    /// Waits for a message that `pick` takes, among all since the start.
    pub fn wait_message<T>(&self, what: &str, pick: impl Fn(&gst::Message) -> Option<T>) -> T {
        let bus = self.pipeline.bus().expect("a bus");
        wait_until(what, Duration::from_secs(45), || {
            let mut messages = self.messages.lock().expect("messages");
            messages.extend(std::iter::from_fn(|| bus.pop()));
            messages.iter().find_map(&pick)
        })
    }

    /// The reason of the first change to this state.
    pub fn wait_state(&self, state: &str) -> String {
        self.wait_message(state, |message| {
            let structure = message.structure().filter(|s| s.name() == "webrtcbridge-connection")?;
            (structure.get::<String>("state").ok()? == state).then(|| structure.get("reason").expect("a reason"))
        })
    }

    pub fn wait_error(&self) -> String {
        self.wait_message("an error", |message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        })
    }

    pub fn wait_warning(&self) -> String {
        self.wait_message("a warning", |message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
    }

    pub fn wait_eos(&self) {
        self.wait_message("EOS", |message| matches!(message.view(), gst::MessageView::Eos(_)).then_some(()));
    }

    pub fn stop(&self) {
        self.pipeline.set_state(gst::State::Null).expect("null");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
