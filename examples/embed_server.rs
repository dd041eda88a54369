//! A bridge server in a Rust program without a pipeline of its own: `WebRtcServer`, and a closure that makes each session's.
//!
//! ```sh
//! cargo run --example embed_server -- --rtmp rtmp://127.0.0.1/live
//! ```
//!
//! Channels whose name begins with `test` are received and thrown away; all others are pushed to the RTMP server under
//! their name. Enter ends the program: publishers get two seconds to come to their end.
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

/// Serves any number of publishers, and pushes each to an RTMP server.
#[derive(Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// The RTMP server's application; each channel's name becomes the key.
    #[arg(long, default_value = "rtmp://127.0.0.1/live")]
    rtmp: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, rtmp } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    let server = WebRtcServer::new(ServerConfig {
        listen: listen.parse()?,
        session: Arc::new(move |channel: &ChannelId, _: &SessionId| make_session(channel, &rtmp).map(Some)),
        observer: Arc::new(Print),
        ..ServerConfig::default()
    })?;
    let handle = server.handle();
    println!("page: {}/", handle.url());

    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        let live = handle.sessions().into_iter().map(|session| session.channel.to_string()).collect::<Vec<_>>();
        println!("ending, with {} publishers: {}", live.len(), live.join(" "));
        handle.shutdown(Duration::from_secs(2));
    });
    server.serve().await?;
    println!("ended");
    Ok(())
}

/// A pipeline, or an element to put into one. The text of an error is told to the observer.
fn make_session(channel: &ChannelId, rtmp: &str) -> Result<gst::Element, String> {
    let say = |error: gst::glib::Error| error.to_string();
    if channel.as_str().starts_with("test") {
        let description = "webrtcingest name=in ! fakesink async=false in. ! fakesink async=false";
        return gst::parse::launch(description).map_err(say);
    }
    let pipeline = gst::parse::launch("webrtcingest : rtmpbridgesink name=out").map_err(say)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    // Set as a property, the name needs no quoting; a description's {channel} does the same.
    let out = pipeline.by_name("out").ok_or("no sink")?;
    out.set_property("location", format!("{rtmp}/{channel}"));
    Ok(pipeline.upcast())
}

/// Says what becomes of each publisher.
struct Print;

impl Observer for Print {
    fn session(&self, report: &SessionChange) {
        println!("{}: {} {}", report.channel, report.state.as_str(), report.reason);
    }
}
