//! Watches one connection until it is over: connected in time, gone silent, closed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use webrtc::peer_connection::{PeerConnection, RTCPeerConnectionState};

use super::{ConnectionState, EndReason, PacketSink};

/// ICE sees a disconnect after 3 s of silence; after so much more the peer is given up.
pub(super) const DISCONNECTED_FOR: Duration = Duration::from_secs(4);

/// Owns the connection until the session is over.
pub(super) struct Watcher {
    pub(super) connection: Arc<dyn PeerConnection>,
    pub(super) sink: Arc<dyn PacketSink>,
    pub(super) state: watch::Sender<ConnectionState>,
    pub(super) events: mpsc::Receiver<RTCPeerConnectionState>,
    pub(super) close: mpsc::Receiver<(EndReason, oneshot::Sender<()>)>,
}

impl Watcher {
    pub(super) async fn run(mut self, deadline: Instant, guard: impl Send + 'static) {
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
