//! One connection, both ways: what a peer sends comes back to it, pictures, sound and messages.
//!
//! ```sh
//! cargo run --example embed_echo
//! ```
//!
//! Open the page that it names: your camera is on the left, the echo on the right, and messages come back as well. Enter ends
//! the program. The launch line `webrtcingest : webrtcegress` does the same; here each pad is linked by hand, which is where
//! a program of your own begins.
#![allow(clippy::print_stdout)]

use std::{error::Error, io::Read as _, sync::Arc, time::Duration};

use clap::Parser;
use gst::prelude::*;
use gstwebrtcbridge::{
    WebRtcServer,
    bridge::{Observer, ServerConfig, SessionChange},
    channel::ChannelId,
    signaling::SessionId,
};

/// Sends everybody back what they send.
#[derive(Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    let server = WebRtcServer::new(ServerConfig {
        listen: listen.parse()?,
        // Called for each peer, when its offer has come; the answer is made of what this links.
        session: Arc::new(|_: &ChannelId, _: &SessionId| echo().map(Some).map_err(|error| error.to_string())),
        observer: Arc::new(Print),
        ..ServerConfig::default()
    })?;
    println!("page: {}/?echo=true", server.handle().url());

    let handle = server.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        handle.shutdown(Duration::from_secs(2));
    });
    server.serve().await?;
    println!("ended");
    Ok(())
}

/// The pipeline of one peer. Neither element has a `uri`: both are the connection of this session.
fn echo() -> Result<gst::Element, Box<dyn Error>> {
    let pipeline = gst::Pipeline::new();
    let ingest = gst::ElementFactory::make("webrtcingest").build()?;
    let egress = gst::ElementFactory::make("webrtcegress").build()?;
    pipeline.add_many([&ingest, &egress])?;

    // A pad for each track, and one for each data channel: video_0, audio_0, data_0. The egress makes their counterparts.
    // What passes from one to the other without a change is not encoded again.
    let weak = egress.downgrade();
    ingest.connect_pad_added(move |_, pad| {
        let Some(egress) = weak.upgrade() else { return };
        match egress.request_pad_simple(&pad.name()).map(|back| pad.link(&back)) {
            Some(Ok(_)) => println!("{} is sent back", pad.name()),
            other => println!("{} cannot be sent back: {other:?}", pad.name()),
        }
    });

    // Messages are also told by signals, for programs that do something else with them; "send-text" and "send-data" answer.
    ingest.connect("text-received", false, |values| {
        let (label, text) = (values[1].get::<String>().ok()?, values[2].get::<String>().ok()?);
        println!("text on \"{label}\": {} characters", text.chars().count());
        None
    });
    ingest.connect("data-received", false, |values| {
        let (label, bytes) = (values[1].get::<String>().ok()?, values[2].get::<gst::glib::Bytes>().ok()?);
        println!("data on \"{label}\": {} bytes", bytes.len());
        None
    });
    Ok(pipeline.upcast())
}

/// Says what becomes of each peer.
struct Print;

impl Observer for Print {
    fn session(&self, report: &SessionChange) {
        println!("session: {} {}", report.state.as_str(), report.reason);
    }
}
