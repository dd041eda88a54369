//! Pictures that come back changed: by GStreamer's elements, or by code of the program's own.
//!
//! ```sh
//! cargo run --example video_effect -- --effect negative
//! ```
//!
//! Open the page that it names: your camera is on the left, what this program makes of it on the right. Enter ends the
//! program.
#![allow(clippy::print_stdout)]

use std::{error::Error, io::Read as _, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use gst::prelude::*;
use gstwebrtcbridge::{WebRtcServer, bridge::ServerConfig, channel::ChannelId, signaling::SessionId};

/// Sends everybody back their pictures, changed.
#[derive(Parser)]
struct Arguments {
    /// Where to serve; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// What is done with each picture.
    #[arg(long, value_enum, default_value_t = Effect::Negative)]
    effect: Effect,
}

#[derive(Clone, Copy, ValueEnum)]
enum Effect {
    /// Each colour becomes its opposite, by this program's own code.
    Negative,
    /// Without colours, by `videobalance`.
    Grey,
    /// Left and right change places, by `videoflip`.
    Mirror,
}

impl Effect {
    /// The elements for it. `own` is where this program's code has its hands on the pictures.
    fn elements(self) -> &'static str {
        match self {
            Self::Negative => "video/x-raw,format=RGBx ! identity name=own",
            Self::Grey => "videobalance saturation=0",
            Self::Mirror => "videoflip video-direction=horiz",
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, effect } = Arguments::parse();
    gst::init()?;
    gstwebrtcbridge::plugin_register_static()?;

    let server = WebRtcServer::new(ServerConfig {
        listen: listen.parse()?,
        session: Arc::new(move |_: &ChannelId, _: &SessionId| {
            make_session(effect).map(Some).map_err(|e| e.to_string())
        }),
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

/// The pipeline of one peer: pictures through the effect, sound straight back.
fn make_session(effect: Effect) -> Result<gst::Element, Box<dyn Error>> {
    let pipeline = gst::parse::launch(&format!(
        "webrtcingest name=in webrtcegress name=out \
         in.video_0 ! decodebin ! videoconvert ! {} ! videoconvert ! out.video_0 in.audio_0 ! out.audio_0",
        effect.elements()
    ))?;
    let own = pipeline.downcast_ref::<gst::Bin>().and_then(|pipeline| pipeline.by_name("own"));
    if let Some(pad) = own.and_then(|own| own.static_pad("src")) {
        pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            if let Some(picture) = info.buffer_mut() {
                negative(picture.make_mut());
            }
            gst::PadProbeReturn::Ok
        });
    }
    Ok(pipeline)
}

/// RGBx has four bytes for each pixel, and no gaps between rows: the whole picture is one run of them.
fn negative(picture: &mut gst::BufferRef) {
    let Ok(mut bytes) = picture.map_writable() else { return };
    for pixel in bytes.chunks_exact_mut(4) {
        for colour in &mut pixel[..3] {
            *colour = 255 - *colour;
        }
    }
}
