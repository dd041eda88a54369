//! A viewer on the webrtc crate: offers to receive, keeps every packet that comes, asks for what is missing, and can be told
//! to ask for keyframes. It unwraps retransmissions by itself and knows no jitter buffer.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc::{
    ice::mdns::MulticastDnsMode,
    interceptor::{AttributedPacket, Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtcp::{
        payload_feedbacks::picture_loss_indication::PictureLossIndication,
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
    rtp,
    rtp_transceiver::{
        RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind},
    },
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};
use webrtc::{
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, configure_rtcp_reports,
        configure_twcc_receiver_only,
    },
    runtime::{Runtime, TokioRuntime},
};

use super::{SOON, flv::hash_slices, lossy::LossyPath, wait_until};

/// What a viewer offers.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Format parameters by codec and payload type; audio ones by their names.
    pub formats: Vec<(&'static str, u8, &'static str)>,
    pub nack: bool,
    pub rtx: bool,
    pub transport_cc: bool,
    pub path: Option<LossyPath>,
    /// What many of them run on together.
    pub on: Option<(tokio::runtime::Handle, Arc<dyn Runtime>)>,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            formats: vec![
                ("audio/opus", 111, "minptime=10;useinbandfec=1"),
                ("video/VP8", 96, ""),
                ("video/H264", 102, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
            ],
            nack: true,
            rtx: true,
            transport_cc: true,
            path: None,
            on: None,
        }
    }
}

/// One packet, as it was sent at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Bytes,
    pub payload_type: u8,
    pub at: Instant,
}

/// One stream, by its extended sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub packets: BTreeMap<i64, Got>,
    pub reports: Vec<(u64, u32)>,
    pub repaired: usize,
    pub duplicates: usize,
    highest: i64,
    asked: HashMap<i64, u8>,
}

impl Stream {
    /// Sequence numbers that are missing between the first and the last.
    pub fn missing(&self) -> Vec<i64> {
        let (Some(first), Some(last)) = (self.packets.keys().next(), self.packets.keys().next_back()) else {
            return Vec::new();
        };
        (*first..*last).filter(|number| !self.packets.contains_key(number)).collect()
    }
}

/// The hashes of the slices of each whole picture, in order (RFC 6184).
pub fn pictures(stream: &Stream) -> Vec<u64> {
    let mut by_time: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut order: Vec<(u32, i64)> = Vec::new();
    for (number, packet) in stream.packets.iter().filter(|(_, packet)| packet.payload.len() > 2) {
        if order.last().is_none_or(|(timestamp, _)| *timestamp != packet.timestamp) {
            order.push((packet.timestamp, *number));
        }
        let nals = by_time.entry(order.last().expect("a picture").1).or_default();
        let payload = &packet.payload;
        match payload[0] & 31 {
            24 => {
                let mut rest = &payload[1..];
                while rest.len() > 2 {
                    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    nals.push(rest[2..2 + length].to_vec());
                    rest = &rest[2 + length..];
                }
            }
            28 if payload[1] & 0x80 != 0 => {
                let mut nal = vec![payload[0] & 0xE0 | payload[1] & 31];
                nal.extend_from_slice(&payload[2..]);
                nals.push(nal);
            }
            // Without the beginning, which is still missing, it is no picture that was sent.
            28 => match nals.last_mut() {
                Some(nal) => nal.extend_from_slice(&payload[2..]),
                None => nals.push(payload.to_vec()),
            },
            _ => nals.push(payload.to_vec()),
        }
    }
    by_time.values().map(|nals| hash_slices(&nals.iter().map(Vec::as_slice).collect::<Vec<_>>())).collect()
}

#[derive(Default)]
struct Heard {
    /// By payload type.
    streams: HashMap<u8, Stream>,
    /// Media payload type by that of its retransmissions.
    repairs: HashMap<u8, u8>,
    ssrcs: HashMap<u8, u32>,
    nack: bool,
    plis: VecDeque<u8>,
    next: Option<Instant>,
}

/// A viewer; gone when dropped, without a word.
pub struct Viewer {
    own: Option<tokio::runtime::Runtime>,
    runtime: tokio::runtime::Handle,
    connection: Arc<dyn PeerConnection>,
    connected: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    offer: String,
    wants: Wants,
}

impl Viewer {
    /// Makes an offer; somebody must answer it.
    pub fn new(wants: Wants) -> Self {
        Self::with(wants, None)
    }

    /// Answers an offer.
    pub fn answering(wants: Wants, offer: &str) -> Self {
        Self::with(wants, Some(offer))
    }

    fn with(wants: Wants, theirs: Option<&str>) -> Self {
        let own = wants.on.is_none().then(|| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio")
        });
        let runtime = own.as_ref().map(|own| own.handle().clone());
        let runtime = runtime.or_else(|| wants.on.as_ref().map(|(on, _)| on.clone())).expect("one of them");
        let connected = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Heard { nack: wants.nack, ..Heard::default() }));
        let (connection, offer) = runtime.block_on(Box::pin(prepare(&wants, theirs, connected.clone(), heard.clone())));
        Self { own, runtime, connection, connected, heard, offer, wants }
    }

    pub fn offer(&self) -> &str {
        &self.offer
    }

    /// Of one that answers.
    pub fn answer(&self) -> &str {
        &self.offer
    }

    /// Takes the answer.
    pub fn answered(&self, answer: &str) {
        let answer = self.wants.path.as_ref().map_or(answer.to_owned(), |path| path.reroute(answer));
        let description = RTCSessionDescription::answer(answer).expect("an answer");
        self.runtime.block_on(self.connection.set_remote_description(description)).expect("a good answer");
    }

    pub fn wait_connected(&self) {
        wait_until("the viewer's connection", SOON, || self.connected.load(SeqCst).then_some(()));
    }

    /// What has come with this payload type.
    pub fn stream(&self, payload_type: u8) -> Stream {
        self.lock().streams.get(&payload_type).cloned().unwrap_or_default()
    }

    /// How many packets of this payload type have come.
    pub fn count(&self, payload_type: u8) -> usize {
        self.lock().streams.get(&payload_type).map_or(0, |stream| stream.packets.len())
    }

    /// Asks for a keyframe of a stream that has come.
    pub fn request_keyframe(&self, payload_type: u8) {
        self.lock().plis.push_back(payload_type);
    }

    /// Ends the connection as a page does that is closed: by DTLS's close_notify, and no other word.
    pub fn hang_up(&self) {
        self.runtime.block_on(self.connection.close()).expect("the end");
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("lock")
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if let Some(runtime) = self.own.take() {
            runtime.shutdown_background();
        }
    }
}

/// The payload type of each format's retransmissions in a description, and the format's.
fn repairs(description: &str) -> HashMap<u8, u8> {
    let formats = description.lines().filter_map(|line| line.strip_prefix("a=fmtp:")?.split_once(" apt="));
    formats.filter_map(|(repairs, media)| Some((repairs.parse().ok()?, media.trim().parse().ok()?))).collect()
}

async fn prepare(
    wants: &Wants,
    theirs: Option<&str>,
    connected: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
) -> (Arc<dyn PeerConnection>, String) {
    let mut engine = MediaEngine::default();
    for (name, payload_type, fmtp) in &wants.formats {
        let is_video = name.starts_with("video");
        let kind = if is_video { RtpCodecKind::Video } else { RtpCodecKind::Audio };
        let mut rtcp_feedback = Vec::new();
        let mut add = |typ: &str, parameter: &str| {
            rtcp_feedback.push(RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() });
        };
        if is_video {
            add("nack", "pli");
            if wants.nack {
                add("nack", "");
            }
        }
        if wants.transport_cc {
            add("transport-cc", "");
        }
        let rtp_codec = RTCRtpCodec {
            mime_type: (*name).to_owned(),
            clock_rate: match *name {
                "audio/opus" => 48_000,
                "audio/PCMU" | "audio/PCMA" => 8_000,
                _ => 90_000,
            },
            channels: if *name == "audio/opus" { 2 } else { u16::from(!is_video) },
            sdp_fmtp_line: (*fmtp).to_owned(),
            rtcp_feedback,
        };
        let clock_rate = rtp_codec.clock_rate;
        engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type: *payload_type }, kind).expect("a codec");
        if is_video && wants.rtx {
            let rtp_codec = RTCRtpCodec {
                mime_type: "video/rtx".to_owned(),
                clock_rate,
                channels: 0,
                sdp_fmtp_line: format!("apt={payload_type}"),
                rtcp_feedback: Vec::new(),
            };
            engine
                .register_codec(RTCRtpCodecParameters { rtp_codec, payload_type: payload_type + 1 }, kind)
                .expect("a codec");
            heard.lock().expect("lock").repairs.insert(payload_type + 1, *payload_type);
        }
    }
    if let Some(theirs) = theirs {
        // Who offers chooses the numbers.
        heard.lock().expect("lock").repairs = repairs(theirs);
    }
    let mut registry = configure_rtcp_reports(Registry::new());
    if wants.transport_cc {
        registry = configure_twcc_receiver_only(registry, &mut engine).expect("transport-wide reports");
    }
    let ear = Ear { heard, read: VecDeque::new(), write: VecDeque::new() };
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build();
    let (gathered, gathered_out) = tokio::sync::oneshot::channel();
    let handler = Handler { connected, gathered: Mutex::new(Some(gathered)) };
    let address = if wants.path.is_some() { "0.0.0.0:0" } else { "127.0.0.1:0" };
    let tokio: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let runtime = wants.on.as_ref().map_or(tokio, |(_, runtime)| runtime.clone());
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(registry.with(Slot::from(4000), ear))
        .with_setting_engine(settings)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec![address.to_owned()])
        .with_runtime(runtime)
        .build();
    let connection: Arc<dyn PeerConnection> = Arc::new(Box::pin(connection).await.expect("a connection"));
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let name = if kind == RtpCodecKind::Audio { "audio" } else { "video" };
        if theirs.is_none() && wants.formats.iter().any(|(format, _, _)| format.starts_with(name)) {
            let receive =
                RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            connection.add_transceiver_from_kind(kind, Some(receive)).await.expect("a transceiver");
        }
    }
    let offer = match theirs {
        Some(theirs) => {
            let theirs = RTCSessionDescription::offer(theirs.to_owned()).expect("their offer");
            connection.set_remote_description(theirs).await.expect("a good offer");
            connection.create_answer(None).await.expect("an answer")
        }
        None => connection.create_offer(None).await.expect("an offer"),
    };
    connection.set_local_description(offer).await.expect("a local description");
    let _ = tokio::time::timeout(Duration::from_secs(2), gathered_out).await;
    let offer = connection.local_description().await.expect("a local description").sdp;
    let offer = if wants.path.is_some() {
        let keeps = |line: &&str| !(line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates"));
        offer.lines().filter(keeps).flat_map(|line| [line, "\r\n"]).collect()
    } else {
        offer
    };
    (connection, offer)
}

/// Next to the wire: keeps what comes, asks for what does not.
struct Ear {
    heard: Arc<Mutex<Heard>>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

const TICK: Duration = Duration::from_millis(20);

impl Heard {
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

struct Handler {
    connected: Arc<AtomicBool>,
    gathered: Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.connected.store(state == RTCPeerConnectionState::Connected, SeqCst);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete
            && let Some(gathered) = self.gathered.lock().expect("lock").take()
        {
            let _ = gathered.send(());
        }
    }
}
