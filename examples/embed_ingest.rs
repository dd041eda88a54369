//! `webrtcingest` in a GStreamer program of one's own: who may publish, what comes out of its pads, what it tells.
//!
//! ```sh
//! cargo run --example embed_ingest                                         # counts pictures
//! cargo run --example embed_ingest -- --rtmp rtmp://127.0.0.1/live/key     # pushes them to an RTMP server
//! ```
//!
//! Publish from the page that it names, or from OBS by WHIP. Enter ends the program.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clap::Parser;
use gst::prelude::*;

/// Receives what a browser or OBS publishes by WHIP.
#[derive(Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Who shows one of these tokens may publish; everybody, if there is none.
    #[arg(long = "token")]
    tokens: Vec<String>,
    /// Pushes to this RTMP server instead of counting.
    #[arg(long)]
    rtmp: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, tokens, rtmp } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    let pipeline = gst::Pipeline::new();
    let ingest =
        gst::ElementFactory::make("webrtcingest").property("uri", format!("whip://{listen}/whip/live")).build()?;
    pipeline.add(&ingest)?;

    // The element asks with each request; this may take up to four seconds, with a database behind it for example.
    if !tokens.is_empty() {
        ingest.connect("authorize", false, move |values| {
            let token = values[2].get::<Option<String>>().ok().flatten();
            Some(token.is_some_and(|token| tokens.contains(&token)).to_value())
        });
    }

    // Pads come with the first publisher, one for each of his tracks, and stay: the next publisher's media use the same ones.
    let sink =
        rtmp.map(|url| gst::ElementFactory::make("rtmpbridgesink").property("location", url).build()).transpose()?;
    if let Some(sink) = &sink {
        pipeline.add(sink)?;
    }
    let pictures = Arc::new(AtomicU64::new(0));
    let (weak, counter) = (pipeline.downgrade(), pictures.clone());
    ingest.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let linked = match &sink {
            Some(sink) => push(pad, sink),
            None => count(&pipeline, pad, &counter),
        };
        if let Err(error) = linked {
            println!("{}: {error}", pad.name());
        }
    });

    pipeline.set_state(gst::State::Playing)?;

    let ending = pipeline.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ending.send_event(gst::event::Eos::new());
    });
    let (weak, counter) = (ingest.downgrade(), pictures);
    std::thread::spawn(move || {
        while let Some(ingest) = weak.upgrade() {
            print_stats(&ingest.property::<gst::Structure>("stats"), counter.load(Relaxed));
            drop(ingest);
            std::thread::sleep(Duration::from_secs(1));
        }
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

/// The sink has a pad for each kind; H.264 passes through it untouched, the rest it transcodes.
fn push(pad: &gst::Pad, sink: &gst::Element) -> Result<(), Box<dyn Error>> {
    let Some(kind) = ["video", "audio"].into_iter().find(|kind| pad.name().starts_with(kind)) else {
        return Ok(()); // a data channel's
    };
    if sink.static_pad(kind).is_some() {
        return Err("the sink has this kind already".into());
    }
    pad.link(&sink.request_pad_simple(kind).ok_or("the sink takes no more")?)?;
    Ok(())
}

/// What comes is encoded, a picture in each buffer; to see it put a decoder in between, such as `avdec_h264`.
fn count(pipeline: &gst::Pipeline, pad: &gst::Pad, pictures: &Arc<AtomicU64>) -> Result<(), Box<dyn Error>> {
    let end = gst::ElementFactory::make("fakesink").property("async", false).build()?;
    pipeline.add(&end)?;
    if pad.name().starts_with("video") {
        let pictures = pictures.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            pictures.fetch_add(1, Relaxed);
            gst::PadProbeReturn::Ok
        });
    }
    end.sync_state_with_parent()?;
    pad.link(&end.static_pad("sink").ok_or("no pad")?)?;
    Ok(())
}

/// `gst-inspect-1.0` does not know these fields; the README and src/webrtcingest/stats.rs list them.
fn print_stats(stats: &gst::StructureRef, pictures: u64) {
    if let (Ok(bitrate), Ok(lost)) = (stats.get::<u64>("bitrate"), stats.get::<u64>("lost-packets")) {
        println!("stats: {} kbit/s, {lost} packets lost, {pictures} pictures", bitrate / 1000);
    }
}

fn print(structure: Option<&gst::StructureRef>) {
    let Some(structure) = structure else { return };
    let text = |name: &str| structure.get::<String>(name).unwrap_or_default();
    match structure.name().as_str() {
        "webrtcbridge-listening" => println!("page: {}", text("page")),
        "webrtcbridge-session" => println!("session: {} {}", text("state"), text("reason")),
        "rtmpbridge-destination" => println!("rtmp: {} {}", text("state"), text("reason")),
        _ => {}
    }
}
