//! Retransmissions become what they repeat (RFC 4588), and every packet comes once.
//!
//! The stack below unwraps RTX only after its interceptors, so its NACK generator never sees that a gap was filled and
//! asks again and again, and those of simulcast layers not at all. This one stands wire-ward of the generator. Packets also
//! come twice without any loss: senders probe for bandwidth by repeating what they have. The generator's NACKs pass here
//! on their way out, so that what they bring is counted here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, OnceLock},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack,
    rtp,
    sansio::Protocol,
    shared::error::Error,
};

use super::{identity::Identity, record::MOST_STREAMS, seen::SeenWindow, tap::TapState};

/// Application-ward of the TWCC receiver (8000): what is dropped here has arrived all the same, and a sender that is not
/// told so takes its own probes for lost, and its bandwidth for a tenth of what it is.
pub(super) fn slot() -> Slot {
    Slot::from(8_500)
}

/// Numbers remembered as asked for, of one stream: a second of a bad network.
const MOST_ASKED: usize = 1024;

/// What this needs to know of the session.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) identity: Arc<Identity>,
    pub(super) state: Arc<TapState>,
}

/// The same where it is known later than the interceptors are put in: by the answer to an offer of ours.
pub(super) type LateKnown = Arc<OnceLock<Known>>;

/// The interceptor.
pub(super) struct RtxUnwrap {
    known: LateKnown,
    /// RTX SSRC → SSRC and payload type of what it repairs.
    repairs: HashMap<u32, (u32, u8)>,
    streams: HashMap<u32, Stream>,
    /// How many packets have come.
    packets: u64,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// A media stream.
struct Stream {
    track: usize,
    payload_type: u8,
    rid: Option<String>,
    seen: SeenWindow,
    /// Numbers that a NACK has asked for and that have not come yet.
    asked: HashSet<u16>,
    /// Which of all packets was its last one.
    last: u64,
}

impl RtxUnwrap {
    pub(super) fn new(known: Known) -> Self {
        Self::late(Arc::new(OnceLock::from(known)))
    }

    /// What it knows of the session, or will.
    pub(super) fn known(&self) -> LateKnown {
        self.known.clone()
    }

    /// Lets everything pass until the cell is filled.
    pub(super) fn late(known: LateKnown) -> Self {
        let (read, write) = (VecDeque::new(), VecDeque::new());
        Self { known, repairs: HashMap::new(), streams: HashMap::new(), packets: 0, read, write }
    }

    /// False if the packet is of no use: an empty probe, a duplicate, or a repair of nobody knows what.
    fn accept(&mut self, packet: &mut rtp::Packet) -> bool {
        let Some(Known { identity, state }) = self.known.get().cloned() else { return true };
        if let Some((ssrc, payload_type)) = self.repaired(&identity, &state, &packet.header) {
            // The original sequence number stands in front of the original payload (RFC 4588 section 4).
            let &[high, low, ref original @ ..] = packet.payload.as_ref() else { return false };
            if original.is_empty() {
                return false;
            }
            packet.header.sequence_number = u16::from_be_bytes([high, low]);
            packet.header.ssrc = ssrc;
            packet.header.payload_type = payload_type;
            packet.payload = packet.payload.slice(2..);
        } else if identity.repaired_track(&packet.header).is_some() {
            return false;
        }
        let (ssrc, number) = (packet.header.ssrc, packet.header.sequence_number);
        self.packets += 1;
        let last = self.packets;
        let Some(stream) = self.stream(&identity, &packet.header) else { return true };
        stream.last = last;
        let (is_new, was_asked) = (stream.seen.insert(number), stream.asked.remove(&number));
        if (!is_new || was_asked)
            && let Some(record) = state.record().streams.get_mut(&ssrc)
        {
            record.duplicates += u64::from(!is_new);
            record.recovered += u64::from(is_new);
        }
        is_new
    }

    /// What a retransmission repairs: as the description says, else by its own `rid` extension (RFC 8852 section 3), else
    /// the only stream that there is. Learned once for each RTX stream, since the extension is not sent for ever.
    fn repaired(&mut self, identity: &Identity, state: &TapState, header: &rtp::Header) -> Option<(u32, u8)> {
        if let Some(repaired) = self.repairs.get(&header.ssrc) {
            return Some(*repaired);
        }
        let track = identity.repaired_track(header)?;
        let rid = identity.rid(track, header);
        let mut of_track = self.streams.iter().filter(|(_, stream)| stream.track == track);
        let found = match rid {
            Some(rid) => of_track.find(|(_, stream)| stream.rid.as_deref() == Some(rid)),
            None => of_track.next().filter(|_| of_track.next().is_none()),
        };
        let repaired = found.map(|(ssrc, stream)| (*ssrc, stream.payload_type))?;
        if self.repairs.len() < MOST_STREAMS {
            self.repairs.insert(header.ssrc, repaired);
            state.proven(header.ssrc);
        }
        Some(repaired)
    }

    /// The stream of a media packet; `None` for one that belongs to no track. One too many takes the place of the one that has
    /// been silent for the longest.
    fn stream(&mut self, identity: &Identity, header: &rtp::Header) -> Option<&mut Stream> {
        if !self.streams.contains_key(&header.ssrc) {
            let track = identity.track(header)?;
            if self.streams.len() >= MOST_STREAMS
                && let Some((&silent, _)) = self.streams.iter().min_by_key(|(_, stream)| stream.last)
            {
                self.forget(silent);
            }
            let rid = identity.rid(track, header).map(str::to_owned);
            // A layer that starts anew under another number, or all there is of a track: what repairs its name now repairs this.
            if rid.is_some() || identity.layers(track) == 1 {
                let former = self.streams.iter().find(|(_, stream)| stream.track == track && stream.rid == rid);
                if let Some((&former, _)) = former {
                    self.forget(former);
                }
            }
            let stream = Stream {
                track,
                payload_type: header.payload_type,
                rid,
                seen: SeenWindow::default(),
                asked: HashSet::new(),
                last: 0,
            };
            self.streams.insert(header.ssrc, stream);
        }
        self.streams.get_mut(&header.ssrc)
    }

    fn forget(&mut self, ssrc: u32) {
        self.streams.remove(&ssrc);
        self.repairs.retain(|rtx, (repaired, _)| *rtx != ssrc && *repaired != ssrc);
    }

    fn count_nacks(&mut self, packets: &[Box<dyn rtc::rtcp::Packet>]) {
        let Some(Known { state, .. }) = self.known.get().cloned() else { return };
        for nack in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>()) {
            let Some(stream) = self.streams.get_mut(&nack.media_ssrc) else { continue };
            if stream.asked.len() >= MOST_ASKED {
                stream.asked.clear(); // these will not come any more
            }
            stream.asked.extend(nack.nacks.iter().flat_map(|pair| pair.into_iter()));
            if let Some(record) = state.record().streams.get_mut(&nack.media_ssrc) {
                record.nacks += 1;
            }
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for RtxUnwrap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut tagged: TaggedPacket) -> Result<(), Error> {
        let useful = match &mut tagged.message.packet {
            Packet::Rtp(packet) => self.accept(packet),
            _ => true,
        };
        if useful {
            self.read.push_back(tagged);
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &tagged.message.packet {
            self.count_nacks(packets);
        }
        self.write.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for RtxUnwrap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, stream: &StreamInfo) {
        if let Some(rtx) = stream.ssrc_rtx.filter(|_| self.repairs.len() < MOST_STREAMS) {
            self.repairs.insert(rtx, (stream.ssrc, stream.payload_type));
        }
    }

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        self.forget(stream.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers;

    use super::*;
    use crate::session::{CodecPreferences, negotiate};

    const VIDEO: u32 = 1;
    const RTX: u32 = 2;
    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 00:11\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
        a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\na=rid:q send\r\na=rid:f send\r\n";

    fn unbound() -> RtxUnwrap {
        let tracks = negotiate(OFFER, &CodecPreferences::default()).unwrap();
        let state = Arc::new(TapState::new(1));
        state.record().stream(VIDEO, 0); // as the tap does
        RtxUnwrap::new(Known { identity: Arc::new(Identity::new(OFFER, &tracks)), state })
    }

    fn bound() -> RtxUnwrap {
        let mut unwrap = unbound();
        unwrap.bind_remote_stream(&StreamInfo {
            ssrc: VIDEO,
            ssrc_rtx: Some(RTX),
            payload_type: 96,
            ..StreamInfo::default()
        });
        // The stack binds the repair stream in its own right afterwards.
        unwrap.bind_remote_stream(&StreamInfo { ssrc: RTX, payload_type: 97, ..StreamInfo::default() });
        unwrap
    }

    fn packet(ssrc: u32, sequence_number: u16, payload: &'static [u8]) -> rtp::Packet {
        let payload_type = if ssrc == VIDEO { 96 } else { 97 };
        rtp::Packet {
            header: rtp::Header { ssrc, sequence_number, payload_type, ..Default::default() },
            payload: Bytes::from_static(payload),
        }
    }

    fn named(ssrc: u32, payload_type: u8, number: u16, extension: u8, rid: &'static str) -> rtp::Packet {
        let mut packet = packet(ssrc, number, &[0x12, 0x34, 0xAA]);
        packet.header.payload_type = payload_type;
        packet.header.set_extension(extension, Bytes::from_static(rid.as_bytes())).unwrap();
        packet
    }

    fn counts(unwrap: &RtxUnwrap, ssrc: u32) -> (u64, u64, u64) {
        let state = unwrap.known.get().unwrap().state.clone();
        let mut record = state.record();
        let stream = record.stream(ssrc, 0).unwrap();
        (stream.recovered, stream.duplicates, stream.nacks)
    }

    #[test]
    fn a_retransmission_becomes_the_packet_it_repeats() {
        let mut unwrap = bound();
        let mut rtx = packet(RTX, 7, &[0x12, 0x34, 0xAA]);
        assert!(unwrap.accept(&mut rtx));
        assert_eq!((rtx.header.ssrc, rtx.header.sequence_number, rtx.header.payload_type), (VIDEO, 0x1234, 96));
        assert_eq!(rtx.payload.as_ref(), [0xAA]);
    }

    #[test]
    fn retransmissions_of_layers_are_told_apart_by_name_and_then_by_number() {
        let mut unwrap = unbound();
        assert!(!unwrap.accept(&mut named(102, 97, 1, 3, "f")), "of a layer that has not been met");
        assert!(unwrap.accept(&mut named(100, 96, 1, 2, "q")));
        assert!(unwrap.accept(&mut named(101, 96, 1, 2, "f")));
        let mut rtx = named(102, 97, 1, 3, "f");
        assert!(unwrap.accept(&mut rtx));
        assert_eq!((rtx.header.ssrc, rtx.header.sequence_number, rtx.header.payload_type), (101, 0x1234, 96));
        let mut later = packet(102, 2, &[0x12, 0x35, 0xAA]);
        assert!(unwrap.accept(&mut later), "without the name once it is known");
        assert_eq!((later.header.ssrc, later.header.sequence_number), (101, 0x1235));
        assert!(!unwrap.accept(&mut packet(103, 2, &[0x12, 0x36, 0xAA])), "and never by guessing");
    }

    #[test]
    fn retransmissions_of_the_only_stream_need_no_name() {
        let mut unwrap = unbound();
        assert!(unwrap.accept(&mut packet(VIDEO, 1, &[1])));
        let mut rtx = packet(RTX, 7, &[0x12, 0x34, 0xAA]);
        assert!(unwrap.accept(&mut rtx));
        assert_eq!(rtx.header.ssrc, VIDEO);
    }

    #[test]
    fn a_packet_comes_once_whether_sent_or_sent_again() {
        let mut unwrap = bound();
        assert!(unwrap.accept(&mut packet(VIDEO, 0x1234, &[1])));
        assert!(!unwrap.accept(&mut packet(RTX, 7, &[0x12, 0x34, 1])));
        assert!(!unwrap.accept(&mut packet(VIDEO, 0x1234, &[1])));
        assert_eq!(counts(&unwrap, VIDEO), (0, 2, 0));
    }

    #[test]
    fn what_a_nack_brought_counts_as_recovered_with_rtx_or_without() {
        let mut unwrap = bound();
        assert!(unwrap.accept(&mut packet(VIDEO, 0x1236, &[1])));
        let nack = TransportLayerNack {
            sender_ssrc: 9,
            media_ssrc: VIDEO,
            nacks: nack_pairs_from_sequence_numbers(&[0x1234, 0x1235]),
        };
        unwrap.count_nacks(&[Box::new(nack)]);
        assert!(unwrap.accept(&mut packet(RTX, 7, &[0x12, 0x34, 1])));
        assert!(unwrap.accept(&mut packet(VIDEO, 0x1235, &[1])));
        assert!(unwrap.accept(&mut packet(VIDEO, 0x1237, &[1])));
        assert_eq!(counts(&unwrap, VIDEO), (2, 0, 1));
    }

    #[test]
    fn empty_and_truncated_retransmissions_are_dropped() {
        let mut unwrap = bound();
        for payload in [&[][..], &[0x12], &[0x12, 0x34]] {
            assert!(!unwrap.accept(&mut packet(RTX, 7, payload)));
        }
    }

    #[test]
    fn made_up_streams_are_not_remembered_without_end() {
        let mut unwrap = bound();
        for ssrc in 1000..2000 {
            let mut forged = packet(VIDEO, 1, &[1]);
            forged.header.ssrc = ssrc;
            unwrap.accept(&mut forged);
            unwrap.accept(&mut packet(ssrc + 5000, 7, &[0x12, 0x34, 0xAA]));
        }
        assert!(unwrap.streams.len() <= MOST_STREAMS && unwrap.repairs.len() <= MOST_STREAMS);
    }
}
