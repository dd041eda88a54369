//! A media file there and back, without a browser: this program sends it to another peer, takes what comes back and compares.
//!
//! ```sh
//! pipelines/run signaling                                                       # a place to meet
//! cargo run --example offerer -- --file clip.webm ws://127.0.0.1:8080/ws?channel=blue
//! cargo run --example answerer -- ws://127.0.0.1:8080/ws?channel=blue           # in another terminal
//! ```
//!
//! Of two peers the one who is there first makes the offer: start this one first. It ends with the file, says how true
//! pictures and sound came back, and its exit code is 0 if they did. `recording` is what is looked and
//! listened to, `compare` the judgement.
#![allow(clippy::print_stdout)]

mod compare;
mod recording;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Parser;
use gst::prelude::*;
use recording::Recording;

/// Sends a media file to another peer, and compares what comes back.
#[derive(Parser)]
struct Arguments {
    /// The signaling server's channel.
    #[arg(default_value = "ws://127.0.0.1:8080/ws?channel=blue")]
    url: String,
    /// Something with pictures and sound that GStreamer can play.
    #[arg(long)]
    file: PathBuf,
}

/// What is looked at: small and grey, so that a difference is one of content.
const LOOK: &str = "videoconvert ! videoscale ! video/x-raw,format=GRAY8,width=48,height=36";
/// What is listened to. All pictures and sounds are kept until the end.
const LISTEN: &str = "audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=2000,channels=1";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { url, file } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    // Two elements with the same uri have one connection. `file` waits until there is somebody to send to; `clocksync` plays it
    // in real time, however fast it can be read.
    let pipeline = gst::parse::launch(&format!(
        "webrtcegress name=out uri=\"{url}\" webrtcingest name=in uri=\"{url}\" uridecodebin name=file \
         file. ! video/x-raw ! queue ! clocksync ! tee name=pictures ! queue ! out.video_0 \
         file. ! audio/x-raw ! queue ! clocksync ! tee name=sound ! queue ! out.audio_0 \
         pictures. ! queue ! {LOOK} ! appsink name=sent-pictures sync=false async=false \
         sound. ! queue ! {LISTEN} ! appsink name=sent-sound sync=false async=false \
         in.video_0 ! decodebin ! {LOOK} ! appsink name=pictures-back sync=false async=false \
         in.audio_0 ! decodebin ! {LISTEN} ! appsink name=sound-back sync=false async=false"
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    let element = |name: &str| pipeline.by_name(name).ok_or("no such element");
    let record = |name: &str| Ok::<_, Box<dyn Error>>(Recording::of(&element(name)?));
    let (pictures, pictures_back) = (record("sent-pictures")?, record("pictures-back")?);
    let (sound, sound_back) = (record("sent-sound")?, record("sound-back")?);

    let source = element("file")?;
    source.set_property("uri", gst::glib::filename_to_uri(file.canonicalize()?, None)?);
    source.set_locked_state(true);
    pipeline.set_state(gst::State::Playing)?;

    let bus = pipeline.bus().ok_or("no bus")?;
    let mut came = 0;
    loop {
        let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(500)) else {
            // What is on its way when the file ends shall come back as well.
            let before = std::mem::replace(&mut came, pictures_back.len() + sound_back.len());
            if (pictures.has_ended() || sound.has_ended()) && came == before { break } else { continue }
        };
        match message.view() {
            gst::MessageView::Element(_) if state(&message) == Some("waiting") => println!("waiting"),
            gst::MessageView::Element(_) if state(&message) == Some("live") && source.is_locked_state() => {
                println!("connected");
                play(&pipeline, &source)?;
            }
            gst::MessageView::Warning(warning) => println!("warning: {}", warning.error()),
            gst::MessageView::Error(error) => return Err(error.error().into()),
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;

    let (seen, heard) = (compare::pictures(&pictures, &pictures_back), compare::sound(&sound, &sound_back));
    println!("pictures: {seen}\nsound: {heard}");
    let verdict = came > 0 && seen.is_good() && heard.is_good();
    println!("{}", if verdict { "the echo is true" } else { "the echo is not what was sent" });
    Ok(if verdict { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How it stands with the connection, if that is what the message is about. Both elements tell; one is enough.
fn state(message: &gst::Message) -> Option<&str> {
    let is_told = message.src().is_some_and(|element| element.name() == "out");
    message.structure().filter(|told| is_told && told.name() == "webrtcbridge-connection")?.get("state").ok()
}

/// The file's timestamps begin at zero, and the pipeline's time is some way on.
fn play(pipeline: &gst::Pipeline, source: &gst::Element) -> Result<(), Box<dyn Error>> {
    let now = pipeline.current_running_time().ok_or("no clock")?;
    source.connect_pad_added(move |_, pad| pad.set_offset(now.nseconds() as i64));
    source.set_locked_state(false);
    source.sync_state_with_parent()?;
    Ok(())
}
