//! The whole way, WHIP in and RTMP out, measured from outside:
//!
//!     cargo bench --bench bridge -- [--streams 1,2,4,8] [--seconds 10] [--loss 0.02] [--codec vp8] [--plot FILE]
//!
//! The bridge is a process of its own, so that its CPU time, memory and threads are its own; publishers and the RTMP server are
//! here, where one clock sees a picture go and come. Prints a table as docs/benchmarks.md has it, and draws it as an SVG.
//!
//! Publishers send H.264 of 2 Mbit/s, 30 pictures a second with a keyframe every second, and Opus that is never silent; the
//! bridge passes H.264 and makes AAC of 128 kbit/s of Opus.

#![allow(clippy::print_stdout)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod figures;
#[path = "../plot/mod.rs"]
mod plot;
mod process;
mod receiver;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser;
use common::{
    SOON, clip,
    lossy::LossyPath,
    publisher::{Clips, Options, Publisher, Video},
    wait_until,
};
use figures::{Figures, Row};
use plot::{Chart, Curve};
use process::Bridge;
use receiver::Receiver;

/// The test clip of this size has 2 Mbit/s.
const SIZE: (u32, u32) = (992, 560);
/// Connections and encoders settle before anything is measured.
const WARM_UP: Duration = Duration::from_secs(4);

#[derive(Debug, Parser)]
struct Arguments {
    /// Streams at once, one row for each.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    streams: Vec<usize>,
    /// How long each row is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The share of packets to the bridge that is lost.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// What publishers send: h264, which passes, or vp8, which is encoded anew.
    #[arg(long, default_value = "h264")]
    codec: String,
    /// Where the curves go.
    #[arg(long, default_value = "target/bridge.svg")]
    plot: PathBuf,
    /// Plays the bridge: its launch line on stdin.
    #[arg(long, hide = true)]
    serve: bool,
    /// Cargo's.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.serve {
        return process::serve();
    }
    println!("{}", Row::heading());
    let mut rows = Vec::new();
    for &count in &arguments.streams {
        let row = measure(count, &arguments);
        println!("{row}");
        rows.push(row);
    }
    match plot::draw(&arguments.plot, "streams", &charts(&rows)) {
        Ok(()) => println!("\ndrawn in {}", arguments.plot.display()),
        Err(error) => println!("\nnothing drawn in {}: {error}", arguments.plot.display()),
    }
}

/// Cost and latency over the number of streams.
fn charts(rows: &[Row]) -> [Chart; 2] {
    let points = |value: fn(&Row) -> Option<f64>| {
        rows.iter().filter_map(|row| Some((row.count as f64, value(row)?))).collect::<Vec<_>>()
    };
    let cost = Curve { name: "cost", points: points(|row| Some(row.cost() * 1e3)) };
    let median = Curve { name: "median", points: points(|row| row.latency(0.5)) };
    let p95 = Curve { name: "p95", points: points(|row| row.latency(0.95)) };
    [
        Chart { title: "ms of a core a second, each stream", curves: vec![cost] },
        Chart { title: "latency, ms", curves: vec![median, p95] },
    ]
}

fn measure(count: usize, arguments: &Arguments) -> Row {
    let receiver = Receiver::start();
    let bridge = Bridge::start(count, receiver.port());
    let idle = bridge.memory();
    let video = if arguments.codec == "vp8" { Video::Vp8 } else { Video::H264 };
    let clip = if arguments.codec == "vp8" { clip::vp8_at(SIZE.0, SIZE.1) } else { clip::h264_at(SIZE.0, SIZE.1) };
    let clips = Clips { video: Some(clip), audio: Some(clip::opus_full()) };
    let mut figures = Figures::default();
    let publishers: Vec<Publisher> = (0..count)
        .map(|number| {
            let path = (arguments.loss > 0.0).then(|| losing(arguments.loss, number));
            let options = Options { video: Some(video), path, clips, ..Options::default() };
            let publisher = Publisher::start_with(&bridge.url(number), options);
            let key = format!("s{number}");
            figures
                .first_keyframe
                .push(wait_until("the first keyframe", SOON, || receiver.first_keyframe(&key)) - publisher.posted());
            publisher
        })
        .collect();
    std::thread::sleep(WARM_UP);
    let (from, cpu) = (Instant::now(), bridge.cpu());
    std::thread::sleep(Duration::from_secs(arguments.seconds)); // the measurement itself
    let until = Instant::now();
    figures.cores = (bridge.cpu() - cpu) / (until - from).as_secs_f64();
    figures.memory = bridge.memory().saturating_sub(idle);
    figures.threads = bridge.threads();
    // What was under way may still come.
    std::thread::sleep(Duration::from_secs(1));
    for (number, publisher) in publishers.iter().enumerate() {
        publisher.assert_unharmed();
        figures.compare(&publisher.sent_at(), &receiver.pictures(&format!("s{number}")), from, until);
    }
    publishers.into_iter().for_each(Publisher::delete);
    Row { count, figures }
}

/// A network that loses this share of what the publisher sends, the same packets in each run.
fn losing(share: f64, seed: usize) -> LossyPath {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed as u64 + 1);
    LossyPath::new(move |direction, _| {
        if direction != common::lossy::Direction::ToBridge {
            return false;
        }
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 <= share
    })
}
