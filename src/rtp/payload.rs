//! The way out: encoded frames become RTP payloads with timestamps on the pipeline's running time.
//!
//! GStreamer's payloaders cut the frames; numbers, stream and payload type are whoever's who sends the packets. AV1 has none
//! on Debian 12, so that its units are cut here.

use bytes::Bytes;
use gst::prelude::*;

use super::{
    av1,
    elements::{BAD, ChainError, GOOD, make, parser},
};
use crate::codec::Codec;

/// Longest RTP packet: with SRTP, an extension and what wraps a repetition it stays below what any path carries.
const MTU: u32 = 1200;
/// Of which the header is so much.
const HEADER: usize = 12;
/// Sound in a packet; what peers expect of codecs that do not say.
const PACKET_TIME_NS: i64 = 20_000_000;

/// What a packet of one frame carries.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The last packet of its picture; the first one of a talk spurt.
    pub marker: bool,
    /// On the running time, in units of the codec's clock rate.
    pub timestamp: u32,
    /// What it carries.
    pub data: Bytes,
}

/// Takes what the payloader makes, a frame at a time; on the streaming thread.
pub trait Payloads: Send + 'static {
    /// The packets of one frame, or of some.
    fn packets(&mut self, packets: Vec<Payload>);
    /// Everything before the end of the stream has come.
    fn ended(&mut self);
}

/// The elements from encoded media to packets, in order, not yet linked.
#[derive(Debug)]
pub struct Payloader {
    /// The last one is [`sink`](Self::sink).
    pub elements: Vec<gst::Element>,
    /// Where it ends.
    pub sink: gst_app::AppSink,
}

/// The RTP time of a running time.
pub fn rtp_time(running: gst::ClockTime, clock_rate: u32) -> u32 {
    let ticks = u128::from(running.nseconds()) * u128::from(clock_rate) / 1_000_000_000;
    ticks as u32 // modulo 2^32, as RTP time is
}

/// What is missing on this machine to send a codec, if anything.
pub fn missing_to_send(codec: Codec) -> Option<ChainError> {
    payloader(codec).err()
}

impl Payloader {
    /// For media of a codec, in any framing if `parses`: else in that of the parser, one unit a buffer.
    pub fn new(codec: Codec, parses: bool, to: impl Payloads) -> Result<Self, ChainError> {
        let mut elements = Vec::new();
        if let Some(parser) = parser(codec).filter(|_| parses) {
            elements.push(make(parser, BAD)?);
            let filter = make("capsfilter", "libgstreamer1.0-0")?;
            filter.set_property("caps", super::caps::media(codec));
            elements.push(filter);
        }
        elements.extend(payloader(codec)?);
        let sink = sink(codec, to);
        elements.push(sink.clone().upcast());
        Ok(Self { elements, sink })
    }
}

fn payloader(codec: Codec) -> Result<Option<gst::Element>, ChainError> {
    let payloader = match codec {
        Codec::H264 => make("rtph264pay", GOOD)?,
        Codec::H265 => make("rtph265pay", GOOD)?,
        Codec::Vp8 => make("rtpvp8pay", GOOD)?,
        Codec::Vp9 => make("rtpvp9pay", GOOD)?,
        Codec::Av1 => return Ok(None),
        Codec::Opus => make("rtpopuspay", GOOD)?,
        Codec::Pcmu => make("rtppcmupay", GOOD)?,
        Codec::Pcma => make("rtppcmapay", GOOD)?,
    };
    payloader.set_property("mtu", MTU);
    match codec {
        Codec::H264 | Codec::H265 => {
            // Before each IDR, as peers join at any of them; in one packet with nothing held back.
            payloader.set_property("config-interval", -1i32);
            payloader.set_property_from_str("aggregate-mode", "zero-latency");
        }
        Codec::Vp8 | Codec::Vp9 => payloader.set_property_from_str("picture-id-mode", "15-bit"),
        Codec::Pcmu | Codec::Pcma => {
            payloader.set_property("min-ptime", PACKET_TIME_NS);
            payloader.set_property("max-ptime", PACKET_TIME_NS);
        }
        Codec::Av1 | Codec::Opus => {}
    }
    Ok(Some(payloader))
}

fn sink(codec: Codec, to: impl Payloads) -> gst_app::AppSink {
    let to = std::sync::Arc::new(std::sync::Mutex::new(to));
    let (on_sample, on_eos) = (to.clone(), to);
    let mut last = 0;
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .buffer_list(true)
        .callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
                    let mut packets = Vec::new();
                    let mut take = |buffer: &gst::BufferRef| {
                        let running = segment.and_then(|segment| segment.to_running_time(buffer.pts()?));
                        // Without a time of its own it belongs to what came before.
                        last = running.map_or(last, |running| rtp_time(running, codec.clock_rate()));
                        read(codec, buffer, last, &mut packets);
                    };
                    if let Some(list) = sample.buffer_list() {
                        list.iter().for_each(&mut take);
                    } else if let Some(buffer) = sample.buffer() {
                        take(buffer);
                    }
                    on_sample.lock().unwrap_or_else(std::sync::PoisonError::into_inner).packets(packets);
                    Ok(gst::FlowSuccess::Ok)
                })
                .eos(move |_| on_eos.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ended())
                .build(),
        )
        .build()
}

fn read(codec: Codec, buffer: &gst::BufferRef, timestamp: u32, packets: &mut Vec<Payload>) {
    let Ok(map) = buffer.map_readable() else { return };
    if codec == Codec::Av1 {
        let payloads = av1::payloads(&map, MTU as usize - HEADER);
        let count = payloads.len();
        packets.extend(payloads.into_iter().enumerate().map(|(index, data)| Payload {
            marker: index + 1 == count,
            timestamp,
            data,
        }));
        return;
    }
    drop(map);
    let Ok(packet) = gst_rtp::RTPBuffer::from_buffer_readable(buffer) else { return };
    let Ok(data) = packet.payload() else { return };
    packets.push(Payload { marker: packet.is_marker(), timestamp, data: Bytes::copy_from_slice(data) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_of_the_table_can_be_sent() {
        gst::init().unwrap();
        for codec in Codec::ALL {
            assert!(missing_to_send(codec).is_none(), "{codec}");
        }
    }

    #[test]
    fn rtp_time_comes_round() {
        assert_eq!(rtp_time(gst::ClockTime::from_seconds(2), 90_000), 180_000);
        let round = gst::ClockTime::from_nseconds((1_u64 << 32) * 1_000_000_000 / 90_000);
        assert!(rtp_time(round, 90_000) > u32::MAX - 2);
        assert!(rtp_time(round + gst::ClockTime::from_seconds(1), 90_000) < 90_001);
    }
}
