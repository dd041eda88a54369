//! A peer that waits in a signaling server's channel for another one, and runs a pipeline with it: one call does all of it.
//!
//! ```sh
//! cargo run --example answerer -- ws://127.0.0.1:8080/ws?channel=blue
//! cargo run --example answerer -- ws://127.0.0.1:8080/ws?channel=blue --pipeline "webrtcingest : rtmpbridgesink location=rtmp://…"
//! ```
//!
//! The other end is the example `offerer`, which is to be there first, or any pipeline with `webrtcegress uri=ws://…`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use clap::Parser;
use gstwebrtcbridge::WebRtcServer;

/// Meets another peer, and runs until it has gone.
#[derive(Parser)]
struct Arguments {
    /// The signaling server's channel.
    #[arg(default_value = "ws://127.0.0.1:8080/ws?channel=blue")]
    url: String,
    /// What to do with the peer's media; as it stands, everything is sent back.
    #[arg(long, default_value = "webrtcingest : webrtcegress")]
    pipeline: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { url, pipeline } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;
    println!("waiting for another peer; with GST_DEBUG=webrtcbridge:4 it says more");
    WebRtcServer::run_with_signaling(&url, &pipeline).await.map_err(|error| error.to_string())?;
    println!("ended");
    Ok(())
}
