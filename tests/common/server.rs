//! A bridge server in the test's own process, and what its bus heard of its sessions.

use std::sync::{Arc, Mutex, Once};

use gst::prelude::*;

use super::{SOON, wait_until};

/// `webrtcbridgebin` in a playing pipeline.
pub struct BridgeServer {
    pub pipeline: gst::Pipeline,
    pub bin: gst::Element,
    heard: Arc<Mutex<Heard>>,
}

/// Once a process: GStreamer's way from an element to its factory breaks when a plugin is registered again (1.22).
pub fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
    });
}

#[derive(Default)]
struct Heard {
    sessions: Vec<Told>,
    /// Everything else that got out, but for states and the like.
    others: Vec<String>,
    eos: bool,
}

/// One `webrtcbridge-session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub id: String,
    pub channel: String,
    pub state: String,
    pub reason: String,
}

impl BridgeServer {
    /// Plays on a port of its own with these properties.
    pub fn start(properties: &[(&str, &str)]) -> Self {
        Self::start_with(properties, |_| {})
    }

    /// The same, once `prepare` has done something with the element.
    pub fn start_with(properties: &[(&str, &str)], prepare: impl FnOnce(&gst::Element)) -> Self {
        let server = Self::ready(properties);
        prepare(&server.bin);
        server.pipeline.set_state(gst::State::Playing).expect("playing");
        server
    }

    /// One that is not started yet.
    pub fn ready(properties: &[(&str, &str)]) -> Self {
        register();
        let bin = gst::ElementFactory::make("webrtcbridgebin").property("listen", "127.0.0.1:0").build();
        let bin = bin.expect("the element");
        for (name, value) in properties {
            bin.set_property_from_str(name, value);
        }
        let pipeline = gst::Pipeline::new();
        pipeline.add(&bin).expect("room");
        let heard = Arc::<Mutex<Heard>>::default();
        let hears = heard.clone();
        pipeline.bus().expect("a bus").set_sync_handler(move |_, message| {
            hears.lock().expect("heard").hear(message);
            gst::BusSyncReply::Drop
        });
        Self { pipeline, bin, heard }
    }

    /// Where it is called, without a slash at the end.
    pub fn url(&self) -> String {
        wait_until("the URL", SOON, || self.stats().get::<String>("url").ok())
    }

    /// Where to publish to a channel.
    pub fn whip(&self, channel: &str) -> String {
        format!("{}/whip/{channel}", self.url())
    }

    pub fn stats(&self) -> gst::Structure {
        self.bin.property("stats")
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.stats().get::<gst::Array>("sessions").map_or(0, |sessions| sessions.len())
    }

    /// The statistics of the one session on a channel.
    pub fn session(&self, channel: &str) -> Option<gst::Structure> {
        let sessions = self.stats().get::<gst::Array>("sessions").ok()?;
        let mut sessions = sessions.iter().filter_map(|session| session.get::<gst::Structure>().ok());
        sessions.find(|session| session.get::<&str>("channel") == Ok(channel))
    }

    /// The statistics of an element of a session, by the beginning of its name.
    pub fn element(&self, channel: &str, name: &str) -> Option<gst::Structure> {
        let elements = self.session(channel)?.get::<gst::Array>("elements").ok()?;
        let mut elements = elements.iter().filter_map(|element| element.get::<gst::Structure>().ok());
        elements.find(|element| element.get::<&str>("element").is_ok_and(|element| element.starts_with(name)))
    }

    /// All that was told of a channel's sessions.
    pub fn told(&self, channel: &str) -> Vec<Told> {
        let heard = self.heard.lock().expect("heard");
        heard.sessions.iter().filter(|told| told.channel == channel).cloned().collect()
    }

    /// The states that a channel's sessions went through, in the order in which they were told.
    pub fn states(&self, channel: &str) -> Vec<String> {
        self.told(channel).into_iter().map(|told| told.state).collect()
    }

    /// Waits for a session of the channel to come to a state, and returns why.
    pub fn wait_state(&self, channel: &str, state: &str) -> String {
        wait_until(&format!("{channel} to be {state}; told: {:?}", self.told(channel)), SOON, || {
            self.told(channel).into_iter().find(|told| told.state == state).map(|told| told.reason)
        })
    }

    /// What got out beside the sessions' states.
    pub fn others(&self) -> Vec<String> {
        self.heard.lock().expect("heard").others.clone()
    }

    pub fn saw_eos(&self) -> bool {
        self.heard.lock().expect("heard").eos
    }
}

impl Heard {
    fn hear(&mut self, message: &gst::Message) {
        match message.view() {
            gst::MessageView::Element(element) => {
                let Some(structure) = element.structure() else { return };
                if structure.name() == "webrtcbridge-session" {
                    let field = |name: &str| structure.get::<String>(name).expect("a field");
                    let [id, channel, state, reason] = ["id", "channel", "state", "reason"].map(field);
                    self.sessions.push(Told { id, channel, state, reason });
                } else {
                    self.others.push(structure.to_string());
                }
            }
            gst::MessageView::Eos(_) => self.eos = true,
            gst::MessageView::Error(error) => self.others.push(format!("error: {}", error.error().message())),
            gst::MessageView::Warning(warning) => self.others.push(format!("warning: {}", warning.error().message())),
            _ => {}
        }
    }
}

impl Drop for BridgeServer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}
