//! ICE between the session, which knows no HTTP, and signaling, which knows no peer connections.

use crate::{
    session::{LocalIce, RemoteCandidate, RemoteIce},
    signaling::{IceCandidate, IceCredentials, IceFragment},
};

/// What a peer's fragment tells the session.
pub(super) fn told(fragment: IceFragment) -> RemoteIce {
    let (ufrag, password) = fragment.credentials.map(|c| (c.ufrag, c.password)).unzip();
    let candidates = fragment.candidates.into_iter().map(|c| RemoteCandidate { mid: c.mid, line: c.line }).collect();
    RemoteIce { ufrag, password: password.flatten(), candidates }
}

/// What the session tells its peer; there is nothing to follow.
pub(super) fn ours(ice: LocalIce) -> IceFragment {
    let LocalIce { ufrag, password, mid, candidates } = ice;
    IceFragment {
        credentials: Some(IceCredentials { ufrag, password: Some(password) }),
        candidates: candidates.into_iter().map(|line| IceCandidate { mid: mid.clone(), line }).collect(),
        end_of_candidates: true,
    }
}
