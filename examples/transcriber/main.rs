//! Speech becomes text: what a peer says is handed to a recogniser, and its words go back over the data channel.
//!
//! ```sh
//! apt-get install gstreamer1.0-pocketsphinx pocketsphinx-en-us
//! cargo run --example transcriber -- --recogniser pocketsphinx --grammar examples/transcriber/commands.fsg
//! ```
//!
//! Open the page that it names, allow the microphone and say "open the door": the text stands among the messages. Without
//! the packages, and by default, there is a detector that knows no words: it says when it was loud, and for how long.
//! Another recogniser is another [`Recogniser`].
#![allow(clippy::print_stdout)]

mod recogniser;

use std::{
    error::Error,
    io::Read as _,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use gst::prelude::*;
use gstwebrtcbridge::{
    WebRtcServer, bridge::ServerConfig, channel::ChannelId, codec::Codec, session::CodecPreferences,
    signaling::SessionId,
};
use recogniser::{LoudnessDetector, PocketSphinx, Recogniser};

/// Sends everybody back what they say, as text.
#[derive(Clone, Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Who listens.
    #[arg(long, value_enum, default_value_t = Kind::Loudness)]
    recogniser: Kind,
    /// For pocketsphinx: what may be said, as a Sphinx finite state grammar; anything in English, if left out, but with more mistakes.
    #[arg(long)]
    grammar: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// No recogniser: says when it was loud, and for how long.
    Loudness,
    /// CMU PocketSphinx with its English model, from Debian's packages.
    Pocketsphinx,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;
    new_recogniser(&arguments)?; // what is missing is said now, and not to the first peer

    let server = WebRtcServer::new(ServerConfig {
        listen: arguments.listen.parse()?,
        session: Arc::new(move |_: &ChannelId, _: &SessionId| {
            make_session(&arguments).map(Some).map_err(|e| e.to_string())
        }),
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

fn new_recogniser(arguments: &Arguments) -> Result<Box<dyn Recogniser>, Box<dyn Error>> {
    Ok(match arguments.recogniser {
        Kind::Loudness => Box::new(LoudnessDetector::default()),
        Kind::Pocketsphinx => Box::new(PocketSphinx::new(arguments.grammar.as_deref())?),
    })
}

/// The pipeline of one peer: his sound in the form that recognisers want. Pictures go back, as the page expects something to.
fn make_session(arguments: &Arguments) -> Result<gst::Element, Box<dyn Error>> {
    let mut recogniser = new_recogniser(arguments)?;
    let pipeline = gst::parse::launch(
        "webrtcingest name=in webrtcegress name=out in.video_0 ! out.video_0 \
         in.audio_0 ! opusdec plc=true ! audioconvert ! audioresample \
         ! audio/x-raw,format=S16LE,rate=16000,channels=1 ! appsink name=heard sync=false async=false",
    )?;
    let bin = pipeline.downcast_ref::<gst::Bin>().ok_or("not a bin")?;
    let ingest = bin.by_name("in").ok_or("no ingest")?;
    let heard = bin.by_name("heard").and_downcast::<gst_app::AppSink>().ok_or("no appsink")?;

    // Answers go by the first channel that the peer opens, or by one that is made for them.
    let label = Arc::new(OnceLock::<String>::new());
    let opened = label.clone();
    ingest.connect("data-channel-opened", false, move |values| {
        let _ = opened.set(values[1].get().ok()?);
        None
    });

    let ingest = ingest.downgrade();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |heard| {
        let sample = heard.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let bytes = sample.buffer().and_then(|buffer| buffer.map_readable().ok()).ok_or(gst::FlowError::Error)?;
        let samples: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        if let (Some(text), Some(ingest)) = (recogniser.hear(&samples), ingest.upgrade()) {
            println!("heard: {text}");
            ingest.emit_by_name::<()>("send-text", &[label.get_or_init(|| "transcript".into()), &text]);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    heard.set_callbacks(callbacks.build());
    Ok(pipeline)
}
