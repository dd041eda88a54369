//! A scripted peer on the webrtc crate, WHIP publisher or the sending end of a WHEP server: it does exactly what its
//! [`Script`] says, well-behaved or not, and keeps what it was told by RTCP.
//!
//! Where a real peer is enough, [`Publisher`](super::publisher::Publisher) (webrtcbin) is the better witness: it shares
//! no code with the bridge.

mod offer;
mod script;
mod sender;

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rtc::{ice::mdns::MulticastDnsMode, interceptor::Slot, rtp};
use webrtc::{
    media_stream::track_local::static_rtp::TrackLocalStaticRTP,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder,
    },
    runtime::TokioRuntime,
};

use self::{
    offer::{capability, extensions, media_engine, streams, tracks},
    sender::{Extensions, Sender, Stream, Wire},
};
#[allow(unused_imports)] // each test file uses its own part of it
pub use self::{
    script::{Keyframes, Layer, Repairs, Reports, Script},
    sender::Heard,
};
use super::{
    SOON,
    whip::{self, Refused, Resource},
};

/// A publisher with an accepted offer. Dropping it is vanishing: its sockets close, nobody is told.
pub struct Peer {
    runtime: Option<tokio::runtime::Runtime>,
    // Gone with the runtime.
    connection: Arc<dyn PeerConnection>,
    sender: Arc<Mutex<Sender>>,
    connected: Arc<AtomicBool>,
    resource: Resource,
    offer: String,
    answer: String,
}

impl Peer {
    /// Publishes and waits for the connection.
    pub fn start(url: &str, script: Script) -> Self {
        let peer = Self::offer(url, script).unwrap_or_else(|r| panic!("refused: {} {}", r.status, r.body));
        peer.wait_connected(SOON);
        peer
    }

    /// Makes an offer and posts it.
    pub fn offer(url: &str, script: Script) -> Result<Self, Refused> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        let (token, path) = (script.token.clone(), script.path.clone());
        let connected = Arc::new(AtomicBool::new(false));
        let (connection, sender, offer) = runtime.block_on(Box::pin(prepare(script, connected.clone())));

        let (resource, answer) = match whip::post(url, token.as_deref(), &offer) {
            Ok(accepted) => accepted,
            Err(refused) => {
                runtime.shutdown_background();
                return Err(refused);
            }
        };
        let routed = path.map_or(answer.clone(), |path| path.reroute(&answer));
        let description = RTCSessionDescription::answer(routed).expect("an answer");
        runtime.block_on(connection.set_remote_description(description)).expect("a good answer");
        Ok(Self { runtime: Some(runtime), connection, sender, connected, resource, offer, answer })
    }

    /// Answers an offer to receive, as a WHEP server does. On a path that is not loopback itself it knows the other side by
    /// what comes that way only.
    pub fn answer(offer: &str, script: Script) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        let path = script.path.clone();
        let connected = Arc::new(AtomicBool::new(false));
        let offer = if path.is_some() { without_candidates(offer) } else { offer.to_owned() };
        let (connection, sender, answer) = runtime.block_on(Box::pin(async {
            let (connection, sender, gathered) = Box::pin(build(script, connected.clone())).await;
            let description = RTCSessionDescription::offer(offer.clone()).expect("an offer");
            connection.set_remote_description(description).await.expect("a good offer");
            let answer = connection.create_answer(None).await.expect("an answer");
            connection.set_local_description(answer).await.expect("a local description");
            let _ = tokio::time::timeout(Duration::from_secs(2), gathered).await;
            let answer = connection.local_description().await.expect("a local description").sdp;
            sender.lock().expect("the sender").described(&answer);
            (connection, sender, answer)
        }));
        let answer = path.map_or(answer.clone(), |path| path.reroute(&answer));
        let resource = Resource::default(); // the player's to end
        Self { runtime: Some(runtime), connection, sender, connected, resource, offer, answer }
    }

    /// Restarts ICE as the answering side: takes these credentials and returns its own. Its candidates are what they were.
    pub fn restart_ice(&self, ufrag: &str, password: &str) -> (String, String) {
        let offer: String = without_candidates(&self.offer)
            .lines()
            .map(|line| match line.split_once(':') {
                Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{ufrag}\r\n"),
                Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{password}\r\n"),
                _ => format!("{line}\r\n"),
            })
            .collect();
        let runtime = self.runtime.as_ref().expect("a runtime");
        let answer = runtime.block_on(async {
            let description = RTCSessionDescription::offer(offer).expect("an offer");
            self.connection.set_remote_description(description).await.expect("a good offer");
            let answer = self.connection.create_answer(None).await.expect("an answer");
            let sdp = answer.sdp.clone();
            self.connection.set_local_description(answer).await.expect("a local description");
            sdp
        });
        let value = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).expect("a value").to_owned();
        (value("a=ice-ufrag:"), value("a=ice-pwd:"))
    }

    /// Waits for ICE and DTLS.
    pub fn wait_connected(&self, deadline: Duration) {
        assert!(self.connects_within(deadline), "waited {deadline:?} in vain for the peer's connection");
    }

    /// Whether ICE and DTLS come about in time.
    pub fn connects_within(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        while !self.connected.load(SeqCst) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.connected.load(SeqCst)
    }

    /// What it offered.
    pub fn offer_sdp(&self) -> &str {
        &self.offer
    }

    /// What the bridge answered.
    pub fn answer_sdp(&self) -> &str {
        &self.answer
    }

    /// What came back by RTCP so far.
    pub fn heard(&self) -> Heard {
        self.sender().heard.clone()
    }

    /// The SSRC of the layer with this rid; of the only video stream with "".
    pub fn ssrc(&self, rid: &str) -> u32 {
        self.sender().video(rid).ssrc
    }

    /// Hashes of the slices of every access unit of a layer that was sent so far (H.264 only).
    pub fn sent(&self, rid: &str) -> Vec<u64> {
        self.sender().video(rid).sent.clone()
    }

    /// The same with the time at which each was sent.
    pub fn sent_when(&self, rid: &str) -> Vec<(u64, Instant)> {
        let mut sender = self.sender();
        let stream = sender.video(rid);
        stream.sent.iter().copied().zip(stream.sent_at.iter().copied()).collect()
    }

    /// Starts or stops a layer, as a browser does when `active` is set or bandwidth changes.
    pub fn set_layer(&self, rid: &str, active: bool) {
        self.sender().video(rid).active = active;
    }

    /// Sends a packet as it is.
    pub fn send(&self, packet: rtp::Packet) {
        self.sender().extra.push_back(packet);
    }

    /// Ends the session as WHIP wants it.
    pub fn delete(self) {
        self.resource.delete();
    }

    /// The same where the session may be over; whether it was not.
    pub fn delete_if_there(self) -> bool {
        self.resource.delete_if_there()
    }

    /// Is gone without a word.
    pub fn vanish(self) {
        drop(self);
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().expect("the sender")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sender {
    /// Takes the ids of header extensions from its description.
    fn extended(&mut self, sdp: &str) {
        let id = |uri: &str| {
            let line = sdp.lines().find(|line| line.starts_with("a=extmap:") && line.ends_with(uri));
            line.and_then(|line| line.split([':', ' ']).nth(1)).and_then(|id| id.parse().ok()).unwrap_or(0)
        };
        self.extensions =
            Extensions { mid: id(":sdes:mid"), rid: id(":rtp-stream-id"), repaired_rid: id(":repaired-rtp-stream-id") };
    }

    /// Sends as its answer says: payload types are the offerer's choice.
    fn described(&mut self, answer: &str) {
        self.extended(answer);
        for stream in &mut self.streams {
            let kind = if stream.is_video { "video" } else { "audio" };
            let section = answer.split("\r\nm=").find(|section| section.starts_with(kind)).expect("a section");
            let formats = section.lines().next().expect("a line").split(' ').skip(3);
            stream.payload_type = formats.filter_map(|format| format.parse().ok()).next().expect("a format");
            // No `mid` extension is needed: the answer names the SSRCs.
            stream.rtx = None;
        }
        self.extensions.mid = 0;
    }

    fn video(&mut self, rid: &str) -> &mut Stream {
        let found = self.streams.iter_mut().find(|stream| stream.is_video && stream.rid.unwrap_or("") == rid);
        found.unwrap_or_else(|| panic!("no layer {rid:?}"))
    }
}

/// The connection with its offer.
async fn prepare(script: Script, connected: Arc<AtomicBool>) -> (Arc<dyn PeerConnection>, Arc<Mutex<Sender>>, String) {
    let (candidates, numbered) = (script.candidates, script.numbered);
    let (connection, sender, gathered) = Box::pin(build(script, connected)).await;
    let offer = connection.create_offer(None).await.expect("an offer");
    connection.set_local_description(offer).await.expect("a local description");
    let _ = tokio::time::timeout(Duration::from_secs(2), gathered).await;
    let offer = connection.local_description().await.expect("a local description").sdp;
    sender.lock().expect("the sender").extended(&offer);
    let offer = if candidates { offer } else { without_candidates(&offer) };
    // add_transceiver offers both directions; publishers offer one.
    let lines = offer.lines().filter(|line| numbered || !line.starts_with("a=ssrc"));
    let offer = lines.map(|line| line.replace("a=sendrecv", "a=sendonly") + "\r\n").collect();
    (connection, sender, offer)
}

fn without_candidates(sdp: &str) -> String {
    let keeps = |line: &&str| !(line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates"));
    sdp.lines().filter(keeps).flat_map(|line| [line, "\r\n"]).collect()
}

type Gathered = tokio::sync::oneshot::Receiver<()>;

/// The connection with what it will send, before it is known to whom.
async fn build(script: Script, connected: Arc<AtomicBool>) -> (Arc<dyn PeerConnection>, Arc<Mutex<Sender>>, Gathered) {
    let streams = streams(&script);
    let mut engine = media_engine(&script);
    for (kind, uri) in extensions(&script) {
        engine.register_header_extension(capability(uri), kind, None).expect("an extension");
    }
    let tracks = tracks(&script, &streams);
    let wildcard = script.path.is_some();
    let sender = Arc::new(Mutex::new(Sender {
        script,
        streams,
        extensions: Extensions::default(),
        heard: Heard::default(),
        extra: Default::default(),
        started: None,
    }));
    let settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build();
    let (gathered, gathered_out) = tokio::sync::oneshot::channel();
    let handler = Handler { connected, gathered: Mutex::new(Some(gathered)) };
    // A lossy path is not on loopback where there is another interface.
    let address = if wildcard { "0.0.0.0:0" } else { "127.0.0.1:0" };
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(Registry::new().with(Slot::from(4000), Wire::new(sender.clone())))
        .with_setting_engine(settings)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec![address.to_owned()])
        .with_runtime(Arc::new(TokioRuntime))
        .build();
    let connection: Arc<dyn PeerConnection> = Arc::new(Box::pin(connection).await.expect("a connection"));
    for track in tracks {
        connection.add_track(Arc::new(TrackLocalStaticRTP::new(track))).await.expect("a track");
    }
    (connection, sender, gathered_out)
}

/// Notes what the connection tells.
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
