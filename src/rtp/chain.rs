//! The elements behind one pad, for one track of one session: jitter buffer, depayloader, parser.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use gst::prelude::*;

use super::caps;
use crate::{
    codec::{Codec, MediaKind},
    session::{KeyframeControl, RtpPacket, Track},
};

/// An element that cannot be made, with the package that has it.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A plugin is not installed.
    #[error("the GStreamer element {element} is missing: install the package {package}")]
    Missing {
        /// The element's factory.
        element: &'static str,
        /// Debian's package for it.
        package: &'static str,
    },
    /// GStreamer refused, which it should not.
    #[error("{0}")]
    Gst(#[from] gst::glib::BoolError),
    /// An element did not start.
    #[error("{0}")]
    State(#[from] gst::StateChangeError),
    /// Pads did not link.
    #[error("{0}")]
    Link(#[from] gst::PadLinkError),
}

const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";

/// What is missing on this machine to receive a codec, if anything.
pub fn missing(codec: Codec) -> Option<ChainError> {
    elements(codec, 0).err()
}

/// Depayloader of a codec, and the parser that completes its caps where one is needed.
fn factories(codec: Codec) -> (&'static str, Option<&'static str>) {
    match codec {
        Codec::H264 => ("rtph264depay", Some("h264parse")),
        Codec::Vp8 => ("rtpvp8depay", None),
        Codec::Vp9 => ("rtpvp9depay", None),
        Codec::Opus => ("rtpopusdepay", None),
        Codec::Pcmu => ("rtppcmudepay", None),
        Codec::Pcma => ("rtppcmadepay", None),
    }
}

/// What the chains of one kind have counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames that went on.
    pub frames: AtomicU64,
    /// Frames dropped because nothing is linked.
    pub unlinked: AtomicU64,
    /// Frames dropped while waiting for a keyframe.
    pub waiting: AtomicU64,
    /// Packets dropped because downstream takes nothing.
    pub backlog: AtomicU64,
    /// Packets that never came, or came too late.
    pub lost: AtomicU64,
}

/// A running chain. Dropping it does not stop it: [`Chain::stop`] does.
pub struct Chain {
    source: gst::Pad,
    elements: Vec<gst::Element>,
    counts: Arc<Counts>,
    backlog: Backlog,
    discontinuity: bool,
}

/// Beyond its latency, the jitter buffer may hold so much while threads are slow, in ns.
const BACKLOG_SLACK: u64 = 1_000_000_000;
/// So much more may wait, in ns, while downstream is blocked.
const BACKLOG: u64 = 2_000_000_000;

/// How much the jitter buffer holds. It takes packets without limit while downstream is blocked.
#[derive(Default)]
struct Backlog {
    /// Running time in ns of the newest packet that went in.
    newest: u64,
    /// The same of the newest that came out.
    passed: Arc<AtomicU64>,
    /// In ns, what the jitter buffer may hold for a lost packet.
    latency: u64,
}

impl Backlog {
    /// Whether a packet of this time still finds room; if so it counts as gone in.
    fn admit(&mut self, time: u64) -> bool {
        if self.newest == 0 {
            self.passed.fetch_max(time, Relaxed);
        }
        let passed = self.passed.load(Relaxed);
        // A pause of the sender is no backlog: then everything that went in has come out.
        let holds = passed + self.latency + BACKLOG_SLACK;
        let full = self.newest > holds && time > holds + BACKLOG;
        if !full {
            self.newest = self.newest.max(time);
        }
        !full
    }
}

impl Chain {
    /// Makes and starts the elements in `bin`; their output is to be made the target of a ghost pad by the caller.
    ///
    /// `latency` in ms is the most that the jitter buffer holds; in-order packets pass at once.
    pub fn start(
        bin: &gst::Bin,
        ghost: &gst::GhostPad,
        track: &Track,
        keyframes: &Arc<dyn KeyframeControl>,
        counts: &Arc<Counts>,
        latency: u32,
    ) -> Result<Self, ChainError> {
        let elements = elements(track.codec, latency)?;
        for element in &elements {
            bin.add(element)?;
        }
        let started = start(ghost, track, keyframes, counts, &elements);
        if started.is_err() {
            stop(bin, &elements);
        }
        let source = started?;
        let backlog = Backlog { latency: u64::from(latency) * 1_000_000, ..Backlog::default() };
        if let Some(pad) = elements.first().and_then(|jitter_buffer| jitter_buffer.static_pad("src")) {
            let passed = backlog.passed.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(time) = info.buffer().and_then(|buffer| buffer.pts()) {
                    passed.fetch_max(time.nseconds(), Relaxed);
                }
                gst::PadProbeReturn::Ok
            });
        }
        Ok(Self { source, elements, counts: counts.clone(), backlog, discontinuity: true })
    }

    /// Hands a packet to the jitter buffer, which takes it without waiting; `running_time` is when it came. While
    /// downstream is blocked, packets are dropped and counted.
    pub fn push(&mut self, packet: &RtpPacket, running_time: gst::ClockTime) -> Result<(), gst::FlowError> {
        if !self.backlog.admit(running_time.nseconds()) {
            self.counts.backlog.fetch_add(1, Relaxed);
            return Ok(());
        }
        let Some(mut buffer) = buffer(packet) else { return Err(gst::FlowError::Error) };
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_dts(running_time);
            buffer.set_pts(running_time);
            if std::mem::take(&mut self.discontinuity) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.source.push(buffer).map(|_| ())
    }

    /// Packets that the jitter buffer has given up so far, lost or too late.
    pub fn lost(&self) -> u64 {
        let stats = self.elements.first().map(|jitter_buffer| jitter_buffer.property::<gst::Structure>("stats"));
        let get = |name| stats.as_ref().and_then(|stats| stats.get::<u64>(name).ok()).unwrap_or(0);
        get("num-lost") + get("num-late")
    }

    /// Stops and removes the elements.
    pub fn stop(self, bin: &gst::Bin) {
        let _ = self.source.set_active(false);
        stop(bin, &self.elements);
    }
}

/// Links and starts the elements; returns the pad to push to.
fn start(
    ghost: &gst::GhostPad,
    track: &Track,
    keyframes: &Arc<dyn KeyframeControl>,
    counts: &Arc<Counts>,
    elements: &[gst::Element],
) -> Result<gst::Pad, ChainError> {
    let missing_pad = || gst::glib::bool_error!("an element of the chain lacks a pad");
    gst::Element::link_many(elements)?;
    let sink = elements.first().and_then(|element| element.static_pad("sink")).ok_or_else(missing_pad)?;
    let output = elements.last().and_then(|element| element.static_pad("src")).ok_or_else(missing_pad)?;
    let source = source_pad(keyframes, track.index);
    // It has no parent element, which the usual check of the hierarchy would mind.
    source.link_full(&sink, gst::PadLinkCheck::empty())?;
    watch(&output, ghost, track, keyframes, counts);
    ghost.set_target(Some(&output))?;
    source.set_active(true)?;
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    let stream = format!("webrtcbridge/{}", ghost.name());
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    for event in [
        gst::event::StreamStart::builder(&stream).group_id(gst::GroupId::next()).build(),
        gst::event::Caps::new(&caps::rtp(track)),
        gst::event::Segment::new(&segment),
    ] {
        source.push_event(event);
    }
    Ok(source)
}

fn stop(bin: &gst::Bin, elements: &[gst::Element]) {
    for element in elements {
        element.set_locked_state(true);
        let _ = element.set_state(gst::State::Null);
        let _ = bin.remove(element);
    }
}

fn elements(codec: Codec, latency: u32) -> Result<Vec<gst::Element>, ChainError> {
    let (depayloader, parser) = factories(codec);
    let jitter_buffer = make("rtpjitterbuffer", GOOD)?;
    jitter_buffer.set_property("latency", latency);
    jitter_buffer.set_property("do-lost", true);
    jitter_buffer.set_property("faststart-min-packets", 1u32);
    // Losses are asked for by the session, which sees them first; timestamps follow the sender's clock as it drifts.
    jitter_buffer.set_property_from_str("mode", "slave");
    let depayloader = make(depayloader, GOOD)?;
    for property in ["wait-for-keyframe", "request-keyframe"] {
        if depayloader.has_property(property) {
            depayloader.set_property(property, true);
        }
    }
    let mut elements = vec![jitter_buffer, depayloader];
    if let Some(parser) = parser {
        elements.push(make(parser, BAD)?);
        let filter = make("capsfilter", "libgstreamer1.0-0")?;
        filter.set_property("caps", caps::media(codec));
        elements.push(filter);
    }
    Ok(elements)
}

fn make(element: &'static str, package: &'static str) -> Result<gst::Element, ChainError> {
    gst::ElementFactory::make(element).build().map_err(|_| ChainError::Missing { element, package })
}

/// The pad that the crossing thread pushes to. It answers for the network: live, without latency of its own, and
/// keyframe requests that come up to it go to the peer.
fn source_pad(keyframes: &Arc<dyn KeyframeControl>, track: usize) -> gst::Pad {
    let keyframes = keyframes.clone();
    gst::Pad::builder(gst::PadDirection::Src)
        .query_function(|pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                latency.set(true, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .event_function(move |pad, parent, event| {
            if gst_video::UpstreamForceKeyUnitEvent::parse(&event).is_ok() {
                keyframes.request_keyframe(track);
                return true;
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .build()
}

/// Lets frames go on only where they can be used, and tells the session of keyframes.
fn watch(
    output: &gst::Pad,
    ghost: &gst::GhostPad,
    track: &Track,
    keyframes: &Arc<dyn KeyframeControl>,
    counts: &Arc<Counts>,
) {
    let (ghost, counts, keyframes) = (ghost.downgrade(), counts.clone(), keyframes.clone());
    let (index, is_video) = (track.index, track.kind() == MediaKind::Video);
    // Set after a drop: what depends on the dropped frame must not go on.
    let needs_keyframe = AtomicBool::new(is_video);
    output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let is_keyframe = info.buffer().is_some_and(|buffer| !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        if ghost.upgrade().is_none_or(|ghost| !ghost.is_linked()) {
            counts.unlinked.fetch_add(1, Relaxed);
            needs_keyframe.store(is_video, Relaxed);
            return gst::PadProbeReturn::Drop;
        }
        if is_video && is_keyframe {
            keyframes.keyframe_arrived(index);
            needs_keyframe.store(false, Relaxed);
        }
        if needs_keyframe.load(Relaxed) {
            counts.waiting.fetch_add(1, Relaxed);
            keyframes.request_keyframe(index);
            return gst::PadProbeReturn::Drop;
        }
        counts.frames.fetch_add(1, Relaxed);
        gst::PadProbeReturn::Ok
    });
}

/// The packet as bytes (RFC 3550 section 5.1), without extensions and padding.
fn buffer(packet: &RtpPacket) -> Option<gst::Buffer> {
    const HEADER: usize = 12;
    let mut buffer = gst::Buffer::with_size(HEADER + packet.payload.len()).ok()?;
    let mut map = buffer.get_mut()?.map_writable().ok()?;
    let (header, payload) = map.split_at_mut(HEADER);
    header[0] = 2 << 6;
    header[1] = u8::from(packet.marker) << 7 | packet.payload_type & 0x7F;
    header[2..4].copy_from_slice(&packet.sequence_number.to_be_bytes());
    header[4..8].copy_from_slice(&packet.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&packet.ssrc.to_be_bytes());
    payload.copy_from_slice(&packet.payload);
    drop(map);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_packet_is_written_as_rtp() {
        gst::init().unwrap();
        let packet = RtpPacket {
            marker: true,
            payload_type: 102,
            sequence_number: 0x1234,
            timestamp: 0x5678_9ABC,
            ssrc: 0xDEAD_BEEF,
            payload: Bytes::from_static(&[1, 2, 3]),
            arrival: std::time::Instant::now(),
        };
        let buffer = buffer(&packet).unwrap();
        let rtp = gst_rtp::RTPBuffer::from_buffer_readable(&buffer).unwrap();
        assert_eq!((rtp.is_marker(), rtp.payload_type(), rtp.seq()), (true, 102, 0x1234));
        assert_eq!((rtp.timestamp(), rtp.ssrc()), (0x5678_9ABC, 0xDEAD_BEEF));
        assert_eq!(rtp.payload().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_blocked_downstream_is_a_bounded_backlog_and_a_pause_is_none() {
        const SECOND: u64 = 1_000_000_000;
        let mut backlog = Backlog { latency: SECOND / 5, ..Backlog::default() };
        assert!(backlog.admit(100 * SECOND));
        backlog.passed.store(100 * SECOND, Relaxed);
        assert!(backlog.admit(200 * SECOND), "after a pause of the sender");
        backlog.passed.store(200 * SECOND, Relaxed);
        let admitted = (0..100).take_while(|tenth| backlog.admit(200 * SECOND + tenth * SECOND / 10)).count();
        assert_eq!(admitted, 33); // 200 ms latency, 1 s slack, 2 s backlog
        backlog.passed.store(203 * SECOND, Relaxed);
        assert!(backlog.admit(210 * SECOND), "downstream goes on");
    }

    #[test]
    fn every_codec_of_the_table_has_its_elements() {
        gst::init().unwrap();
        for codec in Codec::ALL {
            elements(codec, 200).unwrap();
        }
    }
}
