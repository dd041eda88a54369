//! What a peer sends once its handshake is over: RTP and RTCP as they come out of SRTP, through all interceptors of a session.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc::{
    interceptor::{AttributedPacket, Interceptor, Packet, RTCPFeedback, RTPHeaderExtension, StreamInfo, TaggedPacket},
    rtcp::{self, transport_feedbacks::transport_layer_nack::TransportLayerNack},
    rtp,
    shared::{TransportContext, marshal::Unmarshal as _, util::is_rtcp},
};
use webrtc::peer_connection::{MediaEngine, Registry};

use crate::{
    codec::MediaKind,
    session::{
        ClockPoint, CodecPreferences, ConnectionState, EndReason, History, OutgoingPacket, Outlet, PacketSink,
        RtpPacket, SendEvents, SenderReport,
        egress::Wire,
        nacks::LOOKED_BACK,
        negotiate,
        red::{RedCounts, RedSink},
        rtx::RtxUnwrap,
        sender::Extensions,
        stack::{interceptors, with_egress},
        tap::{MediaTap, TapState},
        time,
    },
};

/// Sound with redundancy, and a picture in two layers with retransmissions.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
    a=fingerprint:sha-256 00:11\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtcp-fb:111 nack\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
    a=ssrc:1 cname:x\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
    a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
    a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\na=rid:q send\r\na=rid:f send\r\n\
    a=simulcast:send q;f\r\n";
const TWCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Streams that go out: SSRC, its retransmissions'.
const SENT: (u32, u32) = (10, 11);
/// A report has room in every network's datagrams.
const LARGEST_REPORT: usize = 1200;

/// What gets out of the session.
#[derive(Default)]
struct Heard {
    packets: AtomicUsize,
    bytes: AtomicUsize,
    /// The stream that packets come of, the newest of its numbers, and those near it that came.
    numbers: Mutex<Option<(u32, u16, HashSet<u16>)>>,
}

impl PacketSink for Heard {
    fn rtp(&self, track: usize, packet: RtpPacket) {
        assert!(track < 2, "of track {track}");
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(packet.payload.len(), Relaxed);
    }

    fn layer_rtp(&self, track: usize, packet: &RtpPacket) {
        assert_eq!(track, 1, "sound has no layers");
        let number = packet.sequence_number;
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let (ssrc, newest, seen) = numbers.get_or_insert_with(|| (packet.ssrc, number, HashSet::new()));
        // What is known of a stream may be forgotten when there is another.
        if *ssrc != packet.ssrc {
            (*ssrc, *newest, *seen) = (packet.ssrc, number, HashSet::new());
        }
        if number.wrapping_sub(*newest) < 0x8000 {
            *newest = number;
        }
        seen.retain(|number| newest.wrapping_sub(*number) < 2048);
        assert!(seen.insert(number), "{number} came twice");
    }

    fn sender_report(&self, track: usize, _: SenderReport) {
        assert!(track < 2, "of track {track}");
    }

    fn state_changed(&self, _: ConnectionState) {}

    fn ended(&self, _: EndReason) {}

    fn resumed(&self) {}
}

impl SendEvents for Heard {
    fn ready(&self) {}

    fn keyframe_wanted(&self, track: usize) {
        assert_eq!(track, 0, "nothing else is sent");
    }
}

/// The session: the interceptors in order, and what is sent.
struct Session<I> {
    chain: I,
    outlet: Outlet,
    history: Arc<History>,
    heard: Arc<Heard>,
    now: Instant,
    number: u64,
    sent: HashSet<u16>,
}

fn session() -> Session<impl Interceptor> {
    let tracks = negotiate(OFFER, &CodecPreferences::default()).unwrap_or_else(|error| panic!("{error}"));
    let heard = Arc::<Heard>::default();
    let state = Arc::new(TapState::new(tracks.len()));
    let sink = Arc::new(RedSink::new(heard.clone(), &tracks, Arc::<RedCounts>::default()));
    let tap = MediaTap::new(OFFER, tracks, sink, state);
    let extensions = Extensions { transport_cc: Some(5), ..Extensions::default() };
    let wire = Wire {
        kind: MediaKind::Video,
        clock_rate: 90_000,
        ssrc: SENT.0,
        payload_type: 96,
        rtx: Some((SENT.1, 97)),
        nack: true,
        extensions,
    };
    let (outlet, history) = (Outlet::new(vec![Some(wire)], "c", heard.clone()), Arc::<History>::default());
    outlet.keep_in(0, history.clone());
    let registry: Registry = interceptors(&mut MediaEngine::default(), RtxUnwrap::new(tap.known()), tap)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut chain = with_egress(registry, Some(&outlet)).build();
    for (ssrc, mime_type, clock_rate, payload_type) in [(1, "audio/opus", 48_000, 111), (2, "video/VP8", 90_000, 96)] {
        chain.bind_remote_stream(&StreamInfo {
            ssrc,
            mime_type: mime_type.to_owned(),
            clock_rate,
            payload_type,
            rtp_header_extensions: vec![RTPHeaderExtension { uri: TWCC.to_owned(), id: 5 }],
            rtcp_feedback: vec![RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() }],
            ..StreamInfo::default()
        });
    }
    let now = time::now();
    outlet.set_clock(0, ClockPoint { rtp_time: 0, at: now });
    Session { chain, outlet, history, heard, now, number: 0, sent: HashSet::new() }
}

impl<I: Interceptor> Session<I> {
    /// A picture of ours.
    fn send(&mut self) {
        let payload = Bytes::from(vec![self.number as u8; 100]);
        let packet = OutgoingPacket {
            number: self.number,
            timestamp: self.number as u32 * 3000,
            marker: true,
            starts_keyframe: self.number == 0,
            stored: self.history.store(payload.clone()),
            payload,
            dependencies: None,
            renumbered: None,
        };
        self.number += 1;
        self.outlet.send(0, [packet]);
    }

    /// What SRTP has let through.
    fn take(&mut self, datagram: &[u8]) {
        let mut bytes = Bytes::copy_from_slice(datagram);
        let packet = match is_rtcp(datagram) {
            true => rtcp::packet::unmarshal(&mut bytes).ok().filter(|packets| !packets.is_empty()).map(Packet::Rtcp),
            false => rtp::Packet::unmarshal(&mut bytes).ok().map(Packet::Rtp),
        };
        let Some(packet) = packet else { return };
        let message = AttributedPacket::new(packet);
        // The stack notes an error of these, and goes on.
        let _ = self.chain.handle_read(TaggedPacket { now: self.now, transport: TransportContext::default(), message });
        while self.chain.poll_read().is_some() {}
    }

    /// Time goes on; what goes out is looked at.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.chain.poll_timeout().is_some_and(|at| at <= self.now) {
            let _ = self.chain.handle_timeout(self.now);
        }
        let (mut count, mut repeated) = (0, 0);
        while let Some(tagged) = self.chain.poll_write() {
            count += 1;
            match tagged.message.packet {
                Packet::Rtp(packet) => {
                    let header = &packet.header;
                    match header.ssrc == SENT.0 {
                        true => drop(self.sent.insert(header.sequence_number)),
                        false => {
                            repeated += 1;
                            assert_eq!(header.ssrc, SENT.1);
                            let number = [packet.payload[0], packet.payload[1]];
                            assert!(self.sent.contains(&u16::from_be_bytes(number)), "repeated what was never sent");
                        }
                    }
                }
                Packet::Rtcp(packets) => {
                    let size: usize = packets.iter().map(|packet| packet.marshal_size()).sum();
                    assert!(size <= LARGEST_REPORT, "a report of {size} bytes");
                    for nack in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>())
                    {
                        let asked: usize = nack.nacks.iter().map(|pair| pair.into_iter().count()).sum();
                        assert!(asked <= usize::from(LOOKED_BACK), "{asked} packets are asked for");
                    }
                }
                _ => {}
            }
        }
        assert!(count <= 2000 && repeated <= 600, "{count} datagrams go out for one, {repeated} of them repeated");
    }
}

/// Datagrams: what happens before (two bits: a picture is sent; the others: how long it takes), the length, the datagram.
pub fn media(mut input: &[u8]) {
    let mut session = session();
    session.wait(Duration::ZERO); // there are keys now
    let (mut datagrams, mut bytes) = (0, 0);
    while let Some((&[before, length], rest)) = input.split_first_chunk() {
        let (datagram, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        if before & 3 == 0 {
            session.send();
        }
        session.wait(Duration::from_millis(u64::from(before >> 2) * 4));
        session.take(datagram);
        (datagrams, bytes) = (datagrams + 1, bytes + datagram.len());
    }
    session.wait(Duration::from_millis(40));
    // Of redundant audio each block is a packet, and has a byte at least in front of it.
    let heard = &session.heard;
    let (packets, payload) = (heard.packets.load(Relaxed), heard.bytes.load(Relaxed));
    assert!(
        packets <= bytes && payload <= bytes,
        "{packets} packets of {payload} bytes came of {datagrams} of {bytes}"
    );
    let stats = session.outlet.stats();
    assert!(stats.waiting <= 4096, "{} packets wait", stats.waiting);
    assert!(stats.estimate.is_none_or(|rate| (50_000..=200_000_000).contains(&rate)), "{stats:?}");
}
