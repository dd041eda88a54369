//! The ICE of a session that we have offered, as far as it changes after the answer: a restart, and addresses of this
//! machine that come into being.
//!
//! A restart has two halves, as its offer and answer go by HTTP: new credentials are made, and nothing is changed before
//! the server has told its own. Should it refuse, the session is as it was.

use std::{net::IpAddr, sync::Arc};

use rtc::peer_connection::configuration::RTCOfferOptions;
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, RTCSessionDescription};

use super::{
    IceChange, IceError, LocalIce, RemoteIce, candidates,
    ice::restarted,
    mux::{IceCredentials, MuxHandle},
    reach::{self, Reach},
    remote_candidates::RemoteCandidates,
    restart::{admitted, check, ways},
};

/// Which candidates we have, and how they are written.
pub(super) struct Announcer {
    pub(super) configured: Vec<IpAddr>,
    pub(super) server_is_local: bool,
    pub(super) ipv6: bool,
    pub(super) port: u16,
    pub(super) reach: Option<Arc<Reach>>,
}

impl Announcer {
    /// Those of this machine that the server may learn.
    fn addresses(&self) -> Vec<IpAddr> {
        if self.reach.as_ref().is_some_and(|reach| reach.is_relay_only()) {
            return Vec::new();
        }
        candidates::announced(&self.configured, self.server_is_local, self.ipv6)
    }
}

/// One connection's ICE.
pub(super) struct CallerIce {
    /// The last description that the server is known by; a restart changes nothing in it but its ICE.
    answer: String,
    local: IceCredentials,
    mid: Option<String>,
    remote: RemoteCandidates,
    routes: MuxHandle,
    announcer: Announcer,
    known: Known,
    /// Candidates of ways that came later, until the server has been told of them.
    later: Vec<String>,
    staged: Option<RTCSessionDescription>,
}

impl CallerIce {
    /// For a connection that has offered this and got that answer.
    pub(super) fn new(
        offer: &str,
        answer: &str,
        remote: RemoteCandidates,
        routes: MuxHandle,
        announcer: Announcer,
    ) -> Option<Self> {
        let local = IceCredentials::of_description(offer)?;
        let mid = offer.lines().find_map(|line| line.strip_prefix("a=mid:")).map(|mid| mid.trim().to_owned());
        let known = Known::new(announcer.addresses());
        let (answer, later) = (answer.to_owned(), Vec::new());
        Some(Self { answer, local, mid, remote, routes, announcer, known, later, staged: None })
    }

    /// The server is looked for by these ways as well.
    pub(super) async fn reach_by(&mut self, connection: &dyn PeerConnection, reach: Arc<Reach>) {
        if self.announcer.reach.is_some() {
            return;
        }
        let known = candidates_of(&self.answer);
        let led = ways(Some(&reach), known.clone(), true);
        self.later = reach.candidates(&[], self.announcer.port);
        self.announcer.reach = Some(reach);
        for candidate in led.into_iter().filter(|candidate| !known.contains(candidate)) {
            let candidate = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
            if let Err(error) = connection.add_ice_candidate(candidate).await {
                tracing::debug!(%error, "a way by a relay was not taken");
            }
        }
    }

    pub(super) fn routes(&self) -> &MuxHandle {
        &self.routes
    }

    /// Begins a restart: what the server is to be told.
    pub(super) async fn offer_restart(&mut self, connection: &dyn PeerConnection) -> Result<LocalIce, IceError> {
        let options = RTCOfferOptions { ice_restart: true };
        let refused = |error: webrtc::error::Error| IceError::Refused(error.to_string());
        let offer = connection.create_offer(Some(options)).await.map_err(refused)?;
        let credentials = IceCredentials::of_description(&offer.sdp)
            .ok_or_else(|| IceError::Refused("the new offer has no credentials".into()))?;
        self.staged = Some(offer);
        let Announcer { reach, port, .. } = &self.announcer;
        let lines = reach::lines(reach.as_deref(), &self.announcer.addresses(), *port);
        Ok(self.described(&credentials, lines))
    }

    /// Ends a restart with what the server says to it. On an error nothing has changed, unless the stack is at fault.
    pub(super) async fn tell(
        &mut self,
        connection: &dyn PeerConnection,
        told: RemoteIce,
    ) -> Result<IceChange, IceError> {
        let offer = self.staged.take().ok_or_else(|| IceError::Refused("no restart was offered".into()))?;
        check(&told)?;
        let incomplete = || IceError::Malformed("a restart needs a=ice-ufrag and a=ice-pwd".into());
        let (ufrag, password) = told.ufrag.as_ref().zip(told.password.as_ref()).ok_or_else(incomplete)?;
        if IceCredentials::of_description(&self.answer).is_some_and(|present| present.ufrag() == ufrag) {
            return Err(IceError::Refused("the server's credentials are those that it had".into()));
        }
        let local = IceCredentials::of_description(&offer.sdp).ok_or_else(incomplete)?;
        let mut remote = self.remote.restarted();
        // A server need not repeat candidates that have not changed (RFC 9725 section 4.3.3).
        let candidates = match told.candidates.is_empty() {
            true => candidates_of(&self.answer),
            false => admitted(&mut remote, &told),
        };
        let answer = restarted(&self.answer, ufrag, password, &candidates);
        let led = ways(self.announcer.reach.as_deref(), candidates, true);
        let description = RTCSessionDescription::answer(restarted(&self.answer, ufrag, password, &led));
        let refused = |error: webrtc::error::Error| IceError::Refused(error.to_string());
        let description = description.map_err(refused)?;
        // Before the stack makes its first check: answers to it are checked with these.
        self.routes.add_credentials(local.clone());
        self.routes.set_remote_password(password.clone());
        connection.set_local_description(offer).await.map_err(refused)?;
        connection.set_remote_description(description).await.map_err(refused)?;
        self.known = Known::new(self.announcer.addresses());
        let ours = self.described(&local, Vec::new());
        (self.answer, self.local, self.remote) = (answer, local, remote);
        Ok(IceChange::Restarted(ours))
    }

    /// Candidates of addresses that have come into being since the server was told of ours; `None` if there are none. They
    /// are new until they have been told.
    pub(super) fn new_candidates(&mut self) -> Option<LocalIce> {
        let mut lines = self.known.news(self.announcer.addresses(), self.announcer.port);
        lines.extend(self.later.iter().cloned());
        (!lines.is_empty()).then(|| self.described(&self.local, lines))
    }

    /// The server has been told of them.
    pub(super) fn candidates_told(&mut self) {
        self.known.told();
        self.later.clear();
    }

    fn described(&self, credentials: &IceCredentials, candidates: Vec<String>) -> LocalIce {
        LocalIce {
            ufrag: credentials.ufrag().to_owned(),
            password: credentials.password().to_owned(),
            mid: self.mid.clone(),
            candidates,
        }
    }
}

/// Of our addresses those that the server knows.
struct Known {
    told: Vec<IpAddr>,
    /// What it is being told.
    telling: Option<Vec<IpAddr>>,
}

impl Known {
    fn new(told: Vec<IpAddr>) -> Self {
        Self { told, telling: None }
    }

    /// The candidates of what it does not know.
    fn news(&mut self, now: Vec<IpAddr>, port: u16) -> Vec<String> {
        let lines = appeared(&self.told, &now, port);
        self.telling = Some(now);
        lines
    }

    fn told(&mut self) {
        if let Some(told) = self.telling.take() {
            self.told = told;
        }
    }
}

/// The candidates for addresses that are there now and were not before, as they are numbered now.
fn appeared(before: &[IpAddr], now: &[IpAddr], port: u16) -> Vec<String> {
    let lines = candidates::lines(now, port);
    lines.into_iter().zip(now).filter(|(_, address)| !before.contains(address)).map(|(line, _)| line).collect()
}

fn candidates_of(sdp: &str) -> Vec<String> {
    let mut found = Vec::new();
    for candidate in sdp.lines().filter_map(|line| line.strip_prefix("a=").filter(|a| a.starts_with("candidate:"))) {
        if !found.iter().any(|known| known == candidate) {
            found.push(candidate.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_have_come_are_told_anew() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        assert!(appeared(&[address(1), address(2)], &[address(2)], 5000).is_empty(), "what has gone is no news");
        let news = appeared(&[address(1)], &[address(1), address(2)], 5000);
        assert_eq!(news.len(), 1, "{news:?}");
        assert!(news[0].starts_with("candidate:2 1 udp") && news[0].contains(" 192.0.2.2 5000 typ host"), "{news:?}");
    }

    #[test]
    fn what_did_not_reach_the_server_is_told_again() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut known = Known::new(vec![address(1)]);
        let now = vec![address(1), address(2)];
        assert_eq!(known.news(now.clone(), 5000).len(), 1);
        assert_eq!(known.news(now.clone(), 5000).len(), 1, "the server was not reached");
        known.told();
        assert!(known.news(now, 5000).is_empty());
        assert_eq!(known.news(vec![address(3)], 5000).len(), 1);
        known.told();
        assert_eq!(known.news(vec![address(3), address(1)], 5000).len(), 1, "back again");
    }

    #[test]
    fn bundled_sections_name_a_candidate_once() {
        let sdp = "v=0\r\nm=audio 9 x 0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=mid:0\r\n\
                   m=video 9 x 0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=candidate:2 1 udp 1 192.0.2.2 1 typ host\r\n";
        assert_eq!(candidates_of(sdp).len(), 2);
    }
}
