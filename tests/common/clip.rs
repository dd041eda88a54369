//! Encoded test media in memory, made once per test process: what the publisher sends is known bit for bit.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
};

use super::flv::{annexb_nals, hash_slices};

/// Encoded media and how to announce it.
pub struct Clip {
    pub caps: gst::Caps,
    pub units: Vec<Unit>,
}

/// An access unit or an audio packet.
pub struct Unit {
    pub data: Vec<u8>,
    pub key: bool,
    /// Hash of its slices (H.264 only).
    pub slices: u64,
}

pub const FPS: u64 = 30;
pub const WIDTH: u32 = 640;
pub const HEIGHT: u32 = 360;

/// 20 s of H.264 with a keyframe each second; no two pictures have the same bits.
pub fn h264() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let mut units = encode(
            "x264enc speed-preset=ultrafast tune=zerolatency bframes=0 key-int-max=30 bitrate=800 \
             ! video/x-h264,profile=constrained-baseline ! h264parse \
             ! video/x-h264,stream-format=byte-stream,alignment=au",
        );
        for unit in &mut units {
            announce_as_42e01f(&mut unit.data);
            unit.slices = hash_slices(&annexb_nals(&unit.data));
        }
        let caps = format!(
            "video/x-h264,stream-format=byte-stream,alignment=au,profile=constrained-baseline,level=(string)3.1,\
             width={WIDTH},height={HEIGHT},framerate={FPS}/1"
        );
        Clip { caps: caps.parse().expect("caps"), units }
    })
}

/// 20 s of H.265 with a keyframe each second.
pub fn h265() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let units = encode(
            "x265enc speed-preset=ultrafast tune=zerolatency key-int-max=30 bitrate=800 \
             ! h265parse ! video/x-h265,stream-format=byte-stream,alignment=au",
        );
        let caps = format!(
            "video/x-h265,stream-format=byte-stream,alignment=au,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
        );
        Clip { caps: caps.parse().expect("caps"), units }
    })
}

/// The same pictures in another size, at a fitting bitrate: a simulcast layer.
pub fn h264_at(width: u32, height: u32) -> &'static Clip {
    h264_with(width, height, 30)
}

/// With a keyframe at the very start only.
pub fn h264_sparse(width: u32, height: u32) -> &'static Clip {
    h264_with(width, height, 100_000)
}

fn h264_with(width: u32, height: u32, gop: u32) -> &'static Clip {
    sized("video/x-h264,stream-format=byte-stream,alignment=au", (width, height, gop), |kilobits| {
        format!(
            "x264enc speed-preset=ultrafast tune=zerolatency bframes=0 key-int-max={gop} option-string=scenecut=0 \
             bitrate={kilobits} \
             ! video/x-h264,profile=constrained-baseline ! h264parse \
             ! video/x-h264,stream-format=byte-stream,alignment=au"
        )
    })
}

/// As [`h264_at`], in VP8.
pub fn vp8_at(width: u32, height: u32) -> &'static Clip {
    sized("video/x-vp8", (width, height, 30), |kilobits| {
        format!("vp8enc deadline=1 cpu-used=16 keyframe-max-dist=30 target-bitrate={}", kilobits * 1000)
    })
}

/// Made once for each codec, size and keyframe interval; kept for the life of the process, as the other clips are.
fn sized(caps: &'static str, size: (u32, u32, u32), encoder: impl Fn(u32) -> String) -> &'static Clip {
    type Sized = HashMap<(&'static str, (u32, u32, u32)), &'static Clip>;
    static CLIPS: OnceLock<Mutex<Sized>> = OnceLock::new();
    let mut clips = CLIPS.get_or_init(Mutex::default).lock().expect("clips");
    clips.entry((caps, size)).or_insert_with(|| {
        let (width, height, _) = size;
        let mut units = encode_at(width, height, &encoder(50 + 800 * width * height / (WIDTH * HEIGHT)));
        if caps.starts_with("video/x-h264") {
            for unit in &mut units {
                announce_as_42e01f(&mut unit.data);
                unit.slices = hash_slices(&annexb_nals(&unit.data));
            }
        }
        let caps = format!("{caps},width={width},height={height},framerate={FPS}/1");
        Box::leak(Box::new(Clip { caps: caps.parse().expect("caps"), units }))
    })
}

/// 20 s of VP8 with a keyframe each second.
pub fn vp8() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let units = encode("vp8enc deadline=1 cpu-used=16 keyframe-max-dist=30 target-bitrate=800000");
        let caps = format!("video/x-vp8,width={WIDTH},height={HEIGHT},framerate={FPS}/1");
        Clip { caps: caps.parse().expect("caps"), units }
    })
}

/// 20 s of Opus as music has it: no silence, all frequencies, 96 kbit/s, in packets of 20 ms.
pub fn opus_full() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        opus_clip(
            "audiomixer name=mix ! audio/x-raw,rate=48000,channels=2 ! audiobuffersplit output-buffer-duration=1/50 \
             ! opusenc bitrate=96000 ! appsink name=out sync=false \
             audiotestsrc num-buffers=1000 samplesperbuffer=960 wave=pink-noise volume=0.1 \
             ! audio/x-raw,rate=48000,channels=2 ! mix. \
             audiotestsrc num-buffers=1000 samplesperbuffer=960 wave=sine freq=440 volume=0.3 \
             ! audio/x-raw,rate=48000,channels=2 ! mix.",
        )
    })
}

/// 20 s of Opus in packets of 20 ms.
pub fn opus() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        opus_clip(
            "audiotestsrc num-buffers=1000 samplesperbuffer=960 wave=ticks ! audio/x-raw,rate=48000,channels=2 \
             ! opusenc bitrate=64000 ! appsink name=out sync=false",
        )
    })
}

fn opus_clip(description: &str) -> Clip {
    let units = collect(description).into_iter().filter(|u| !u.data.starts_with(b"Opus")).collect();
    let caps = "audio/x-opus,rate=48000,channels=2,channel-mapping-family=0";
    Clip { caps: caps.parse().expect("caps"), units }
}

fn encode(encoder: &str) -> Vec<Unit> {
    encode_at(WIDTH, HEIGHT, encoder)
}

fn encode_at(width: u32, height: u32, encoder: &str) -> Vec<Unit> {
    // The noise in its corner makes each picture different from all others.
    collect(&format!(
        "videotestsrc num-buffers=600 pattern=smpte ! video/x-raw,format=I420,width={width},height={height},\
         framerate={FPS}/1 ! {encoder} ! appsink name=out sync=false"
    ))
}

fn collect(description: &str) -> Vec<Unit> {
    use gst::prelude::*;
    gst::init().expect("GStreamer");
    let pipeline = gst::parse::launch(description).expect("pipeline").downcast::<gst::Pipeline>().expect("pipeline");
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().expect("appsink");
    pipeline.set_state(gst::State::Playing).expect("playing");
    let mut units = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().expect("buffer");
        let data = buffer.map_readable().expect("readable").to_vec();
        units.push(Unit { data, key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT), slices: 0 });
    }
    pipeline.set_state(gst::State::Null).expect("null");
    assert!(!units.is_empty(), "nothing came out of {description}");
    units
}

/// Constrained baseline as browsers announce it: the payloader reads the profile from the stream.
fn announce_as_42e01f(unit: &mut [u8]) {
    let sps = unit.windows(4).position(|w| w[..3] == [0, 0, 1] && w[3] & 31 == 7);
    if let Some(start) = sps {
        unit[start + 4..start + 7].copy_from_slice(&[0x42, 0xe0, 0x1f]);
    }
}
