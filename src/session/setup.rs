//! How a connection of the stack comes to be: on the shared port, described so that a peer can reach it, and heard.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use webrtc::{
    data_channel::DataChannel as StackChannel,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngine,
    },
};

use super::{
    candidates,
    connection::{SessionConfig, SessionError},
    data::{self, Channels},
    mux::{IceCredentials, MuxHandle},
    reach,
};

/// Gathering is a placeholder on loopback for each family; longer than this means that the machine has no loopback.
const GATHERING: Duration = Duration::from_secs(1);

/// A connection on the shared port, and what routes to it.
pub(super) async fn build(
    config: &SessionConfig,
    settings: SettingEngine,
    engine: MediaEngine,
    registry: Registry,
    handler: Handler,
) -> Result<(Arc<dyn PeerConnection>, MuxHandle), SessionError> {
    let runtime = config.mux.runtime();
    let routes = runtime.handle();
    let building = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(registry)
        .with_setting_engine(settings)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(config.mux.placeholders())
        .with_data_channel_send_buffer_limit(data::IN_FLIGHT)
        .with_runtime(Arc::new(runtime))
        .build();
    Ok((Arc::new(Box::pin(building).await?), routes)) // boxed: 20 KB
}

/// A local description that a peer can reach us by.
pub(super) struct Announced {
    pub(super) sdp: String,
    /// Its candidates, as `candidate:…`.
    pub(super) candidates: Vec<String>,
}

/// Makes a local description reachable: its requests are routed here, its candidates are the shared port's.
pub(super) fn announce(config: &SessionConfig, routes: &MuxHandle, sdp: &str, peer_is_local: bool) -> Announced {
    if let Some(credentials) = IceCredentials::of_description(sdp) {
        routes.add_credentials(credentials);
    }
    let addresses = candidates::announced(&config.public_addresses, peer_is_local, config.mux.is_dual_stack());
    let candidates = reach::lines(config.reach.as_deref(), &addresses, config.mux.port());
    Announced { sdp: candidates::rewrite(sdp, &candidates), candidates }
}

/// Takes an offer and makes the answer, with its placeholder candidates.
pub(super) async fn describe(
    connection: &dyn PeerConnection,
    offer: &str,
    gathered: oneshot::Receiver<()>,
) -> Result<String, SessionError> {
    connection.set_remote_description(RTCSessionDescription::offer(offer.to_owned())?).await?;
    let answer = connection.create_answer(None).await?;
    gathered_description(connection, answer, gathered).await
}

/// Sets a local description and returns it with its placeholder candidates.
pub(super) async fn gathered_description(
    connection: &dyn PeerConnection,
    description: RTCSessionDescription,
    gathered: oneshot::Receiver<()>,
) -> Result<String, SessionError> {
    connection.set_local_description(description).await?;
    let _ = tokio::time::timeout(GATHERING, gathered).await;
    let description = connection.local_description().await;
    description.map(|description| description.sdp).ok_or_else(|| SessionError::Stack("no local description".into()))
}

/// Passes the stack's callbacks on; they run on its driver and must not wait.
pub(super) struct Handler {
    events: mpsc::Sender<RTCPeerConnectionState>,
    gathered: Mutex<Option<oneshot::Sender<()>>>,
    data: Arc<Channels>,
}

impl Handler {
    /// The handler, the states that it passes on, and the end of gathering.
    pub(super) fn new(data: Arc<Channels>) -> (Self, mpsc::Receiver<RTCPeerConnectionState>, oneshot::Receiver<()>) {
        let (events, events_out) = mpsc::channel(16);
        let (gathered, gathered_out) = oneshot::channel();
        (Self { events, gathered: Mutex::new(Some(gathered)), data }, events_out, gathered_out)
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.events.try_send(state);
    }

    async fn on_data_channel(&self, channel: Arc<dyn StackChannel>) {
        self.data.arrived(channel);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete
            && let Some(gathered) = self.gathered.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            let _ = gathered.send(());
        }
    }
}
