//! What comes out of the video pad, seen buffer by buffer in the test's own process.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use super::{flv::hash_slices, ingest::Ingest};

/// `webrtcingest` with a decoder behind its video pad, and what passed between them.
pub struct Watched {
    pub ingest: Ingest,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Of each buffer: its time, and the hash of its H.264 slices.
    pub pictures: Vec<(gst::ClockTime, u64)>,
    /// Each width that the caps have had, in order.
    pub widths: Vec<i32>,
}

impl Watched {
    /// `decoder` takes what the pad gives.
    pub fn start(properties: &str, decoder: &str) -> Self {
        let video = format!("identity name=watched ! {decoder} ! fakesink sync=false async=false");
        let ingest = Ingest::start_with(properties, &video);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let pad = ingest.pipeline.by_name("watched").and_then(|i| i.static_pad("src")).expect("pad");
        let watching = seen.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let mut seen = watching.lock().expect("seen");
            if let Some(buffer) = info.buffer() {
                let data = buffer.map_readable().expect("readable");
                seen.pictures.push((buffer.pts().expect("a time"), hash_slices(&avc_nals(&data))));
            } else if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
                && let Some(width) = caps.caps().structure(0).and_then(|s| s.get::<i32>("width").ok())
                && seen.widths.last() != Some(&width)
            {
                seen.widths.push(width);
            }
            gst::PadProbeReturn::Ok
        });
        Self { ingest, seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("seen").clone()
    }

    /// The width of the pictures now.
    pub fn width(&self) -> Option<i32> {
        self.seen().widths.last().copied()
    }

    /// The video track's statistics, once it is there.
    pub fn video(&self) -> Option<gst::Structure> {
        let tracks = self.ingest.stats().get::<gst::Array>("tracks").ok()?;
        let mut tracks = tracks.iter().filter_map(|track| track.get::<gst::Structure>().ok());
        tracks.find(|track| track.get::<&str>("pad").is_ok_and(|pad| pad.starts_with("video")))
    }

    /// A figure of the video track.
    pub fn figure(&self, name: &str) -> u64 {
        let video = self.video();
        video.and_then(|v| v.get::<u64>(name).or_else(|_| v.get::<u32>(name).map(u64::from)).ok()).unwrap_or(0)
    }

    /// The layers of the video track.
    pub fn layers(&self) -> Vec<gst::Structure> {
        let layers = self.video().and_then(|video| video.get::<gst::Array>("layers").ok());
        layers.map(|l| l.iter().filter_map(|layer| layer.get::<gst::Structure>().ok()).collect()).unwrap_or_default()
    }

    /// Time never stood still or went back, and the decoder minded nothing.
    pub fn assert_clean(&self) {
        let seen = self.seen();
        for pair in seen.pictures.windows(2) {
            assert!(pair[1].0 > pair[0].0, "{} after {}", pair[1].0, pair[0].0);
        }
        let bus = self.ingest.pipeline.bus().expect("a bus");
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]) {
            panic!("{message:?}");
        }
    }
}

fn avc_nals(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut nals = Vec::new();
    while let Some((length, body)) = rest.split_at_checked(4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(nal) = body.get(..length) else { break };
        nals.push(nal);
        rest = &body[length..];
    }
    nals
}
