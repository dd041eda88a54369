//! Asks again for what is missing of one kind of media; there is one for audio and one for video. The stack's generator alone
//! would ask for its streams in the order of a table that chance decides, and what is repeated first would be another each time;
//! and for everything that is missing at each turn, however long an answer takes ([`asked`]).

mod asked;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{
        Interceptor, NackGeneratorBuilder, NackGeneratorInterceptor, Packet, RTCPFeedback, Registry, Slot, StreamInfo,
        TaggedPacket,
    },
    rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    rtp,
    sansio::Protocol,
    shared::error::Error,
};

use self::asked::Asked;
use super::rtx::LateKnown;
use crate::codec::MediaKind;

/// Recovery in 34 ms (p50) instead of 70 at 5 % loss and 20 ms round trip.
const INTERVAL: Duration = Duration::from_millis(20);

/// How far behind the newest packet a missing one is asked for: 0.5 s of 20 Mbit/s.
pub(super) const LOOKED_BACK: u16 = 1024;

/// For how many turns what is missing is looked at: 2 s.
const MOST_TURNS: u16 = 100;

/// Application-ward of what unwraps retransmissions, not at the stack's usual place (7000): see [`rtx::slot`](super::rtx::slot).
const SLOTS: [(MediaKind, usize); 2] = [(MediaKind::Audio, 8_690), (MediaKind::Video, 8_700)];

/// Streams that the peer's description does not number (`a=ssrc`), which the stack tells nobody of: so many at once, the latest.
const MOST_UNNUMBERED: usize = 16;
/// Streams of others, not looked at again.
const MOST_FOREIGN: usize = 64;

/// Puts both in.
pub(super) fn with_nacks(registry: Registry, known: &LateKnown) -> Registry {
    SLOTS
        .into_iter()
        .fold(registry, |registry, (kind, slot)| registry.with(Slot::from(slot), Nacks::new(kind, known.clone())))
}

/// Of one kind.
struct Nacks {
    kind: MediaKind,
    generator: NackGeneratorInterceptor,
    /// By SSRC, of the streams of this kind.
    asked: HashMap<u32, Asked>,
    known: LateKnown,
    /// Of these streams the ones that nobody has told of, oldest first.
    unnumbered: VecDeque<u32>,
    foreign: HashSet<u32>,
}

impl Nacks {
    fn new(kind: MediaKind, known: LateKnown) -> Self {
        let generator = NackGeneratorBuilder::new()
            .with_interval(INTERVAL)
            .with_size(LOOKED_BACK)
            .with_max_nacks_per_packet(MOST_TURNS);
        let (asked, unnumbered, foreign) = (HashMap::new(), VecDeque::new(), HashSet::new());
        Self { kind, generator: generator.build(), asked, known, unnumbered, foreign }
    }

    /// A packet of a stream that nobody has told of.
    fn look_at(&mut self, header: &rtp::Header) {
        let Some(known) = self.known.get().filter(|_| !self.foreign.contains(&header.ssrc)) else { return };
        if known.identity.asked(header) != Some(self.kind) {
            if self.foreign.len() >= MOST_FOREIGN {
                self.foreign.clear();
            }
            self.foreign.insert(header.ssrc);
            return;
        }
        if self.unnumbered.len() >= MOST_UNNUMBERED
            && let Some(ssrc) = self.unnumbered.pop_front()
        {
            self.unbind_remote_stream(&StreamInfo { ssrc, ..StreamInfo::default() });
        }
        self.unnumbered.push_back(header.ssrc);
        let (mime_type, nack) =
            (format!("{}/", self.kind), RTCPFeedback { typ: "nack".to_owned(), ..Default::default() });
        self.bind_remote_stream(&StreamInfo {
            ssrc: header.ssrc,
            mime_type,
            rtcp_feedback: vec![nack],
            ..StreamInfo::default()
        });
    }

    /// False if nothing is left to be asked for in what the generator has made.
    fn thin_out(&mut self, tagged: &mut TaggedPacket) -> bool {
        let Packet::Rtcp(packets) = &mut tagged.message.packet else { return true };
        packets.retain_mut(|packet| {
            let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() else { return true };
            // What passes is of the other kind, or for a stream that goes out.
            let Some(asked) = self.asked.get_mut(&nack.media_ssrc) else { return true };
            let missing: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.into_iter()).collect();
            let due = asked.due(&missing, tagged.now);
            let nacks = nack_pairs_from_sequence_numbers(&due);
            *packet = Box::new(TransportLayerNack { nacks, ..nack.clone() });
            !due.is_empty()
        });
        !packets.is_empty()
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Nacks {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &tagged.message.packet {
            match self.asked.get_mut(&packet.header.ssrc) {
                Some(asked) => asked.came(packet.header.sequence_number, tagged.now),
                None => self.look_at(&packet.header),
            }
        }
        self.generator.handle_read(tagged)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.generator.poll_read()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        self.generator.handle_write(tagged)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        loop {
            let mut tagged = self.generator.poll_write()?;
            if self.thin_out(&mut tagged) {
                return Some(tagged);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.generator.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.generator.poll_timeout()
    }
}

impl Interceptor for Nacks {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, stream: &StreamInfo) {
        let kind = stream.mime_type.split('/').next().unwrap_or_default();
        if kind.eq_ignore_ascii_case(self.kind.as_str()) {
            self.asked.insert(stream.ssrc, Asked::default());
            self.generator.bind_remote_stream(stream);
        }
    }

    fn unbind_remote_stream(&mut self, stream: &StreamInfo) {
        self.asked.remove(&stream.ssrc);
        self.generator.unbind_remote_stream(stream);
    }
}

#[cfg(test)]
mod tests {
    use rtc::{
        interceptor::{AttributedPacket, Packet, RTCPFeedback},
        rtp,
        shared::TransportContext,
    };

    use super::*;

    fn bound(kind: MediaKind) -> Nacks {
        let mut nacks = Nacks::new(kind, LateKnown::default());
        for (ssrc, mime_type) in [(1, "audio/opus"), (2, "video/H264")] {
            let feedback = RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
            let (mime_type, rtcp_feedback) = (mime_type.to_owned(), vec![feedback]);
            nacks.bind_remote_stream(&StreamInfo { ssrc, mime_type, rtcp_feedback, ..StreamInfo::default() });
        }
        nacks
    }

    #[test]
    fn each_asks_for_its_kind_of_media_and_lets_the_others_pass() {
        let start = Instant::now();
        for (kind, own, foreign) in [(MediaKind::Audio, 1, 2), (MediaKind::Video, 2, 1)] {
            for (ssrc, asks) in [(own, true), (foreign, false)] {
                let mut nacks = bound(kind);
                for sequence_number in [10, 11, 14] {
                    let header = rtp::Header { version: 2, ssrc, sequence_number, ..rtp::Header::default() };
                    let packet = Packet::Rtp(rtp::Packet { header, ..rtp::Packet::default() });
                    let message = AttributedPacket::new(packet);
                    nacks
                        .handle_read(TaggedPacket { now: start, transport: TransportContext::default(), message })
                        .unwrap();
                    assert!(nacks.poll_read().is_some());
                }
                nacks.handle_timeout(start + INTERVAL).unwrap();
                assert_eq!(nacks.poll_write().is_some(), asks, "{kind} {ssrc}");
            }
        }
    }
}
