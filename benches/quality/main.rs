//! What the encoders that we choose between cost and how good they are: `cargo bench --bench quality`.
//!
//! Prints, for each AAC encoder and each of x264's presets with our settings, CPU time for a second of media beside a figure
//! of quality: the log-spectral distance of what was sent to what is decoded, and SSIM as FFmpeg's filter counts it.
//! Speed is not bought with quality unseen.
//!
//! `cargo bench --bench quality -- speech.wav music.wav` takes recordings (48 kHz, stereo, 16 bits, 10 s at least) instead of
//! a made sound and pictures.

#![allow(clippy::print_stdout)]

mod spectrum;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use gst::prelude::*;

/// Ticks of /proc/self/stat: the kernel's USER_HZ.
const TICKS: f64 = 100.0;
const AUDIO_SECONDS: u32 = 60;
const BYTES_A_SECOND: u64 = 48_000 * 2 * 2;
const VIDEO_SECONDS: u32 = 10;
const VIDEO: &str = "width=1280,height=720,framerate=30/1";

/// Tones that move and a noise that comes and goes, as music has them: a sweep would have nothing to mask, plain noise nothing
/// to be heard.
const MUSIC: &str = "audiomixer name=mix ! audio/x-raw,format=S16LE,rate=48000,channels=2 ! wavenc \
    audiotestsrc wave=saw freq=220 volume=0.15 BUFFERS ! audio/x-raw,rate=48000,channels=2 ! mix. \
    audiotestsrc wave=square freq=660 volume=0.05 BUFFERS ! audio/x-raw,rate=48000,channels=2 ! mix. \
    audiotestsrc wave=ticks volume=0.5 BUFFERS ! audio/x-raw,rate=48000,channels=2 ! mix. \
    audiotestsrc wave=pink-noise volume=0.05 BUFFERS ! audio/x-raw,rate=48000,channels=2 ! mix.";

const AAC: &[&str] = &[
    "fdkaacenc bitrate=128000",
    "voaacenc bitrate=128000",
    "avenc_aac bitrate=128000 aac-coder=fast",
    "avenc_aac bitrate=128000",
];

const PRESETS: &[&str] = &["ultrafast", "superfast", "veryfast", "faster"];

fn main() {
    gst::init().expect("GStreamer");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // Cargo adds options of its own.
    let recordings: Vec<PathBuf> =
        std::env::args_os().skip(1).map(PathBuf::from).filter(|name| name.is_file()).collect();
    for recording in &recordings {
        println!("\n{}", recording.display());
        audio(folder, recording);
    }
    if recordings.is_empty() {
        audio(folder, &made_sound(folder));
        video(folder);
    }
}

fn made_sound(folder: &Path) -> PathBuf {
    let sound = folder.join("sent.wav");
    let buffers = format!("num-buffers={} samplesperbuffer=4800", AUDIO_SECONDS * 10);
    // mix's own output comes first in the line: what it writes to is linked behind wavenc.
    let music = MUSIC.replace("BUFFERS", &buffers).replace("wavenc", &format!("wavenc ! {}", file(&sound)));
    run(&music);
    sound
}

fn audio(folder: &Path, original: &Path) {
    let (encoded, decoded) = (folder.join("sent.m4a"), folder.join("got.wav"));
    let seconds = std::fs::metadata(original).expect("the file").len() as f64 / BYTES_A_SECOND as f64;
    println!(
        "| AAC, 128 kbit/s, 48 kHz stereo | ms of a core a second | log-spectral distance, dB |\n| --- | --- | --- |"
    );
    for encoder in AAC {
        let factory = encoder.split(' ').next().expect("a name");
        if gst::ElementFactory::find(factory).is_none() {
            println!("| {encoder} | not on this machine | |");
            continue;
        }
        let reading = format!("filesrc location={} ! wavparse", original.display());
        let parsing = run(&format!("{reading} ! audioconvert ! fakesink"));
        let cost =
            run(&format!("{reading} ! audioconvert ! {encoder} ! aacparse ! qtmux ! {}", file(&encoded))) - parsing;
        run(&format!(
            "filesrc location={} ! qtdemux ! aacparse ! avdec_aac ! audioconvert \
             ! audio/x-raw,format=S16LE,rate=48000,channels=2 ! wavenc ! {}",
            encoded.display(),
            file(&decoded)
        ));
        let distance = spectrum::distance(&samples(original), &samples(&decoded));
        println!("| {encoder} | {:.1} | {distance:.2} |", cost * 1e3 / seconds);
    }
}

fn video(folder: &Path) {
    let (original, encoded) = (folder.join("sent.yuv"), folder.join("sent.h264"));
    run(&format!(
        "videotestsrc num-buffers={} pattern=zone-plate kx2=20 ky2=20 kt=1 ! video/x-raw,format=I420,{VIDEO} ! {}",
        VIDEO_SECONDS * 30,
        file(&original)
    ));
    println!(
        "\n| x264enc, 720p30, 2 Mbit/s CBR, zerolatency, no B-frames | ms of a core a second | SSIM |\n| --- | --- | --- |"
    );
    let reading =
        format!("filesrc location={} ! rawvideoparse format=i420 {}", original.display(), VIDEO.replace(',', " "));
    let parsing = run(&format!("{reading} ! fakesink"));
    for preset in PRESETS {
        let cost = run(&format!(
            "{reading} ! x264enc tune=zerolatency speed-preset={preset} pass=cbr bitrate=2000 vbv-buf-capacity=1000 \
             bframes=0 key-int-max=60 option-string=scenecut=0 ! video/x-h264,stream-format=byte-stream ! {}",
            file(&encoded)
        )) - parsing;
        let ssim = ssim(&original, &encoded);
        println!("| {preset} | {:.0} | {ssim} |", cost * 1e3 / f64::from(VIDEO_SECONDS));
    }
}

fn file(path: &Path) -> String {
    format!("filesink location={}", path.display())
}

/// Runs a pipeline to its end; CPU seconds that it took.
fn run(description: &str) -> f64 {
    let before = cpu();
    let pipeline = gst::parse::launch(description).expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().expect("a bus").timed_pop_filtered(None, &end).expect("an end");
    let failure = match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    };
    assert_eq!(failure, None, "{description}");
    pipeline.set_state(gst::State::Null).expect("it stops");
    cpu() - before
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("its statistics");
    let after_name = stat.rsplit(')').next().expect("fields").split_ascii_whitespace();
    after_name.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS
}

/// The samples of a WAV file, both channels one after the other.
fn samples(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("the file");
    let data = bytes.get(44..).unwrap_or_default();
    data.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0).collect()
}

/// What FFmpeg says of all planes.
fn ssim(original: &Path, encoded: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "1280x720", "-r", "30", "-i"])
        .arg(original)
        .args(["-r", "30", "-i"])
        .arg(encoded)
        .args(["-lavfi", "ssim", "-f", "null", "-"])
        .output()
        .expect("ffmpeg");
    let text = String::from_utf8_lossy(&output.stderr);
    let all = text.rsplit("All:").next().and_then(|rest| rest.split(' ').next());
    all.filter(|figure| figure.parse::<f64>().is_ok()).unwrap_or("unknown").to_owned()
}
