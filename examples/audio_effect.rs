//! A live effect: what you say comes back changed.
//!
//! ```sh
//! cargo run --example audio_effect -- --effect higher
//! cargo run --example audio_effect -- --effect "audiowsinclimit cutoff=800"    # any GStreamer elements
//! ```
//!
//! Open the page that it names, with headphones on, and unmute the picture on the right. Enter ends the program.
#![allow(clippy::print_stdout)]

use std::{error::Error, io::Read as _, sync::Arc, time::Duration};

use clap::Parser;
use gstwebrtcbridge::{
    WebRtcServer,
    bridge::{Description, ServerConfig},
    codec::Codec,
    session::CodecPreferences,
};

/// What stands between the decoder and the encoder. `pitch` comes from SoundTouch, `freeverb` from Debian's plugins-bad.
const EFFECTS: [(&str, &str); 4] = [
    ("higher", "pitch pitch=1.5"),
    ("lower", "pitch pitch=0.7"),
    ("echo", "audioecho delay=250000000 max-delay=500000000 intensity=0.6 feedback=0.4"),
    ("hall", "freeverb room-size=0.9 level=0.6"),
];

/// Sends everybody back what they say, changed.
#[derive(Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// higher, lower, echo, hall, or elements as gst-launch-1.0 takes them.
    #[arg(long, default_value = "higher")]
    effect: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, effect } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    let known = EFFECTS.iter().find(|(name, _)| *name == effect);
    let elements = known.map_or(effect.as_str(), |(_, elements)| elements);
    // Sound makes a detour through the effect, encoded again at its end; pictures go straight back.
    let session = format!(
        "webrtcingest name=in webrtcegress name=out \
         in.audio_0 ! opusdec plc=true ! audioconvert ! audioresample ! {elements} ! audioconvert ! audioresample ! out.audio_0 \
         in.video_0 ! out.video_0"
    );
    let server = WebRtcServer::new(ServerConfig {
        listen: listen.parse()?,
        session: Arc::new(Description::parse(&session)?),
        // What the description has a decoder for.
        codecs: CodecPreferences { audio: vec![Codec::Opus], ..CodecPreferences::default() },
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
