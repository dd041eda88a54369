//! The interceptor next to a viewer's wire: keeps what comes, asks for what does not.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::{
        payload_feedbacks::picture_loss_indication::PictureLossIndication,
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
    rtp,
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};

use super::stream::{Got, Stream};

/// What has come and what is to be asked for.
#[derive(Default)]
pub struct Heard {
    /// By payload type.
    pub streams: HashMap<u8, Stream>,
    /// Media payload type by that of its retransmissions.
    pub repairs: HashMap<u8, u8>,
    ssrcs: HashMap<u8, u32>,
    nack: bool,
    pub plis: VecDeque<u8>,
    next: Option<Instant>,
}

pub struct Ear {
    heard: Arc<Mutex<Heard>>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Ear {
    pub fn new(heard: Arc<Mutex<Heard>>) -> Self {
        Self { heard, read: VecDeque::new(), write: VecDeque::new() }
    }
}

const TICK: Duration = Duration::from_millis(20);

impl Heard {
    /// Asks for what is missing, if so told.
    pub fn asking(nack: bool) -> Self {
        Self { nack, ..Self::default() }
    }

    fn rtp(&mut self, packet: &rtp::Packet, now: Instant) {
        let header = &packet.header;
        let repairs = self.repairs.get(&header.payload_type).copied();
        let (payload_type, number, payload) = match repairs {
            Some(_) if packet.payload.len() < 2 => return,
            Some(media) => {
                let number = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
                (media, number, packet.payload.slice(2..))
            }
            None => (header.payload_type, header.sequence_number, packet.payload.clone()),
        };
        if repairs.is_none() {
            self.ssrcs.insert(payload_type, header.ssrc);
        }
        let stream = self.streams.entry(payload_type).or_default();
        if stream.packets.is_empty() {
            stream.highest = i64::from(number);
        }
        let ahead = number.wrapping_sub(stream.highest as u16).cast_signed();
        let extended = stream.highest + i64::from(ahead);
        stream.highest = stream.highest.max(extended);
        let got = Got { timestamp: header.timestamp, marker: header.marker, payload, payload_type, at: now };
        if let Some(before) = stream.packets.insert(extended, got.clone()) {
            assert_eq!(
                (&before.payload, before.timestamp),
                (&got.payload, got.timestamp),
                "another packet of that number"
            );
            stream.duplicates += 1;
        } else if stream.asked.contains_key(&extended) {
            stream.repaired += 1;
        }
    }

    fn out(&mut self) -> Vec<Packet> {
        let mut out = Vec::new();
        for (payload_type, stream) in &mut self.streams {
            let Some(ssrc) = self.ssrcs.get(payload_type) else { continue };
            let is_video = *payload_type != 111;
            if self.nack && is_video {
                let newest = stream.highest;
                let oldest = stream.packets.keys().next().copied().unwrap_or(newest).max(newest - 500);
                let missing = (oldest..newest).filter(|number| !stream.packets.contains_key(number));
                let asked = &mut stream.asked;
                let ask: Vec<u16> = missing
                    .filter(|number| {
                        let asked = asked.entry(*number).or_default();
                        *asked = asked.saturating_add(1);
                        *asked < 50
                    })
                    .map(|number| number as u16)
                    .collect();
                if !ask.is_empty() {
                    let nacks = nack_pairs_from_sequence_numbers(&ask);
                    out.push(Packet::Rtcp(vec![Box::new(TransportLayerNack {
                        sender_ssrc: 1,
                        media_ssrc: *ssrc,
                        nacks,
                    })]));
                }
            }
        }
        for payload_type in std::mem::take(&mut self.plis) {
            let Some(ssrc) = self.ssrcs.get(&payload_type) else { continue };
            out.push(Packet::Rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: *ssrc })]));
        }
        out
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Ear {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        let mut heard = self.heard.lock().expect("lock");
        match &tagged.message.packet {
            Packet::Rtp(packet) => heard.rtp(packet, tagged.now),
            Packet::Rtcp(packets) => {
                for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>()) {
                    let of = heard.ssrcs.iter().find(|(_, ssrc)| **ssrc == report.ssrc).map(|(of, _)| *of);
                    if let Some(stream) = of.and_then(|of| heard.streams.get_mut(&of)) {
                        stream.reports.push((report.ntp_time, report.rtp_time));
                    }
                }
            }
            _ => {}
        }
        drop(heard);
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
        let mut heard = self.heard.lock().expect("lock");
        if heard.next.is_none_or(|next| next <= now) {
            heard.next = Some(now + TICK);
            let out = heard.out();
            self.write.extend(out.into_iter().map(|packet| TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(packet),
            }));
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        Some(self.heard.lock().expect("lock").next.unwrap_or_else(Instant::now))
    }
}

impl Interceptor for Ear {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
