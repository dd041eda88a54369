//! A bridge server in a GStreamer program: `webrtcbridgebin`, with a pipeline of the program's own for each publisher.
//!
//! ```sh
//! cargo run --example embed_bin
//! ```
//!
//! Publish from the page that it names (or OBS, with WHIP) to any channel: every second it says how loud each publisher is.
//! Enter ends the program: publishers are brought to their end, and the last line says so.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    io::Read as _,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use clap::Parser;
use gst::prelude::*;

/// Serves any number of publishers, and says how loud each is.
#[derive(Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    let bin = gst::ElementFactory::make("webrtcbridgebin")
        .property("listen", listen)
        .property("audio-codecs", gst::Array::new(["OPUS"]))
        .build()?;
    // Without this signal the bin runs its `session` description for each publisher.
    bin.connect("create-session", false, |values| {
        let channel = values[1].get::<String>().ok()?;
        let session = make_session(&channel).inspect_err(|error| println!("{channel}: {error}")).ok()?;
        Some(session.to_value())
    });
    let pipeline = gst::Pipeline::new();
    pipeline.add(&bin)?;
    pipeline.set_state(gst::State::Playing)?;

    // Enter, or the end of standard input, sends EOS: no new publishers, and those that are there come to their end.
    let ending = pipeline.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ending.send_event(gst::event::Eos::new());
    });

    for message in pipeline.bus().ok_or("no bus")?.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Element(element) => print(element.structure()),
            gst::MessageView::Warning(warning) => println!("warning: {}", warning.error()),
            gst::MessageView::Error(error) => return Err(error.error().into()),
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    println!("ended");
    Ok(())
}

/// What is done with one publisher's media: its pads appear when its offer has been answered.
fn make_session(channel: &str) -> Result<gst::Element, Box<dyn Error>> {
    let session = gst::Bin::new();
    let ingest = gst::ElementFactory::make("webrtcingest").build()?; // without uri: the publisher of this session
    session.add(&ingest)?;
    let (weak, channel) = (session.downgrade(), channel.to_owned());
    ingest.connect_pad_added(move |_, pad| {
        let Some(session) = weak.upgrade() else { return };
        if let Err(error) = connect(&session, pad, &channel) {
            println!("{channel}: {error}");
        }
    });
    Ok(session.upcast())
}

fn connect(session: &gst::Bin, pad: &gst::Pad, channel: &str) -> Result<(), Box<dyn Error>> {
    let description = match pad.name().starts_with("audio") {
        true => "opusdec ! audioconvert ! audio/x-raw,format=S16LE ! fakesink name=heard async=false",
        false => "fakesink async=false",
    };
    let branch = gst::parse::bin_from_description(description, true)?;
    session.add(&branch)?;
    if let Some(heard) = branch.by_name("heard").and_then(|sink| sink.static_pad("sink")) {
        let (channel, buffers) = (channel.to_owned(), AtomicU32::new(0));
        heard.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(data) = info.buffer().and_then(|buffer| buffer.map_readable().ok()) else {
                return gst::PadProbeReturn::Ok;
            };
            let samples = data.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]).unsigned_abs());
            // Once a second, at 20 ms a buffer.
            if buffers.fetch_add(1, Relaxed).is_multiple_of(50) {
                println!("{channel}: the loudest sample is {} of 32768", samples.max().unwrap_or(0));
            }
            gst::PadProbeReturn::Ok
        });
    }
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").ok_or("no pad")?)?;
    Ok(())
}

fn print(structure: Option<&gst::StructureRef>) {
    let Some(structure) = structure else { return };
    let text = |name: &str| structure.get::<String>(name).unwrap_or_default();
    match structure.name().as_str() {
        "webrtcbridge-listening" => println!("page: {}", text("page")),
        "webrtcbridge-session" => println!("{}: {} {}", text("channel"), text("state"), text("reason")),
        _ => {}
    }
}
