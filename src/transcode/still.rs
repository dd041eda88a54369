//! A still picture as H.264, encoded once to be sent for as long as it is needed.
//!
//! Two groups of pictures are made of it, to be sent in turns: an IDR picture that followed itself would have the
//! idr_pic_id of the one before it, which H.264 (7.4.3) forbids.

use std::path::Path;

use bytes::Bytes;
use gst::prelude::*;

use super::factory::{ChainError, make, set_if_present};

/// Nothing here takes a tenth of it; a picture that hangs its decoder must not hang the show.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(10);
/// A picture takes this much at most when nothing says its size.
const MOST: (u32, u32) = (1920, 1080);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Read(#[from] std::io::Error),
    /// It is something else.
    #[error("it is neither PNG nor JPEG")]
    NotAPicture,
    /// Only H.264 has stills.
    #[error("stills are H.264 only, and video-codec asks for {0}")]
    OtherCodec(&'static str),
    /// An element is missing.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An element says no.
    #[error("{0}")]
    Failed(String),
}

/// A raw picture.
#[derive(Clone, Debug)]
pub struct Picture(gst::Sample);

/// The size of a video and how often a still picture of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pixels; 0: that of the picture.
    pub width: u32,
    /// Pixels; 0: that of the picture.
    pub height: u32,
    /// Time from one to the next.
    pub step: gst::ClockTime,
    /// Pictures in a group.
    pub group: u32,
    /// Bit/s.
    pub bitrate: u32,
}

/// An encoded still picture.
#[derive(Clone, Debug)]
pub struct Still {
    /// AVCDecoderConfigurationRecord.
    pub configuration: Bytes,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Whether each access unit is a keyframe, and its NAL units behind length fields.
    pub units: Vec<(bool, Bytes)>,
}

impl Picture {
    /// Reads a PNG or JPEG file.
    pub fn load(path: &Path) -> Result<Self, StillError> {
        let bytes = std::fs::read(path)?;
        let decoder = match bytes.get(..4) {
            Some([0x89, b'P', b'N', b'G']) => make("pngdec")?,
            Some([0xff, 0xd8, 0xff, _]) => make("jpegdec")?,
            _ => return Err(StillError::NotAPicture),
        };
        let media = if bytes[0] == 0x89 { "image/png" } else { "image/jpeg" };
        let buffers = [stamped(gst::Buffer::from_slice(bytes), gst::ClockTime::ZERO)];
        let caps = gst::Caps::new_empty_simple(media);
        let picture = last(&caps, buffers, &[decoder, make("videoconvert")?])?;
        picture.map(Self).ok_or_else(|| StillError::Failed("it holds no picture".into()))
    }

    /// The last picture of a group: access units of a stream with this configuration, the first a keyframe.
    pub fn last_of<'a>(configuration: &[u8], units: impl Iterator<Item = &'a Bytes>) -> Result<Self, StillError> {
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(configuration.to_vec()))
            .build();
        let decoder = ["avdec_h264", "openh264dec"].iter().find_map(|name| make(name).ok());
        let decoder = decoder.ok_or(ChainError::NoDecoder { media: "video/x-h264".into() })?;
        set_if_present(&decoder, "max-errors", "-1");
        let step = gst::ClockTime::from_mseconds(20);
        let buffers = units.zip(0u64..).map(|(unit, at)| stamped(gst::Buffer::from_slice(unit.clone()), step * at));
        let picture = last(&caps, buffers, &[make("h264parse")?, decoder, make("videoconvert")?])?;
        picture.map(Self).ok_or_else(|| StillError::Failed("nothing could be decoded".into()))
    }

    /// Black.
    pub fn black(width: u32, height: u32) -> Result<Self, StillError> {
        let (width, height) = (even(width), even(height));
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
            .fps(gst::Fraction::new(0, 1))
            .build()
            .map_err(|error| StillError::Failed(error.to_string()))?;
        let (luma, all) = (info.offset()[1], info.size());
        // Studio range: 16 is black, 128 is no colour.
        let bytes: Vec<u8> = (0..all).map(|at| if at < luma { 16 } else { 128 }).collect();
        let caps = info.to_caps().map_err(|error| StillError::Failed(error.to_string()))?;
        let buffer = gst::Buffer::from_slice(bytes);
        Ok(Self(gst::Sample::builder().buffer(&buffer).caps(&caps).build()))
    }

    /// Its size in pixels, or the most that a still may have where it is larger.
    pub fn size(&self) -> (u32, u32) {
        let caps = self.0.caps();
        let side = |name: &str| {
            let value = caps.and_then(|caps| caps.structure(0)).and_then(|caps| caps.get::<i32>(name).ok());
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or_default()
        };
        (side("width").min(MOST.0), side("height").min(MOST.1))
    }

    /// Encodes two groups of it, with borders where its shape is another.
    pub fn encode(&self, shape: &Shape) -> Result<Still, StillError> {
        let (Some(buffer), Some(caps)) = (self.0.buffer(), self.0.caps()) else {
            return Err(StillError::Failed("the picture is empty".into()));
        };
        let own = self.size();
        let chosen = |wanted: u32, own: u32| even(if wanted > 0 { wanted } else { own });
        let (width, height) = (chosen(shape.width, own.0), chosen(shape.height, own.1));
        let fitted = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", i32::try_from(width).unwrap_or(i32::MAX))
            .field("height", i32::try_from(height).unwrap_or(i32::MAX))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let output = gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build();
        let scale = make("videoscale")?;
        scale.set_property("add-borders", true);
        let filter = make("capsfilter")?;
        filter.set_property("caps", &fitted);
        let encoder = encoder(shape)?;
        let elements = [make("videoconvert")?, scale, filter, encoder, make("h264parse")?];
        // All buffers share the one memory.
        let buffers = (0..u64::from(shape.group.max(1)) * 2).map(|at| stamped(buffer.copy(), shape.step * at));
        let mut samples = Vec::new();
        run(&caps.to_owned(), buffers, &elements, &output, |sample| samples.push(sample))?;
        let missing = || StillError::Failed("the encoder gave nothing".into());
        let configuration = samples.first().and_then(|sample| sample.caps()).and_then(|caps| caps.structure(0));
        let configuration = configuration.and_then(|caps| caps.get::<gst::Buffer>("codec_data").ok());
        let configuration = configuration.and_then(|buffer| bytes_of(&buffer)).ok_or_else(missing)?;
        let units: Vec<_> = samples
            .iter()
            .filter_map(|sample| {
                let buffer = sample.buffer()?;
                Some((!buffer.flags().contains(gst::BufferFlags::DELTA_UNIT), bytes_of(buffer)?))
            })
            .collect();
        if units.first().is_none_or(|(keyframe, _)| !keyframe) {
            return Err(missing());
        }
        Ok(Still { configuration, width, height, units })
    }
}

/// A software encoder: they are there or installed by one line, and two groups of one picture are nothing to them.
fn encoder(shape: &Shape) -> Result<gst::Element, StillError> {
    let kbits = (shape.bitrate / 1000).max(1);
    if let Ok(encoder) = make("x264enc") {
        for (name, value) in [("tune", "stillimage+zerolatency"), ("speed-preset", "superfast"), ("bframes", "0")] {
            set_if_present(&encoder, name, value);
        }
        set_if_present(&encoder, "key-int-max", &shape.group.to_string());
        set_if_present(&encoder, "option-string", &format!("scenecut=0:keyint={0}:min-keyint={0}", shape.group.max(1)));
        set_if_present(&encoder, "bitrate", &kbits.to_string());
        return Ok(encoder);
    }
    let missing = ChainError::NoEncoder { kind: "H.264", package: "gstreamer1.0-plugins-ugly" };
    let encoder = make("openh264enc").map_err(|_| missing)?;
    set_if_present(&encoder, "gop-size", &shape.group.to_string());
    set_if_present(&encoder, "bitrate", &shape.bitrate.to_string());
    Ok(encoder)
}

/// The last raw picture that comes out. The others are not kept: a group of them can be a gigabyte.
fn last(
    caps: &gst::Caps,
    buffers: impl IntoIterator<Item = gst::Buffer>,
    elements: &[gst::Element],
) -> Result<Option<gst::Sample>, StillError> {
    let output = gst::Caps::builder("video/x-raw").field("format", "I420").build();
    let mut newest = None;
    run(caps, buffers, elements, &output, |sample| newest = Some(sample))?;
    Ok(newest)
}

/// Pushes buffers through some elements and hands on what comes out.
fn run(
    caps: &gst::Caps,
    buffers: impl IntoIterator<Item = gst::Buffer>,
    elements: &[gst::Element],
    output: &gst::Caps,
    mut take: impl FnMut(gst::Sample),
) -> Result<(), StillError> {
    let failed = |error: gst::glib::BoolError| StillError::Failed(error.message.to_string());
    let source = gst_app::AppSrc::builder().caps(caps).format(gst::Format::Time).max_bytes(0).max_buffers(0).build();
    let sink = gst_app::AppSink::builder().caps(output).sync(false).async_(false).max_buffers(2).build();
    let pipeline = Running(gst::Pipeline::new());
    let all: Vec<_> = [source.upcast_ref()].into_iter().chain(elements).chain([sink.upcast_ref()]).collect();
    pipeline.0.add_many(&all).map_err(failed)?;
    gst::Element::link_many(&all).map_err(failed)?;
    pipeline.0.set_state(gst::State::Playing).map_err(|_| StillError::Failed("an element does not start".into()))?;
    for buffer in buffers {
        let _ = source.push_buffer(buffer); // the bus tells why it failed
    }
    let _ = source.end_of_stream();
    let mut any = false;
    while let Some(sample) = sink.try_pull_sample(PATIENCE) {
        any = true;
        take(sample);
    }
    let error = pipeline.0.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    match error.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) if !any => Err(StillError::Failed(error.error().message().to_owned())),
        _ => Ok(()),
    }
}

/// A pipeline that ends with us.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn stamped(mut buffer: gst::Buffer, at: gst::ClockTime) -> gst::Buffer {
    let edit = buffer.make_mut();
    edit.set_pts(at);
    edit.set_dts(gst::ClockTime::NONE);
    edit.set_duration(gst::ClockTime::NONE);
    buffer
}

fn bytes_of(buffer: &gst::BufferRef) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&buffer.map_readable().ok()?))
}

/// What H.264 in 4:2:0 can have.
fn even(size: u32) -> u32 {
    size.clamp(2, 16_384) / 2 * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape =
        Shape { width: 320, height: 180, step: gst::ClockTime::from_mseconds(200), group: 5, bitrate: 500_000 };

    #[test]
    fn a_still_is_two_groups_that_differ_in_nothing_but_their_turn() {
        gst::init().unwrap();
        let still = Picture::black(64, 64).unwrap().encode(&SHAPE).unwrap();
        let keyframes: Vec<_> = still.units.iter().map(|(keyframe, _)| *keyframe).collect();
        assert_eq!(keyframes, [true, false, false, false, false, true, false, false, false, false]);
        assert_ne!(still.units[0].1, still.units[5].1, "idr_pic_id");
        assert_eq!((still.width, still.height), (320, 180));
    }

    #[test]
    fn the_last_picture_of_a_group_comes_back() {
        gst::init().unwrap();
        let still = Picture::black(64, 64).unwrap().encode(&SHAPE).unwrap();
        let units = still.units.iter().map(|(_, unit)| unit);
        let picture = Picture::last_of(&still.configuration, units).unwrap();
        let again = picture.encode(&Shape { width: 0, height: 0, ..SHAPE }).unwrap();
        assert_eq!((again.width, again.height), (320, 180));
        assert!(Picture::last_of(&still.configuration, [Bytes::from_static(&[0, 0, 0, 1, 9])].iter()).is_err());
    }

    #[test]
    fn what_is_no_picture_is_named() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("slate.png");
        assert!(matches!(Picture::load(&file), Err(StillError::Read(_))));
        std::fs::write(&file, "hello").unwrap();
        assert!(matches!(Picture::load(&file), Err(StillError::NotAPicture)));
        std::fs::write(&file, b"\x89PNG\r\n\x1a\nhello").unwrap();
        assert!(matches!(Picture::load(&file), Err(StillError::Failed(_))));
    }
}
