//! A viewer on the webrtc crate: offers to receive, keeps every packet that comes, asks for what is missing, and can be told
//! to ask for keyframes. It unwraps retransmissions by itself and knows no jitter buffer.

mod ear;
mod stream;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use rtc::{
    ice::mdns::MulticastDnsMode,
    interceptor::Slot,
    rtp_transceiver::{
        RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind},
    },
};
use webrtc::{
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, configure_rtcp_reports,
        configure_twcc_receiver_only,
    },
    runtime::{Runtime, TokioRuntime},
};

use super::{SOON, lossy::LossyPath, wait_until};
use ear::{Ear, Heard};

#[allow(unused_imports)] // each test file uses its own part of it
pub use stream::{Got, Stream, pictures};

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
        let heard = Arc::new(Mutex::new(Heard::asking(wants.nack)));
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
        .with_interceptor_registry(registry.with(Slot::from(4000), Ear::new(heard)))
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
