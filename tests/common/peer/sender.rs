//! The scripted publisher's wire: an interceptor that makes all RTP and RTCP and hears all feedback, sans-IO.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use rtc::{
    interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::{
        payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication},
        receiver_report::ReceiverReport,
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::TransportLayerNack,
    },
    rtp::{self, packetizer::Payloader},
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};

use super::{
    super::clip::Clip,
    script::{Keyframes, Repairs, Script},
};

/// Payload bytes of a packet at most.
const MTU: usize = 1100;
/// Sent packets kept for retransmission.
const HISTORY: usize = 1024;

/// What came back from the bridge.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// When, and for which SSRC.
    pub plis: Vec<(Instant, u32)>,
    /// When, for which SSRC, and with which sequence number.
    pub firs: Vec<(Instant, u32, u8)>,
    /// For which SSRC, and how many packets were asked for.
    pub nacks: Vec<(u32, usize)>,
    /// SSRCs that receiver reports told of.
    pub reported: Vec<u32>,
}

/// One RTP stream.
pub(super) struct Stream {
    pub(super) ssrc: u32,
    pub(super) rtx: Option<(u32, u8)>,
    pub(super) payload_type: u8,
    pub(super) clock_rate: u32,
    pub(super) mid: &'static str,
    pub(super) rid: Option<&'static str>,
    pub(super) clip: &'static Clip,
    pub(super) interval: Duration,
    pub(super) payloader: Box<dyn Payloader>,
    pub(super) is_video: bool,
    pub(super) time_base: u32,
    pub(super) active: bool,
    /// Index of the next unit of the clip.
    pub(super) next: usize,
    /// Units whose time has come, sent or not.
    pub(super) due: u32,
    pub(super) sequence: u16,
    pub(super) rtx_sequence: u16,
    pub(super) jump: bool,
    pub(super) history: VecDeque<rtp::Packet>,
    pub(super) sent: Vec<u64>,
    /// When, for each of these.
    pub(super) sent_at: Vec<Instant>,
    pub(super) packets: u32,
    pub(super) reports_sent: u32,
}

/// The ids of header extensions, as the offer has them.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) mid: u8,
    pub(super) rid: u8,
    pub(super) repaired_rid: u8,
}

/// What the interceptor and the test share.
pub(super) struct Sender {
    pub(super) script: Script,
    pub(super) streams: Vec<Stream>,
    pub(super) extensions: Extensions,
    pub(super) heard: Heard,
    /// Packets of the test's own making.
    pub(super) extra: VecDeque<rtp::Packet>,
    pub(super) started: Option<Instant>,
}

impl Sender {
    /// When there is something to do next.
    fn next(&self, now: Instant) -> Instant {
        let Some(started) = self.started else { return now };
        let due = self.streams.iter().map(|stream| started + stream.interval * stream.due).min();
        // What the test asks for meanwhile waits no longer than this.
        due.unwrap_or(now).min(now + Duration::from_millis(20))
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let started = *self.started.get_or_insert(now);
        out.extend(self.extra.drain(..).map(Packet::Rtp));
        for stream in &mut self.streams {
            while started + stream.interval * stream.due <= now {
                let packets = stream.unit(now, &self.extensions);
                for packet in packets {
                    let number = packet.header.sequence_number;
                    out.push(Packet::Rtp(packet));
                    if self.script.duplicates && stream.rtx.is_some() {
                        out.extend(stream.repair(number, Repairs::Rtx, &self.extensions).map(Packet::Rtp));
                    }
                }
            }
            if let Some(reports) = self.script.reports.filter(|_| stream.active)
                && started + reports.interval * stream.reports_sent <= now
            {
                stream.reports_sent += 1;
                let late = if stream.is_video { Duration::ZERO } else { reports.audio_late };
                out.push(Packet::Rtcp(vec![Box::new(stream.report(now - started, late))]));
            }
        }
    }

    fn hear(&mut self, now: Instant, packet: &dyn rtc::rtcp::Packet, out: &mut Vec<Packet>) {
        let any = packet.as_any();
        if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            self.heard.plis.push((now, pli.media_ssrc));
            if self.script.keyframes == Keyframes::Pli {
                self.jump(pli.media_ssrc);
            }
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                self.heard.firs.push((now, entry.ssrc, entry.sequence_number));
                if self.script.keyframes == Keyframes::FirOnly {
                    self.jump(entry.ssrc);
                }
            }
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let numbers: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.into_iter()).collect();
            self.heard.nacks.push((nack.media_ssrc, numbers.len()));
            let (repairs, extensions) = (self.script.repairs, &self.extensions);
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == nack.media_ssrc) {
                let repaired = numbers.into_iter().filter_map(|number| stream.repair(number, repairs, extensions));
                out.extend(repaired.map(Packet::Rtp));
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.heard.reported.extend(report.reports.iter().map(|report| report.ssrc));
        }
    }

    fn jump(&mut self, ssrc: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.jump = true;
        }
    }
}

impl Stream {
    /// The packets of the next unit; its time passes whether it is sent or not.
    fn unit(&mut self, now: Instant, extensions: &Extensions) -> Vec<rtp::Packet> {
        let units = &self.clip.units;
        let ticks = self.interval.as_nanos() as u64 * u64::from(self.due) * u64::from(self.clock_rate) / 1_000_000_000;
        let timestamp = self.time_base.wrapping_add(ticks as u32);
        self.due += 1;
        if !self.active {
            self.jump = true; // an encoder that starts anew starts with a keyframe
            return Vec::new();
        }
        if std::mem::take(&mut self.jump) && self.is_video {
            while !units[self.next % units.len()].key {
                self.next += 1;
            }
        }
        let unit = &units[self.next % units.len()];
        self.next += 1;
        self.sent.push(unit.slices);
        self.sent_at.push(now);
        let payloads = self.payloader.payload(MTU, &Bytes::from_static(&unit.data)).expect("payloads");
        let last = payloads.len() - 1;
        let packets: Vec<rtp::Packet> = payloads
            .into_iter()
            .enumerate()
            .map(|(index, payload)| {
                let header = rtp::Header {
                    version: 2,
                    marker: self.is_video && index == last,
                    payload_type: self.payload_type,
                    sequence_number: self.sequence,
                    timestamp,
                    ssrc: self.ssrc,
                    ..Default::default()
                };
                self.sequence = self.sequence.wrapping_add(1);
                self.extended(rtp::Packet { header, payload }, extensions.mid, extensions.rid)
            })
            .collect();
        self.packets += packets.len() as u32;
        self.history.extend(packets.iter().cloned());
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
        packets
    }

    fn extended(&self, mut packet: rtp::Packet, mid: u8, rid: u8) -> rtp::Packet {
        let values = [(mid, Some(self.mid)), (rid, self.rid)];
        for (id, value) in values.into_iter().filter_map(|(id, value)| Some((id, value?))).filter(|(id, _)| *id > 0) {
            packet.header.set_extension(id, Bytes::from_static(value.as_bytes())).expect("an extension");
        }
        packet
    }

    fn repair(&mut self, number: u16, repairs: Repairs, extensions: &Extensions) -> Option<rtp::Packet> {
        let original = self.history.iter().find(|packet| packet.header.sequence_number == number)?.clone();
        let (ssrc, payload_type) = match (repairs, self.rtx) {
            (Repairs::None, _) => return None,
            (Repairs::Rtx, Some(rtx)) => rtx,
            _ => return Some(original),
        };
        let header = rtp::Header {
            version: 2,
            marker: original.header.marker,
            payload_type,
            sequence_number: self.rtx_sequence,
            timestamp: original.header.timestamp,
            ssrc,
            ..Default::default()
        };
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        let payload = [&number.to_be_bytes()[..], &original.payload].concat().into();
        Some(self.extended(rtp::Packet { header, payload }, extensions.mid, extensions.repaired_rid))
    }

    fn report(&self, elapsed: Duration, late: Duration) -> SenderReport {
        let ticks = elapsed.as_nanos() * u128::from(self.clock_rate) / 1_000_000_000;
        // Seconds since 1900 (RFC 3550 section 4).
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970") + late;
        let ntp = (since_1970.as_nanos() << 32) / 1_000_000_000 + (2_208_988_800_u128 << 32);
        SenderReport {
            ssrc: self.ssrc,
            ntp_time: ntp as u64,
            rtp_time: self.time_base.wrapping_add(ticks as u32),
            packet_count: self.packets,
            ..Default::default()
        }
    }
}

/// The interceptor itself, next to the wire.
pub(super) struct Wire {
    sender: Arc<Mutex<Sender>>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Wire {
    pub(super) fn new(sender: Arc<Mutex<Sender>>) -> Self {
        Self { sender, read: VecDeque::new(), write: VecDeque::new() }
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().expect("the sender")
    }

    fn queue(&mut self, now: Instant, packets: Vec<Packet>) {
        self.write.extend(packets.into_iter().map(|packet| TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        }));
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Wire {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &tagged.message.packet {
            let mut out = Vec::new();
            let mut sender = self.sender();
            for packet in packets {
                sender.hear(tagged.now, &**packet, &mut out);
            }
            drop(sender);
            self.queue(tagged.now, out);
        }
        self.read.push_back(tagged);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        let mut out = Vec::new();
        self.sender().send(now, &mut out);
        self.queue(now, out);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        Some(self.sender().next(Instant::now()))
    }
}

impl Interceptor for Wire {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
