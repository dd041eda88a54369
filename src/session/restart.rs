//! Tells the stack what the peer's ICE has become: candidates are added, a restart is the old offer with new credentials.

use std::sync::Arc;

use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription};

use super::{
    IceChange, IceError, LocalIce, RemoteIce,
    ice::{Generations, Kind, restarted},
    mux::{IceCredentials, MuxHandle},
    reach::Reach,
    remote_candidates::RemoteCandidates,
};

/// One connection's ICE, as far as it changes after the answer.
pub(super) struct IceAgent {
    offer: String,
    generations: Generations,
    remote: RemoteCandidates,
    routes: MuxHandle,
    local_candidates: Vec<String>,
    reach: Option<Arc<Reach>>,
}

impl IceAgent {
    /// For a connection that answered this offer, with these candidates.
    pub(super) fn new(
        offer: &str,
        remote: RemoteCandidates,
        routes: MuxHandle,
        local_candidates: Vec<String>,
        reach: Option<Arc<Reach>>,
    ) -> Self {
        let generations = Generations::of_offer(offer);
        Self { offer: offer.to_owned(), generations, remote, routes, local_candidates, reach }
    }

    pub(super) fn routes(&self) -> &MuxHandle {
        &self.routes
    }

    /// Does what the peer wants. On an error nothing has changed.
    pub(super) async fn tell(
        &mut self,
        connection: &dyn PeerConnection,
        told: RemoteIce,
    ) -> Result<IceChange, IceError> {
        let kind = self.generations.kind_of(&told)?;
        check(&told)?;
        match kind {
            Kind::Trickle => {
                for candidate in ways(self.reach.as_deref(), admitted(&mut self.remote, &told), false) {
                    let candidate = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
                    if let Err(error) = connection.add_ice_candidate(candidate).await {
                        tracing::debug!(%error, "a trickled candidate was not taken");
                    }
                }
                Ok(IceChange::Trickled)
            }
            Kind::Restart { ufrag, password } => {
                let mut remote = self.remote.restarted();
                let candidates = ways(self.reach.as_deref(), admitted(&mut remote, &told), false);
                let offer = restarted(&self.offer, &ufrag, &password, &candidates);
                let answer = renegotiate(connection, offer).await.map_err(|e| IceError::Refused(e.to_string()))?;
                let local = IceCredentials::of_description(&answer)
                    .ok_or_else(|| IceError::Refused("the new answer has no credentials".into()))?;
                let ours = self.local(&local);
                self.routes.add_credentials(local);
                self.routes.set_remote_password(password.clone());
                self.generations.replace(ufrag, password);
                self.remote = remote;
                Ok(IceChange::Restarted(ours))
            }
        }
    }

    fn local(&self, credentials: &IceCredentials) -> LocalIce {
        let mid = self.offer.lines().find_map(|line| line.strip_prefix("a=mid:")).map(|mid| mid.trim().to_owned());
        LocalIce {
            ufrag: credentials.ufrag().to_owned(),
            password: credentials.password().to_owned(),
            mid,
            candidates: self.local_candidates.clone(),
        }
    }
}

async fn renegotiate(connection: &dyn PeerConnection, offer: String) -> Result<String, webrtc::error::Error> {
    connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
    let answer = connection.create_answer(None).await?;
    let sdp = answer.sdp.clone();
    connection.set_local_description(answer).await?;
    Ok(sdp)
}

/// The candidates that are checked. Others are passed over, as RFC 9725 section 4.3.2 has it for transports and names that
/// are of no use here.
pub(super) fn admitted(remote: &mut RemoteCandidates, told: &RemoteIce) -> Vec<String> {
    let lines = told.candidates.iter().map(|candidate| candidate.line.as_str());
    lines
        .filter(|line| line.strip_prefix("candidate:").is_some_and(|candidate| remote.admits(candidate)))
        .map(str::to_owned)
        .collect()
}

/// The same by each way that they are checked by.
pub(super) fn ways(reach: Option<&Reach>, admitted: Vec<String>, calls: bool) -> Vec<String> {
    let Some(reach) = reach else { return admitted };
    let ways = |line: &String| reach.ways(line.strip_prefix("candidate:").unwrap_or_default(), calls);
    admitted.iter().flat_map(ways).map(|candidate| format!("candidate:{candidate}")).collect()
}

/// Text that is no candidate at all is an error: foundation, component, transport, priority, address, port, "typ" and type
/// must be there (RFC 8839 section 5.1).
pub(super) fn check(told: &RemoteIce) -> Result<(), IceError> {
    for candidate in &told.candidates {
        let fields: Vec<&str> =
            candidate.line.strip_prefix("candidate:").unwrap_or_default().split_ascii_whitespace().take(8).collect();
        let well_formed = matches!(fields[..], [_, component, _, priority, _, port, "typ", _]
            if component.parse::<u16>().is_ok() && priority.parse::<u32>().is_ok() && port.parse::<u16>().is_ok());
        if !well_formed {
            return Err(IceError::Malformed(format!("\"{}\" is no candidate", abridged(&candidate.line))));
        }
    }
    Ok(())
}

/// Enough to find it by, for an error's text.
fn abridged(line: &str) -> String {
    line.chars().take(60).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::RemoteCandidate, *};

    fn told(line: &str) -> RemoteIce {
        let candidates = vec![RemoteCandidate { mid: None, line: line.to_owned() }];
        RemoteIce { candidates, ..RemoteIce::default() }
    }

    fn taken(line: &str) -> Result<usize, IceError> {
        check(&told(line)).map(|()| admitted(&mut RemoteCandidates::new(false), &told(line)).len())
    }

    #[test]
    fn udp_candidates_of_both_families_are_taken() {
        assert_eq!(taken("candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw"), Ok(1));
        assert_eq!(taken("candidate:1 1 UDP 1 2001:db8::1 61764 typ srflx raddr 10.0.0.1 rport 9"), Ok(1));
    }

    #[test]
    fn what_cannot_be_reached_from_here_is_passed_over() {
        assert_eq!(taken("candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active"), Ok(0));
        assert_eq!(taken("candidate:1 1 udp 1 0f2b-11.local 61764 typ host"), Ok(0));
    }

    #[test]
    fn what_is_no_candidate_is_named() {
        for line in
            ["candidate:", "candidate:1 1 udp", "candidate:1 x udp 1 192.0.2.1 1 typ host", "candidate:1 1 udp 1 a b c"]
        {
            let Err(IceError::Malformed(why)) = taken(line) else { panic!("{line} was taken") };
            assert!(why.contains("no candidate"), "{why}");
        }
    }
}
