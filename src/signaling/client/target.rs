//! Where a client calls: `whep://HOST[:PORT]/PATH[?QUERY]`, `wheps://`, or the same pasted as http(s)://.

use std::{fmt, net::IpAddr, str::FromStr};

use url::Url;

use crate::reachable::is_reachable;

/// The URL of a server's endpoint or session. Shown without its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: Box<Url>, // boxed: it is part of every error
    named_by: NamedBy,
}

/// Who has named a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedBy {
    /// Whoever runs this, who may name any; or a server of that very origin.
    Operator,
    /// Another server that was called, and where that is. It must not be able to aim us at what only this machine can reach, but
    /// for itself.
    Server { at: Option<IpAddr> },
}

impl ServerUrl {
    /// Whether it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Its host, and the port that it names or that its scheme implies.
    pub(super) fn authority(&self) -> Option<(url::Host<&str>, u16)> {
        Some((self.url.host()?, self.url.port_or_known_default()?))
    }

    /// The Host header field (RFC 9110 section 7.2).
    pub(super) fn host_field(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Path and query, as a request line wants them.
    pub(super) fn path_and_query(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// What a Location or Link of a reply from here refers to; `None` if that is no HTTP URL. `at`: where the reply came from.
    pub(super) fn join(&self, reference: &str, at: Option<IpAddr>) -> Option<Self> {
        let mut joined = self.url.join(reference).ok()?;
        joined.set_fragment(None);
        // Credentials in a URL that a server made up are nothing of ours.
        let is_http = matches!(joined.scheme(), "http" | "https") && joined.has_host();
        let is_own = joined.origin() == self.url.origin();
        let named_by = if is_own { self.named_by } else { NamedBy::Server { at } };
        let is_plain = joined.username().is_empty() && joined.password().is_none();
        (is_http && is_plain).then(|| Self { url: Box::new(joined), named_by })
    }

    /// Whether it may lead to an address that its host was resolved to.
    pub(super) fn may_lead_to(&self, address: IpAddr) -> bool {
        match self.named_by {
            NamedBy::Operator => true,
            NamedBy::Server { at } => {
                let at = at.map(|at| at.to_canonical());
                at == Some(address.to_canonical()) || is_reachable(address, at.is_some_and(|at| at.is_loopback()))
            }
        }
    }

    /// Whether a secret for `self` may go to `other` too: the same origin, or the same host with TLS added.
    pub(super) fn shares_secrets_with(&self, other: &Self) -> bool {
        let upgraded = !self.is_secure() && other.is_secure() && self.url.host() == other.url.host();
        self.url.origin() == other.url.origin() || upgraded
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(s: &str) -> Result<Self, ServerUrlError> {
        let (scheme, rest) = s.split_once("://").ok_or(ServerUrlError::NoScheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "whep" | "whip" | "http" => "http",
            "wheps" | "whips" | "https" => "https",
            other => return Err(ServerUrlError::Scheme(other.to_owned())),
        };
        let mut url =
            Url::parse(&format!("{scheme}://{rest}")).map_err(|why| ServerUrlError::Malformed(why.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ServerUrlError::UserInfo);
        }
        url.set_fragment(None);
        Ok(Self { url: Box::new(url), named_by: NamedBy::Operator })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url[..url::Position::AfterPath])?;
        f.write_str(if self.url.query().is_some() { "?…" } else { "" })
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with a server's URL. The URL itself is left out where it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Nothing before `://`.
    #[error("it has no scheme; write whep://HOST:PORT/PATH, or wheps:// for HTTPS")]
    NoScheme,
    /// A scheme that is none of WHEP's.
    #[error("{0}:// is no way to a WHEP or WHIP server; use whep(s)://, whip(s):// or http(s)://")]
    Scheme(String),
    /// Not a URL.
    #[error("it is not a URL ({0}); write whep://HOST:PORT/PATH, or wheps:// for HTTPS")]
    Malformed(String),
    /// A name or password before the host.
    #[error("it holds a user name or password; set the auth-token property instead")]
    UserInfo,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(s: &str) -> ServerUrl {
        s.parse().unwrap()
    }

    #[test]
    fn whep_is_http_and_wheps_is_https_with_their_ports() {
        assert_eq!(url("whep://h/live"), url("http://h:80/live"));
        assert_eq!(url("wheps://h/live"), url("https://h:443/live"));
        assert_eq!(url("WHEPS://[::1]:8443/live").authority().unwrap().1, 8443);
        assert!(url("wheps://h/live").is_secure());
    }

    #[test]
    fn the_query_is_sent_and_never_shown() {
        let url = url("whep://h:1985/rtc/v1/whep/?app=live&stream=secret#top");
        assert_eq!(url.path_and_query(), "/rtc/v1/whep/?app=live&stream=secret");
        assert_eq!(format!("{url} {url:?}"), "http://h:1985/rtc/v1/whep/?… http://h:1985/rtc/v1/whep/?…");
        assert_eq!(url.host_field(), "h:1985");
    }

    #[test]
    fn what_is_wrong_is_named_without_secrets() {
        let error = |s: &str| s.parse::<ServerUrl>().unwrap_err();
        assert_eq!(error("somewhere"), ServerUrlError::NoScheme);
        assert_eq!(error("rtmp://h/x"), ServerUrlError::Scheme("rtmp".into()));
        assert!(matches!(error("whep://"), ServerUrlError::Malformed(_)));
        assert!(matches!(error("whep://h:70000/x"), ServerUrlError::Malformed(_)));
        assert_eq!(error("whep://me:s3cret@h/x"), ServerUrlError::UserInfo);
    }

    #[test]
    fn references_are_resolved_and_only_http_is_followed() {
        let base = url("whep://h:1/whep/live?key=1");
        let joined = |reference| base.join(reference, None);
        assert_eq!(joined("/session/2"), Some(url("http://h:1/session/2")));
        assert_eq!(joined("session"), Some(url("http://h:1/whep/session")));
        assert_eq!(joined("https://other/s#x").unwrap().to_string(), "https://other/s");
        assert_eq!(joined("file:///etc/passwd"), None);
        assert_eq!(joined("http://me:pw@other/"), None);
        assert_eq!(joined("http://["), None);
    }

    #[test]
    fn a_server_refers_to_itself_and_to_others_but_not_to_what_only_we_can_reach() {
        let metadata = "169.254.169.254".parse().unwrap();
        let (here, lan) = ("127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let base = url("whep://h:1/whep/live");
        assert!(base.may_lead_to(here) && base.may_lead_to(metadata), "the operator says where");
        let own = base.join("/session/2", None).unwrap();
        assert!(own.may_lead_to(here) && own.may_lead_to(metadata));
        for reference in ["http://h:8080/session/2", "https://h/session", "http://other:1/session/2"] {
            let (far, near) = (base.join(reference, Some(lan)).unwrap(), base.join(reference, Some(here)).unwrap());
            assert!(far.may_lead_to(lan) && near.may_lead_to(lan) && near.may_lead_to(here), "{reference}");
            assert!(!far.may_lead_to(here) && !far.may_lead_to("::1".parse().unwrap()), "{reference}");
            assert!(!far.may_lead_to(metadata) && !near.may_lead_to(metadata), "{reference}");
            // A camera that has nothing but a link-local address may refer to itself.
            assert!(base.join(reference, Some(metadata)).unwrap().may_lead_to(metadata), "{reference}");
            // Nor by another step.
            assert!(!far.join("/further", None).unwrap().may_lead_to(here), "{reference}");
        }
    }

    #[test]
    fn secrets_stay_with_their_origin_and_move_to_tls_only() {
        let secure = url("https://h/live");
        assert!(secure.shares_secrets_with(&url("https://h/other")));
        assert!(!secure.shares_secrets_with(&url("http://h/live")));
        assert!(!secure.shares_secrets_with(&url("https://h:8443/live")));
        assert!(!secure.shares_secrets_with(&url("https://evil/live")));
        assert!(url("http://h:8080/live").shares_secrets_with(&url("https://h/live")));
    }
}
