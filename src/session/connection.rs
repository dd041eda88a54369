//! A session's life: answer, watch, end.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpHeaderExtensionCapability, RtpCodecKind};
use rtc::{ice::mdns::MulticastDnsMode, interceptor::NackGeneratorBuilder, interceptor::Slot};
use tokio::sync::{mpsc, oneshot, watch};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngine, SettingEngineBuilder,
    configure_rtcp_reports, configure_simulcast_extension_headers, configure_twcc_receiver_only,
};

use super::{
    ConnectionState, EndReason, KeyframeControl, KeyframePolicy, PacketSink, candidates,
    mux::{IceCredentials, Mux},
    negotiate::{CodecPreferences, NegotiationError, Track, negotiate},
    rtx::{self, RtxUnwrap},
    tap::{self, MediaTap, TapState},
};
use crate::codec::MediaKind;

/// 20 ms and 70 tries: a loopback connect takes 25 ms instead of 205, and a peer has 1.4 s for each candidate as before.
const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(20);
const ICE_CHECKS: u16 = 70;
/// A peer that vanishes is noticed within 10 s: ICE looks every 2 s (its keepalive) and sees a disconnect after 3 s of
/// silence, and we give up 4 s later.
const ICE_DISCONNECTED: Duration = Duration::from_secs(3);
const DISCONNECTED_FOR: Duration = Duration::from_secs(4);
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);
/// Recovery in 34 ms (p50) instead of 70 at 5 % loss and 20 ms round trip.
const NACK_INTERVAL: Duration = Duration::from_millis(20);
/// Gathering is one placeholder on loopback; longer than this means that the machine has no loopback.
const GATHERING: Duration = Duration::from_secs(1);

/// How sessions of one endpoint are made.
#[derive(Clone)]
pub struct SessionConfig {
    /// The UDP port for media, shared by all sessions.
    pub mux: Arc<Mux>,
    /// What may be answered with.
    pub codecs: CodecPreferences,
    /// Addresses to announce in place of this machine's; empty for these.
    pub public_addresses: Vec<IpAddr>,
    /// How long the peer has from the answer to being connected.
    pub connect_timeout: Duration,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The offer's fault.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The stack's: what it said of the offer, or of itself.
    #[error("{0}")]
    Stack(String),
}

impl From<webrtc::error::Error> for SessionError {
    fn from(error: webrtc::error::Error) -> Self {
        Self::Stack(error.to_string())
    }
}

/// A session and its answer.
pub struct Answered {
    /// The session.
    pub session: Session,
    /// The SDP answer, with candidates.
    pub sdp: String,
    /// What will be received.
    pub tracks: Vec<Track>,
}

/// A handle on a session; the session itself lives on the media runtime until it ends.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    tap: Arc<TapState>,
    tracks: Vec<Track>,
    state: watch::Receiver<ConnectionState>,
    close: mpsc::Sender<(EndReason, oneshot::Sender<()>)>,
}

/// A snapshot of what a session has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// RTP packets, without duplicates.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// RTP packets that belong to no track, or to a second stream of one (a simulcast layer that is not used).
    pub ignored: u64,
    /// Keyframe requests sent.
    pub keyframe_requests: u64,
    /// Whether a keyframe is being waited for.
    pub waiting_for_keyframe: bool,
}

impl Session {
    /// Answers an offer. Must run on the runtime that reads the mux; everything of the session then does.
    ///
    /// `peer_is_local`: the request came over loopback. `make_sink` gets the tracks and says where their packets go;
    /// `guard` is dropped when the session has ended, however it ends.
    pub async fn answer(
        config: &SessionConfig,
        offer: &str,
        peer_is_local: bool,
        make_sink: impl FnOnce(&[Track]) -> Arc<dyn PacketSink>,
        guard: impl Send + 'static,
    ) -> Result<Answered, SessionError> {
        let tracks = negotiate(offer, &config.codecs)?;
        let sink = make_sink(&tracks);
        let tap = Arc::new(TapState::new(tracks.len()));
        let (events, events_out) = mpsc::channel(16);
        let (gathered, gathered_out) = oneshot::channel();
        let handler = Handler { events, gathered: Mutex::new(Some(gathered)) };
        let credentials = IceCredentials::random();
        let mut engine = media_engine(&tracks)?;
        let registry = interceptors(&mut engine, MediaTap::new(tracks.clone(), sink.clone(), tap.clone()))?;
        let building = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings(&credentials, config.connect_timeout))
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec!["127.0.0.1:0".to_owned()]) // a placeholder, see MuxRuntime
            .with_runtime(Arc::new(config.mux.runtime(credentials)))
            .build();
        let connection: Arc<dyn PeerConnection> = Arc::new(Box::pin(building).await?); // boxed: 20 KB
        let sdp = match describe(&*connection, offer, gathered_out).await {
            Ok(sdp) => sdp,
            Err(error) => {
                let _ = connection.close().await;
                return Err(error);
            }
        };
        let addresses = candidates::announced(&config.public_addresses, peer_is_local);
        let sdp = candidates::rewrite(&sdp, &addresses, config.mux.port());

        let (state, state_out) = watch::channel(ConnectionState::Connecting);
        let (close, close_out) = mpsc::channel(4);
        let watcher = Watcher { connection, sink, state, events: events_out, close: close_out };
        let deadline = Instant::now() + config.connect_timeout;
        tokio::spawn(watcher.run(deadline, guard));
        let shared = Shared { tap, tracks: tracks.clone(), state: state_out, close };
        Ok(Answered { session: Self { shared: Arc::new(shared) }, sdp, tracks })
    }

    /// Ends the session; returns when it has ended.
    pub async fn close(&self, reason: EndReason) {
        let (done, ended) = oneshot::channel();
        if self.shared.close.send((reason, done)).await.is_ok() {
            let _ = ended.await;
        }
    }

    /// The state of its connection.
    pub fn state(&self) -> ConnectionState {
        *self.shared.state.borrow()
    }

    /// When the last media packet came; `None` before the first.
    pub fn last_media(&self) -> Option<Instant> {
        self.shared.tap.last_media()
    }

    /// Asks for keyframes of all video tracks.
    pub fn request_keyframes(&self) {
        for track in self.shared.tracks.iter().filter(|track| track.kind() == MediaKind::Video) {
            self.request_keyframe(track.index);
        }
    }

    /// What it has received so far.
    pub fn stats(&self) -> SessionStats {
        let tap = &self.shared.tap;
        let waiting = |track: &Track| {
            track.kind() == MediaKind::Video && tap.with_policy(track.index, |policy| policy.is_waiting()) == Some(true)
        };
        SessionStats {
            packets: tap.packets.load(Relaxed),
            bytes: tap.bytes.load(Relaxed),
            ignored: tap.ignored.load(Relaxed),
            keyframe_requests: tap.keyframe_requests.load(Relaxed),
            waiting_for_keyframe: self.shared.tracks.iter().any(waiting),
        }
    }
}

impl KeyframeControl for Session {
    fn request_keyframe(&self, track: usize) {
        self.shared.tap.with_keyframes(track, KeyframePolicy::want);
    }

    fn keyframe_arrived(&self, track: usize) {
        self.shared.tap.with_keyframes(track, KeyframePolicy::arrived);
    }
}

/// The codecs of the tracks and nothing else, so that the answer names one for each.
fn media_engine(tracks: &[Track]) -> Result<MediaEngine, SessionError> {
    let mut engine = MediaEngine::default();
    for track in tracks {
        let kind = match track.kind() {
            MediaKind::Audio => RtpCodecKind::Audio,
            MediaKind::Video => RtpCodecKind::Video,
        };
        for parameters in track.codec_parameters() {
            engine.register_codec(parameters, kind)?;
        }
    }
    Ok(engine)
}

/// From the wire to the application: RTX unwrapped, losses asked for, arrivals reported, media tapped.
fn interceptors(engine: &mut MediaEngine, tap: MediaTap) -> Result<Registry, SessionError> {
    configure_simulcast_extension_headers(engine)?;
    engine.register_header_extension(
        RTCRtpHeaderExtensionCapability { uri: rtc::sdp::extmap::SDES_MID_URI.to_owned() },
        RtpCodecKind::Audio,
        None,
    )?;
    let registry = configure_twcc_receiver_only(configure_rtcp_reports(Registry::new()), engine)?;
    let nack = NackGeneratorBuilder::new().with_interval(NACK_INTERVAL).with_size(1024).with_max_nacks_per_packet(20);
    Ok(registry.with(Slot::NackGenerator, nack.build()).with(rtx::slot(), RtxUnwrap::default()).with(tap::slot(), tap))
}

fn settings(credentials: &IceCredentials, connect_timeout: Duration) -> SettingEngine {
    // ICE would fail a peer that has not connected after the sum of both; the watcher's own times are to be the shorter.
    let failed = connect_timeout.max(DISCONNECTED_FOR) + ICE_KEEPALIVE;
    SettingEngineBuilder::new()
        .with_ice_credentials(credentials.ufrag.clone(), credentials.password.clone())
        .with_ice_connection_attempts(Some(ICE_CHECK_INTERVAL), Some(ICE_CHECKS))
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(failed), Some(ICE_KEEPALIVE))
        .with_include_loopback_candidate(true)
        // It would bind port 5353, and ask the mux for a socket of its own.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build()
}

async fn describe(
    connection: &dyn PeerConnection,
    offer: &str,
    gathered: oneshot::Receiver<()>,
) -> Result<String, SessionError> {
    connection.set_remote_description(RTCSessionDescription::offer(offer.to_owned())?).await?;
    let answer = connection.create_answer(None).await?;
    connection.set_local_description(answer).await?;
    let _ = tokio::time::timeout(GATHERING, gathered).await;
    let description = connection.local_description().await;
    description.map(|description| description.sdp).ok_or_else(|| SessionError::Stack("no local description".into()))
}

/// Passes the stack's callbacks on; they run on its driver and must not wait.
struct Handler {
    events: mpsc::Sender<RTCPeerConnectionState>,
    gathered: Mutex<Option<oneshot::Sender<()>>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.events.try_send(state);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete
            && let Some(gathered) = self.gathered.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            let _ = gathered.send(());
        }
    }
}

/// Owns the connection until the session is over.
struct Watcher {
    connection: Arc<dyn PeerConnection>,
    sink: Arc<dyn PacketSink>,
    state: watch::Sender<ConnectionState>,
    events: mpsc::Receiver<RTCPeerConnectionState>,
    close: mpsc::Receiver<(EndReason, oneshot::Sender<()>)>,
}

impl Watcher {
    async fn run(mut self, deadline: Instant, guard: impl Send + 'static) {
        self.sink.state_changed(ConnectionState::Connecting);
        let (reason, asked) = self.until_the_end(deadline).await;
        // Dropping a connection does not stop it.
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing a connection");
        }
        let failed = matches!(reason, EndReason::ConnectTimeout | EndReason::ConnectionLost);
        self.enter(if failed { ConnectionState::Failed } else { ConnectionState::Closed });
        self.sink.ended(reason);
        drop(guard);
        drop(asked); // answers whoever asked; later askers find the channel closed
    }

    async fn until_the_end(&mut self, deadline: Instant) -> (EndReason, Option<oneshot::Sender<()>>) {
        let mut connected = false;
        let mut give_up = deadline;
        loop {
            tokio::select! {
                asked = self.close.recv() => {
                    return asked.map_or((EndReason::Shutdown, None), |(reason, done)| (reason, Some(done)));
                }
                () = tokio::time::sleep_until(give_up.into()), if self.is_waiting(connected) => {
                    let reason = if connected { EndReason::ConnectionLost } else { EndReason::ConnectTimeout };
                    return (reason, None);
                }
                state = self.events.recv() => match state {
                    Some(RTCPeerConnectionState::Connected) => {
                        connected = true;
                        self.enter(ConnectionState::Connected);
                    }
                    Some(RTCPeerConnectionState::Disconnected) => {
                        give_up = Instant::now() + DISCONNECTED_FOR;
                        self.enter(ConnectionState::Disconnected);
                    }
                    Some(RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed) | None => {
                        return (EndReason::ConnectionLost, None);
                    }
                    Some(_) => {}
                },
            }
        }
    }

    /// Whether time is running out: nobody has connected yet, or the peer has gone silent.
    fn is_waiting(&self, connected: bool) -> bool {
        !connected || *self.state.borrow() == ConnectionState::Disconnected
    }

    fn enter(&self, state: ConnectionState) {
        if self.state.send_replace(state) != state {
            self.sink.state_changed(state);
        }
    }
}
