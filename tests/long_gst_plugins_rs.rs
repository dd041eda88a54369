//! gst-plugins-rs' `whipclientsink` publishes to our servers, and its `whepclientsrc` watches them. `tests/long` builds these
//! elements from their Rust packages (tests/foreign), which takes minutes.

mod common;

use std::{
    path::Path,
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{egress::Egress, ingest::Ingest, nginx::Nginx, recording::Recording, server::BridgeServer, wait_until};
use gst::prelude::*;

/// They are not quick to start.
const PATIENCE: Duration = Duration::from_secs(60);

const SOURCES: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=15/1 \
    ! out.video_0 audiotestsrc is-live=true volume=0.5 ! out.audio_0";

/// Registers both plugins, once.
fn load() {
    static LOADED: Once = Once::new();
    LOADED.call_once(|| {
        common::server::register();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("foreign");
        for name in ["libgstrsrtp.so", "libgstrswebrtc.so"] {
            let path = target.join("debug").join(name);
            gst::Plugin::load_file(&path).unwrap_or_else(|error| {
                panic!("{}: {error}; `tests/long gst_plugins_rs` builds it", path.display());
            });
        }
    });
}

/// A playing pipeline.
struct Foreign(gst::Pipeline);

impl Foreign {
    fn play(description: &str) -> Self {
        let foreign = Self::parse(description);
        foreign.0.set_state(gst::State::Playing).expect("playing");
        foreign
    }

    fn parse(description: &str) -> Self {
        load();
        let parsed = gst::parse::launch(description).expect("a pipeline");
        let pipeline = parsed.downcast::<gst::Pipeline>().unwrap_or_else(|alone| {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&alone).expect("one element");
            pipeline
        });
        // Without one they ask a server of Google's.
        for element in ["in", "out"].into_iter().filter_map(|name| pipeline.by_name(name)) {
            element.set_property("stun-server", None::<String>);
        }
        Self(pipeline)
    }

    /// Publishes in this codec.
    fn publish(whip: &str, video: &str) -> Self {
        Self::play(&format!(
            "whipclientsink name=out signaller::whip-endpoint={whip} video-caps={video} audio-caps=audio/x-opus {SOURCES}"
        ))
    }

    fn assert_unharmed(&self) {
        let bus = self.0.bus().expect("a bus");
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
            panic!("{message:?}");
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// Watches, and counts pictures of this size, and sounds. It is whepclientsrc that decodes them, for who takes nothing else.
struct Watching {
    foreign: Foreign,
    counts: Arc<[AtomicUsize; 2]>,
}

impl Watching {
    fn start(whep: &str, (width, height): (i32, i32)) -> Self {
        let foreign = Foreign::parse(&format!("whepclientsrc name=in signaller::whep-endpoint={whep}"));
        let counts = Arc::<[AtomicUsize; 2]>::default();
        let (around, counting) = (foreign.0.downgrade(), counts.clone());
        let source = foreign.0.by_name("in").expect("the source");
        source.connect_pad_added(move |_, pad| {
            let Some(pipeline) = around.upgrade() else { return };
            let (index, chain) = match pad.name().starts_with("video") {
                true => (0, format!("videoconvert ! video/x-raw,width={width},height={height}")),
                false => (1, "audioconvert ! audio/x-raw".to_owned()),
            };
            let chain = format!("queue ! {chain} ! fakesink name=seen signal-handoffs=true sync=false async=false");
            let bin = gst::parse::bin_from_description(&chain, true).expect("a chain");
            let counting = counting.clone();
            bin.by_name("seen").expect("its end").connect("handoff", false, move |_| {
                counting[index].fetch_add(1, SeqCst);
                None
            });
            pipeline.add(&bin).expect("room");
            bin.sync_state_with_parent().expect("playing");
            pad.link(&bin.static_pad("sink").expect("a pad")).expect("linked");
        });
        foreign.0.set_state(gst::State::Playing).expect("playing");
        Self { foreign, counts }
    }

    fn wait(&self, pictures: usize, sounds: usize) {
        wait_until("pictures and sounds at whepclientsrc", PATIENCE, || {
            self.foreign.assert_unharmed();
            let [seen, heard] = [0, 1].map(|index| self.counts[index].load(SeqCst));
            (seen >= pictures && heard >= sounds).then_some(())
        });
    }
}

#[test]
#[ignore = "long"]
fn whipclientsink_publishes_to_webrtcingest_in_each_codec() {
    for video in ["video/x-h264", "video/x-vp8", "video/x-vp9"] {
        let server = Ingest::start("");
        let publisher = Foreign::publish(&server.url(), video);
        wait_until("frames of both", PATIENCE, || {
            publisher.assert_unharmed();
            (server.frames() > 200 && server.pads() == 2).then_some(())
        });
        drop(publisher);
        assert_eq!(server.wait_ended(), "closed by the peer", "it says DELETE");
    }
}

#[test]
#[ignore = "long"]
fn whipclientsink_publishes_to_a_bridge_server_and_its_stream_is_recorded_and_watched_by_whepclientsrc() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session)]);
    let publisher = Foreign::publish(&server.whip("red"), "video/x-h264");
    wait_until("the session", PATIENCE, || {
        publisher.assert_unharmed();
        server.element("red", "webrtcingest")?.get::<u64>("frames").is_ok_and(|frames| frames > 0).then_some(())
    });
    let watching = Watching::start(&format!("{}/whep/red", server.url()), (320, 180));
    watching.wait(60, 100);
    let path = nginx.wait_recorded("red", PATIENCE, |flv| flv.has_seconds(4, 4));
    publisher.assert_unharmed();
    drop((watching, publisher));
    nginx.wait_for_log("FCUnpublish", PATIENCE);
    let recording = Recording::probe(&path);
    assert_eq!((recording.codec("video").as_deref(), recording.codec("audio").as_deref()), (Some("h264"), Some("aac")));
    recording.assert_starts_with_keyframe();
    recording.assert_decodes();
}

#[test]
#[ignore = "long"]
fn whepclientsrc_watches_webrtcegress_in_each_codec() {
    for codec in ["H264", "VP8", "VP9"] {
        let egress = Egress::start(&format!("video-codecs=<{codec}>"), SOURCES);
        let watching = Watching::start(&egress.url(), (320, 180));
        watching.wait(60, 100);
        assert_eq!(egress.track("video_0").get::<&str>("codec"), Ok(codec));
        drop(watching);
        wait_until("nobody", PATIENCE, || (egress.state() == "new").then_some(()));
        assert_eq!(egress.error(), None);
    }
}
