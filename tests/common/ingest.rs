//! The element in the test's own process, for what can only be seen from there: signals, statistics, states.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use gst::prelude::*;

use super::{SOON, wait_until};

/// `webrtcingest` into two fakesinks, and what its signals said.
pub struct Ingest {
    pub pipeline: gst::Pipeline,
    element: gst::Element,
    ended: Arc<Mutex<Vec<String>>>,
    started: Arc<AtomicUsize>,
}

impl Ingest {
    pub fn start(properties: &str) -> Self {
        Self::start_with(properties, "fakesink sync=false async=false")
    }

    /// The same with something else behind the video pad.
    pub fn start_with(properties: &str, video: &str) -> Self {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
        let description = format!(
            "webrtcingest name=in uri=whip://127.0.0.1:0/whip/live {properties} \
             in.video_0 ! {video} in.audio_0 ! fakesink sync=false async=false"
        );
        let pipeline = gst::parse::launch(&description).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
        let element = pipeline.by_name("in").expect("the element");
        let ended = Arc::new(Mutex::new(Vec::new()));
        let reasons = ended.clone();
        element.connect("session-ended", false, move |values| {
            reasons.lock().expect("lock").push(values[2].get::<String>().expect("a reason"));
            None
        });
        let started = Arc::new(AtomicUsize::new(0));
        let starts = started.clone();
        element.connect("session-started", false, move |_| {
            starts.fetch_add(1, SeqCst);
            None
        });
        pipeline.set_state(gst::State::Playing).expect("playing");
        Self { pipeline, element, ended, started }
    }

    pub fn url(&self) -> String {
        wait_until("the URL", SOON, || self.stats().get::<String>("url").ok())
    }

    pub fn element(&self) -> &gst::Element {
        &self.element
    }

    pub fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }

    /// Why a session ended, if one has.
    pub fn has_ended(&self) -> Option<String> {
        self.ended.lock().expect("lock").last().cloned()
    }

    pub fn pads(&self) -> usize {
        self.element.src_pads().len()
    }

    pub fn frames(&self) -> u64 {
        self.stats().get("frames").unwrap_or(0)
    }

    pub fn request_keyframe(&self) {
        self.element.emit_by_name::<()>("request-keyframe", &[]);
    }

    pub fn wait_ended(&self) -> String {
        wait_until("the end of the session", SOON, || self.ended.lock().expect("lock").pop())
    }

    /// How many sessions have started, or come back.
    pub fn started(&self) -> usize {
        self.started.load(SeqCst)
    }

    /// The nick of `connection-state`.
    pub fn state(&self) -> String {
        let value = self.element.property_value("connection-state");
        gst::glib::EnumValue::from_value(&value).expect("an enum").1.nick().to_owned()
    }

    pub fn saw_eos(&self) -> bool {
        let bus = self.pipeline.bus().expect("a bus");
        bus.pop_filtered(&[gst::MessageType::Eos]).is_some()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
