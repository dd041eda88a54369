//! A session as its URL sees it: between signaling, which knows no peer connections, and the session, which knows no HTTP.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;

use crate::{
    session::{
        EndReason, IceChange, IceError, LocalIce, NegotiationError, RemoteCandidate, RemoteIce, Session, SessionError,
    },
    signaling::{
        AnswerError, IceCandidate, IceCredentials, IceFragment, IceRefused, IceUpdated, SessionId, SignaledSession,
    },
};

/// A session behind its URL.
pub(crate) struct Signaled {
    session: Session,
    id: SessionId,
    restarts: AtomicU64,
}

impl Signaled {
    pub(crate) fn new(session: Session, id: SessionId) -> Self {
        Self { session, id, restarts: AtomicU64::new(0) }
    }

    /// The name of a session's first ICE session.
    pub(crate) fn first_tag(id: &SessionId) -> String {
        format!("{id} 0")
    }
}

#[async_trait]
impl SignaledSession for Signaled {
    async fn close(&self) {
        self.session.close(EndReason::ClosedByPeer).await;
    }

    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        match self.session.update_ice(told(fragment)).await? {
            IceChange::Trickled => Ok(IceUpdated::Trickled),
            IceChange::Restarted(ice) => {
                self.restarts.fetch_add(1, Relaxed);
                Ok(IceUpdated::Restarted(ours(ice)))
            }
        }
    }

    fn ice_session_tag(&self) -> String {
        format!("{} {}", self.id, self.restarts.load(Relaxed))
    }
}

/// What a peer's fragment tells the session.
pub(crate) fn told(fragment: IceFragment) -> RemoteIce {
    let (ufrag, password) = fragment.credentials.map(|c| (c.ufrag, c.password)).unzip();
    let candidates = fragment.candidates.into_iter().map(|c| RemoteCandidate { mid: c.mid, line: c.line }).collect();
    RemoteIce { ufrag, password: password.flatten(), candidates }
}

/// What the session tells its peer; there is nothing to follow.
pub(crate) fn ours(ice: LocalIce) -> IceFragment {
    let LocalIce { ufrag, password, mid, candidates } = ice;
    IceFragment {
        credentials: Some(IceCredentials { ufrag, password: Some(password) }),
        candidates: candidates.into_iter().map(|line| IceCandidate { mid: mid.clone(), line }).collect(),
        end_of_candidates: true,
    }
}

impl From<SessionError> for AnswerError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Negotiation(NegotiationError::Malformed(why)) => Self::Malformed(why),
            SessionError::Negotiation(NegotiationError::Unacceptable(why)) => Self::Unacceptable(why),
            SessionError::Unreachable(why) => Self::Unavailable(format!("no peer can reach this machine now: {why}")),
            // What gets this far is SDP; that the stack does not take it is most likely the offer's fault.
            SessionError::Stack(why) => Self::Malformed(why),
        }
    }
}

impl From<IceError> for IceRefused {
    fn from(error: IceError) -> Self {
        match error {
            IceError::Stale => Self::Stale,
            IceError::Malformed(why) => Self::Malformed(why),
            IceError::Refused(_) => Self::Unacceptable(error.to_string()),
            IceError::Over => Self::Over,
        }
    }
}
