//! Watches one connection until it is over: connected in time, gone silent, back again, closed.
//!
//! A peer that falls silent is given up after seconds, as far as anyone outside can see. The connection itself is kept for
//! [`LINGER`] more, so that the peer can come back: by itself while its consent lasts, or by an ICE restart.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use webrtc::peer_connection::{PeerConnection, RTCPeerConnectionState};

use super::{
    ConnectionState, EndReason, IceChange, PacketSink, commands::Command, data::Channels, ice_side::IceSide,
    stack::ICE_DISCONNECTED, time,
};

/// ICE sees a disconnect after 3 s of silence; after so much more the peer is given up.
pub(super) const DISCONNECTED_FOR: Duration = Duration::from_secs(4);

/// How long a peer that was given up may come back: somebody changes networks, or drives through a tunnel.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// Nothing is sent to a peer that has been silent for so long (RFC 7675 section 5.1). It was given up before.
const CONSENT: Duration = Duration::from_secs(30);
const CONSENT_AFTER_GIVEN_UP: Duration = CONSENT.saturating_sub(ICE_DISCONNECTED).saturating_sub(DISCONNECTED_FOR);

/// Owns the connection until the session is over.
pub(super) struct Watcher {
    pub(super) connection: Arc<dyn PeerConnection>,
    pub(super) ice: IceSide,
    pub(super) data: Arc<Channels>,
    pub(super) sink: Arc<dyn PacketSink>,
    pub(super) state: watch::Sender<ConnectionState>,
    pub(super) events: mpsc::Receiver<RTCPeerConnectionState>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) connect_timeout: Duration,
}

/// How it stands with the peer, and until when it may stay so.
enum Phase {
    /// Not connected yet.
    Connecting { until: Instant },
    /// Connected since then. Doubted: its checks and answers get lost, or it makes none, but something else comes. ICE counts
    /// nothing but checks, of which one in ten may be lost each way on a network that carries media well.
    Connected { since: Instant, doubted: bool },
    /// Silent, or restarting, since then. One that is silent and not restarting has been connected since then.
    Interrupted { since: Instant, until: Instant, connected: Option<Instant> },
    /// Given up, but kept: it may come back by itself until its consent has expired, and then by a restart only.
    Lingering { consent: Option<Instant>, until: Instant },
}

/// The last word on a session.
struct End {
    reason: EndReason,
    /// Whoever asked for it; answered by being dropped.
    asked: Option<oneshot::Sender<()>>,
    /// The sink has been told already.
    told: bool,
}

impl Watcher {
    pub(super) async fn run(mut self, guard: impl Send + 'static) {
        self.sink.state_changed(ConnectionState::Connecting);
        let end = self.until_the_end().await;
        // What was said last is heard by whoever is still there.
        if end.reason == EndReason::Shutdown && *self.state.borrow() == ConnectionState::Connected {
            self.data.flushed().await;
        }
        self.data.end();
        // Dropping a connection does not stop it. One that has failed may do so again.
        match AssertUnwindSafe(self.connection.close()).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "closing a connection"),
            Err(_) => tracing::error!("the WebRTC stack has failed at the end of a session"),
        }
        let failed = matches!(
            end.reason,
            EndReason::ConnectTimeout | EndReason::ConnectionLost | EndReason::Flooded | EndReason::StackFailed
        );
        self.enter(if failed { ConnectionState::Failed } else { ConnectionState::Closed });
        if !end.told {
            self.sink.ended(end.reason);
        }
        drop(guard);
        drop(end.asked); // later askers find the channel closed
    }

    async fn until_the_end(&mut self) -> End {
        let mut phase = Phase::Connecting { until: time::now() + self.connect_timeout };
        loop {
            let lingers = matches!(phase, Phase::Lingering { .. });
            let end = |reason, asked| End { reason, asked, told: lingers };
            let deadline = match phase {
                Phase::Connected { since, doubted } => {
                    let consent = self.consent_until(since);
                    Some(if doubted { self.silent_from().unwrap_or(consent).min(consent) } else { consent })
                }
                Phase::Connecting { until } | Phase::Interrupted { until, .. } => Some(until),
                Phase::Lingering { consent, until } => Some(consent.unwrap_or(until)),
            };
            tokio::select! {
                biased;
                () = self.ice.routes().stopped() => return end(EndReason::StackFailed, None),
                command = self.commands.recv() => match command {
                    None => return end(EndReason::Shutdown, None),
                    Some(Command::Close(reason, done)) => return end(reason, Some(done)),
                    Some(Command::Ice(told, answer)) => {
                        let change = self.ice.tell(&*self.connection, told).await;
                        if matches!(change, Ok(IceChange::Restarted(_))) {
                            phase = self.restarting(phase);
                        }
                        let _ = answer.send(change); // whoever asked may have given up
                    }
                    Some(Command::OfferRestart(answer)) => {
                        let _ = answer.send(self.ice.offer_restart(&*self.connection).await);
                    }
                    Some(Command::NewCandidates(answer)) => _ = answer.send(self.ice.new_candidates()),
                    Some(Command::CandidatesTold) => self.ice.candidates_told(),
                    Some(Command::Reach(reach)) => self.ice.reach_by(&*self.connection, reach).await,
                },
                // By its own word, as a DELETE is: nothing of its media is waited for, and nothing goes out any more.
                () = self.ice.routes().revoked() => return end(EndReason::ClosedByPeer, None),
                () = self.data.flooded() => return end(EndReason::Flooded, None),
                state = self.events.recv() => match state {
                    Some(RTCPeerConnectionState::Connected) => {
                        if lingers {
                            self.sink.resumed();
                        }
                        self.enter(ConnectionState::Connected);
                        // A peer that was only silent for a while has shown no consent by speaking again.
                        let since = match phase {
                            Phase::Connected { since, .. } | Phase::Interrupted { connected: Some(since), .. } => since,
                            _ => time::now(),
                        };
                        phase = Phase::Connected { since, doubted: false };
                    }
                    Some(RTCPeerConnectionState::Disconnected) => {
                        if let Phase::Connected { since, .. } = phase {
                            phase = self.doubting(since);
                        }
                    }
                    Some(RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed) | None => {
                        return end(EndReason::ConnectionLost, None);
                    }
                    Some(_) => {}
                },
                () = at(deadline) => match phase {
                    Phase::Connecting { .. } => return end(EndReason::ConnectTimeout, None),
                    Phase::Lingering { consent: None, .. } => return end(EndReason::ConnectionLost, None),
                    Phase::Lingering { consent: Some(_), until } => {
                        self.ice.routes().consent_expired();
                        phase = Phase::Lingering { consent: None, until };
                    }
                    Phase::Connected { since, doubted } => {
                        // It has been heard, or it would not count as connected; but it says nothing to what it is asked. What
                        // it was sent in this time may have gone to somebody else.
                        if time::now() >= self.consent_until(since) {
                            self.ice.routes().consent_expired();
                            return end(EndReason::ConnectionLost, None);
                        }
                        if doubted {
                            phase = self.doubting(since);
                        }
                    }
                    // ICE tells nothing of a peer that is back with its media alone.
                    Phase::Interrupted { connected: Some(since), .. } if self.is_heard() => {
                        self.enter(ConnectionState::Connected);
                        phase = Phase::Connected { since, doubted: true };
                    }
                    Phase::Interrupted { .. } => {
                        self.enter(ConnectionState::Failed);
                        self.sink.ended(EndReason::ConnectionLost);
                        let now = time::now();
                        phase = Phase::Lingering { consent: Some(now + CONSENT_AFTER_GIVEN_UP), until: now + LINGER };
                    }
                },
            }
        }
    }

    /// The peer has as long to connect anew as it had at first. Further restarts give it no more: requests may come through
    /// where media does not.
    fn restarting(&self, phase: Phase) -> Phase {
        let now = time::now();
        match phase {
            Phase::Connecting { .. } => phase,
            // It may be asked again whether it is there, for as long as a connection takes.
            Phase::Lingering { until, .. } => {
                Phase::Lingering { consent: Some((now + self.connect_timeout).min(until)), until }
            }
            Phase::Connected { .. } => {
                self.enter(ConnectionState::Connecting);
                Phase::Interrupted { since: now, until: now + self.connect_timeout, connected: None }
            }
            Phase::Interrupted { since, .. } => {
                self.enter(ConnectionState::Connecting);
                let until = since + self.connect_timeout.max(DISCONNECTED_FOR);
                Phase::Interrupted { since, until, connected: None }
            }
        }
    }

    /// ICE has heard nothing for [`ICE_DISCONNECTED`]: what becomes of a peer that has been connected since then.
    fn doubting(&self, since: Instant) -> Phase {
        if self.is_heard() {
            return Phase::Connected { since, doubted: true };
        }
        self.enter(ConnectionState::Disconnected);
        let now = time::now();
        Phase::Interrupted { since: now, until: now + DISCONNECTED_FOR, connected: Some(since) }
    }

    /// Whether anything has come from the peer of late.
    fn is_heard(&self) -> bool {
        self.silent_from().is_some_and(|silent| time::now() < silent)
    }

    /// From when on the peer counts as silent, if nothing more comes.
    fn silent_from(&self) -> Option<Instant> {
        self.ice.routes().heard().map(|heard| heard + ICE_DISCONNECTED)
    }

    /// Until when a peer that was connected then may be sent to (RFC 7675 section 5.1).
    fn consent_until(&self, since: Instant) -> Instant {
        let connecting = since + CONSENT;
        self.ice.routes().consent_until().map_or(connecting, |until| until.max(connecting))
    }

    fn enter(&self, state: ConnectionState) {
        if self.state.send_replace(state) != state {
            self.sink.state_changed(state);
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
