//! A session: how one is made from an offer, and the handle on it.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
    RTCSessionDescription,
};

use super::{
    ConnectionState, EndReason, KeyframeControl, KeyframePolicy, PacketSink, candidates,
    mux::{IceCredentials, Mux},
    negotiate::{CodecPreferences, NegotiationError, Track, negotiate},
    rtt,
    stack::{interceptors, media_engine, settings},
    stats::{self, SessionStats},
    tap::{MediaTap, TapState},
    watcher::Watcher,
};
use crate::codec::MediaKind;

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
        let registry = interceptors(&mut engine, MediaTap::new(offer, tracks.clone(), sink.clone(), tap.clone()))?;
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
        tokio::spawn(rtt::measure(Arc::downgrade(&watcher.connection), tap.clone()));
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
        stats::snapshot(&self.shared.tap, &self.shared.tracks, Instant::now())
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
