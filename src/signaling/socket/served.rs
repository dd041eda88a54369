//! A client's session with the server over `/ws`: a publisher's takes the same path as WHIP's from the offer on, a viewer's
//! that of WHEP's; it is gone with its connection.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::{
    protocol::{Code, LayerEntry, RelayedCandidate, ServerMessage},
    redescribe::{self, Second},
    refused::Refused,
    request::Trickled,
};
use crate::{
    channel::{ChannelId, Credential},
    signaling::{
        answerer::{IceUpdated, SessionId, SessionLease, SignaledSession},
        endpoint::Endpoint,
        fragment::{IceCandidate, IceCredentials, IceFragment},
        rules::Terms,
        table::Place,
        viewing::{LayerLimits, Program, VideoLayer},
        whip::{self, ANSWER_TIMEOUT, Accepted},
    },
};

/// Who publishes or watches, where, and on what he has been answered.
pub(super) struct Served {
    place: Place,
    remote: SocketAddr,
    credential: Credential,
    live: Option<Live>,
}

struct Live {
    id: SessionId,
    session: Arc<dyn SignaledSession>,
    offer: String,
    answer: String,
    /// Comes with the session's end.
    ended: oneshot::Receiver<()>,
    /// What is on, for a viewer.
    program: Option<watch::Receiver<Program>>,
}

/// What a client is to hear of its session.
#[derive(Debug)]
pub(super) enum News {
    /// It has ended by itself, and why.
    Ended(String),
    /// There are other layers.
    Layers(ServerMessage),
}

/// What an offer leads to.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answer: ServerMessage,
    /// They stand in the answer too; clients that wait for them get them.
    pub(super) candidates: Vec<RelayedCandidate>,
}

impl Served {
    pub(super) fn new(endpoint: Arc<Endpoint>, channel: ChannelId, remote: SocketAddr, credential: Credential) -> Self {
        Self { place: Place { endpoint, channel: Some(channel) }, remote, credential, live: None }
    }

    /// Whether it has a session.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Answers an offer: the first, or one that restarts ICE, or that of a peer connection that takes the other's place.
    pub(super) async fn offer(&mut self, sdp: String) -> Result<Answered, Refused> {
        let second = self.live.as_ref().map(|live| redescribe::compare(&live.offer, &sdp)).transpose();
        match second.map_err(|error| Refused::new(Code::BadMessage, format!("sdp: {error}")))? {
            Some(Second::Restart(ice)) => self.restart(sdp, ice).await,
            Some(Second::Changed) => Err(Refused::new(
                Code::Unsupported,
                "a session's tracks cannot change: restart ICE with new credentials, or begin anew with a new peer connection",
            )),
            Some(Second::Another) => {
                // An offer that cannot be answered leaves the one that is there alone.
                whip::check(&self.place, &sdp, Terms::BothWays)?;
                self.close().await;
                self.begin(sdp).await
            }
            None => self.begin(sdp).await,
        }
    }

    async fn begin(&mut self, sdp: String) -> Result<Answered, Refused> {
        let (over, ended) = oneshot::channel();
        let watched = |lease: SessionLease| {
            SessionLease::new(move || {
                drop(lease);
                let _ = over.send(()); // nobody waits once the connection is closed
            })
        };
        let accepted = whip::accept(
            &self.place,
            sdp.clone(),
            self.remote,
            self.credential,
            ANSWER_TIMEOUT,
            Terms::BothWays,
            watched,
        )
        .await?;
        let Accepted { id, sdp: answer, session } = accepted;
        let answered = Answered::new(answer.clone());
        let program = session.viewing().map(|viewing| {
            let mut program = viewing.program();
            program.mark_changed();
            program
        });
        self.live = Some(Live { id, session, offer: sdp, answer, ended, program });
        Ok(answered)
    }

    async fn restart(&mut self, sdp: String, ice: IceFragment) -> Result<Answered, Refused> {
        let live = self.live.as_mut().ok_or_else(no_session)?;
        match live.session.update_ice(ice).await? {
            IceUpdated::Restarted(ours) => {
                live.answer = redescribe::restarted(&live.answer, &ours);
                live.offer = sdp;
                Ok(Answered::new(live.answer.clone()))
            }
            IceUpdated::Trickled => Err(Refused::new(Code::Internal, "the session did not restart ICE")),
        }
    }

    /// Another candidate of the peer.
    pub(super) async fn trickle(&mut self, trickled: Trickled) -> Result<(), Refused> {
        let live = self.live.as_ref().ok_or_else(no_session)?;
        let Trickled { candidate: line, mid, m_line_index, ufrag } = trickled;
        let mid = mid.or_else(|| redescribe::mid_at(&live.offer, m_line_index?));
        let is_last = line.is_empty();
        let fragment = IceFragment {
            credentials: ufrag.map(|ufrag| IceCredentials { ufrag, password: None }),
            candidates: (!is_last).then_some(IceCandidate { mid, line }).into_iter().collect(),
            end_of_candidates: is_last,
        };
        live.session.update_ice(fragment).await?;
        Ok(())
    }

    /// Chooses the most that a viewer gets; returns what there is.
    pub(super) fn choose(&self, layer: Option<usize>) -> Result<ServerMessage, Refused> {
        let viewing = self.live.as_ref().and_then(|live| live.session.viewing()).ok_or_else(no_session)?;
        let layers = layers(&viewing.program().borrow());
        viewing.limit_layers(LayerLimits { layer, ..LayerLimits::default() });
        Ok(layers)
    }

    /// Returns when there is something to be told of the session; never, if there is none.
    pub(super) async fn news(&mut self) -> News {
        let Some(live) = &mut self.live else { return std::future::pending().await };
        let Live { ended, program, .. } = live;
        let layers = async {
            if let Some(program) = program
                && program.changed().await.is_ok()
            {
                return layers(&program.borrow_and_update());
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            _ = ended => {} // an error says the same
            layers = layers => return News::Layers(layers),
        }
        let reason = live.session.end_reason().unwrap_or("ended").to_owned();
        self.live = None;
        News::Ended(reason)
    }

    /// Ends the session, if there is one; returns when the channel is free again.
    pub(super) async fn close(&mut self) {
        if let Some(closing) = self.begin_close() {
            let _ = closing.await; // only the wait ends when whoever waits goes away
        }
    }

    /// In a task of its own: the connection may be gone before the session is.
    fn begin_close(&mut self) -> Option<JoinHandle<()>> {
        let live = self.live.take()?;
        // The URL goes first, so that nobody finds a session that is closing.
        self.place.endpoint.take(self.place.channel.as_ref(), live.id.as_str());
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move { live.session.close().await }))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl Answered {
    fn new(sdp: String) -> Self {
        let candidates = redescribe::candidates(&sdp);
        Self { answer: ServerMessage::Answer { from: None, sdp }, candidates }
    }
}

fn layers(program: &Program) -> ServerMessage {
    let entry = |layer: &VideoLayer| LayerEntry {
        id: layer.index.to_string(),
        height: layer.size.map(|(_, height)| height),
        bitrate: layer.bitrate,
    };
    ServerMessage::Layers { layers: program.layers.iter().map(entry).collect() }
}

fn no_session() -> Refused {
    Refused::new(Code::NotFound, "there is no session yet; send an offer first")
}
