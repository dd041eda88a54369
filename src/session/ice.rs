//! The peer's side of ICE after the answer: candidates that trickle in (RFC 8838) and restarts (RFC 8445 section 9), told
//! apart by their credentials.
//!
//! Pure: what is done with a change is the watcher's business, how it came in is signaling's.

use std::collections::VecDeque;

/// What the peer tells of itself after its offer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RemoteIce {
    /// User fragment, if it was named.
    pub ufrag: Option<String>,
    /// Password, if it was named.
    pub password: Option<String>,
    /// Candidates: those of a restart, or further ones.
    pub candidates: Vec<RemoteCandidate>,
}

/// A candidate of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// The media section that it was named for; with BUNDLE all share one transport.
    pub mid: Option<String>,
    /// `candidate:…`, as in RFC 8839 section 5.1.
    pub line: String,
}

/// Our side after a restart, to be told to the peer.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalIce {
    /// The new user fragment.
    pub ufrag: String,
    /// The new password.
    pub password: String,
    /// The section that the candidates are for, if the offer's have tags.
    pub mid: Option<String>,
    /// Candidates as `candidate:…`.
    pub candidates: Vec<String>,
}

/// What became of what the peer told.
#[derive(Clone, PartialEq, Eq)]
pub enum IceChange {
    /// Its candidates were taken.
    Trickled,
    /// ICE was restarted; what the peer has to know now.
    Restarted(LocalIce),
}

/// Why a change was not made. The session goes on as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IceError {
    /// It belongs to an ICE session that a restart has replaced.
    #[error("it belongs to an ICE session that a restart has replaced")]
    Stale,
    /// It breaks a rule.
    #[error("{0}")]
    Malformed(String),
    /// The stack did not restart; what it said.
    #[error("ICE could not be restarted: {0}")]
    Refused(String),
    /// The session has ended.
    #[error("the session has ended")]
    Over,
}

/// Credentials of the peer that are remembered: a late fragment of one of these is no restart.
const REMEMBERED: usize = 8;

/// The peer's ICE session, and those before it.
pub(super) struct Generations {
    ufrag: String,
    password: String,
    /// User fragments that were replaced, the last one last.
    replaced: VecDeque<String>,
}

/// What a fragment is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// More candidates of the present ICE session.
    Trickle,
    /// The begin of a new one, with these credentials.
    Restart { ufrag: String, password: String },
}

impl Generations {
    /// Begins with the credentials of the offer; all bundled sections have the same.
    pub(super) fn of_offer(offer: &str) -> Self {
        let value = |name: &str| {
            let value = offer.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            value.trim().to_owned()
        };
        Self { ufrag: value("a=ice-ufrag:"), password: value("a=ice-pwd:"), replaced: VecDeque::new() }
    }

    /// Tells what the peer means. Credentials that are not the present ones mean a restart (RFC 8839 section 4.4.1.1.1),
    /// unless they were present once: requests overtake each other.
    pub(super) fn kind_of(&self, told: &RemoteIce) -> Result<Kind, IceError> {
        let Some(ufrag) = &told.ufrag else { return Ok(Kind::Trickle) };
        let same_password = told.password.as_ref().is_none_or(|password| *password == self.password);
        if *ufrag == self.ufrag && same_password {
            return Ok(Kind::Trickle);
        }
        if self.replaced.contains(ufrag) {
            return Err(IceError::Stale);
        }
        let missing = || IceError::Malformed("a restart needs a=ice-pwd besides a=ice-ufrag".into());
        let password = told.password.clone().ok_or_else(missing)?;
        Ok(Kind::Restart { ufrag: ufrag.clone(), password })
    }

    /// A restart has been made.
    pub(super) fn replace(&mut self, ufrag: String, password: String) {
        self.replaced.push_back(std::mem::replace(&mut self.ufrag, ufrag));
        self.password = password;
        if self.replaced.len() > REMEMBERED {
            self.replaced.pop_front();
        }
    }
}

/// The offer once more, with other ICE credentials and candidates: how the stack is told of a restart.
pub(super) fn restarted(offer: &str, ufrag: &str, password: &str, candidates: &[String]) -> String {
    let mut out = String::with_capacity(offer.len());
    let mut sections = 0;
    let flush = |out: &mut String, sections: usize| {
        if sections == 1 {
            candidates.iter().for_each(|candidate| out.push_str(&format!("a={candidate}\r\n")));
        }
    };
    for line in offer.lines() {
        if line.starts_with("m=") {
            flush(&mut out, sections);
            sections += 1;
        }
        match line.split_once(':').map_or(line, |(name, _)| name) {
            "a=candidate" | "a=end-of-candidates" => {}
            "a=ice-ufrag" => out.push_str(&format!("a=ice-ufrag:{ufrag}\r\n")),
            "a=ice-pwd" => out.push_str(&format!("a=ice-pwd:{password}\r\n")),
            _ => {
                out.push_str(line);
                out.push_str("\r\n");
            }
        }
    }
    flush(&mut out, sections);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 x 0\r\na=ice-ufrag:one\r\na=ice-pwd:first\r\n\
        a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=end-of-candidates\r\na=mid:0\r\n\
        m=video 9 x 96\r\na=ice-ufrag:one\r\na=ice-pwd:first\r\na=mid:1\r\n";

    fn told(ufrag: Option<&str>, password: Option<&str>) -> RemoteIce {
        RemoteIce { ufrag: ufrag.map(str::to_owned), password: password.map(str::to_owned), candidates: Vec::new() }
    }

    #[test]
    fn the_present_credentials_or_none_mean_more_candidates() {
        let present = Generations::of_offer(OFFER);
        for told in [told(None, None), told(Some("one"), None), told(Some("one"), Some("first"))] {
            assert_eq!(present.kind_of(&told), Ok(Kind::Trickle));
        }
    }

    #[test]
    fn other_credentials_mean_a_restart_and_need_both() {
        let present = Generations::of_offer(OFFER);
        let restart = Ok(Kind::Restart { ufrag: "two".into(), password: "second".into() });
        assert_eq!(present.kind_of(&told(Some("two"), Some("second"))), restart);
        assert!(matches!(present.kind_of(&told(Some("two"), None)), Err(IceError::Malformed(_))));
    }

    #[test]
    fn credentials_that_were_replaced_are_stale_and_start_nothing() {
        let mut present = Generations::of_offer(OFFER);
        present.replace("two".into(), "second".into());
        assert_eq!(present.kind_of(&told(Some("one"), Some("first"))), Err(IceError::Stale));
        assert_eq!(present.kind_of(&told(Some("two"), Some("second"))), Ok(Kind::Trickle));
        for number in 0..100 {
            present.replace(format!("ufrag {number}"), "p".into());
        }
        assert_eq!(present.replaced.len(), REMEMBERED);
    }

    #[test]
    fn a_restarted_offer_differs_in_ice_only_and_has_the_new_candidates_once() {
        let candidate = "candidate:7 1 udp 1 192.0.2.7 7 typ host".to_owned();
        let offer = restarted(OFFER, "two", "second", std::slice::from_ref(&candidate));
        assert_eq!(offer.matches("a=ice-ufrag:two\r\na=ice-pwd:second\r\n").count(), 2);
        assert_eq!(offer.matches(&candidate).count(), 1);
        assert!(offer.find(&candidate) < offer.find("m=video"));
        let without_ice = |sdp: &str| {
            let ice = ["a=ice", "a=candidate", "a=end"];
            sdp.lines().filter(|l| !ice.iter().any(|i| l.starts_with(i))).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(without_ice(&offer), without_ice(OFFER));
    }
}
