//! Reads endpoint URIs such as `whip://127.0.0.1:8080/whip/live`, and gives paths their one spelling.
//!
//! Whether a scheme is served or called is the element's business.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

/// What stands before `://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// WHIP over HTTP.
    Whip,
    /// WHIP over HTTPS.
    Whips,
    /// WHEP over HTTP.
    Whep,
    /// WHEP over HTTPS.
    Wheps,
}

impl Scheme {
    /// As it stands in the URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whips => "whips",
            Self::Whep => "whep",
            Self::Wheps => "wheps",
        }
    }

    /// Whether it runs over TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Whips | Self::Wheps)
    }
}

impl FromStr for Scheme {
    type Err = UriError;

    fn from_str(s: &str) -> Result<Self, UriError> {
        [Self::Whip, Self::Whips, Self::Whep, Self::Wheps]
            .into_iter()
            .find(|scheme| scheme.as_str() == s)
            .ok_or_else(|| UriError::Scheme(s.to_owned()))
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// An IPv4 address, an IPv6 address without its brackets, or a name.
    pub host: String,
    /// 0 picks a free one.
    pub port: u16,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A text that is no HOST:PORT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no HOST:PORT, such as 127.0.0.1:8080; [::]:8080 is for all interfaces, port 0 picks a free one")]
pub struct BadListenAddress(String);

impl FromStr for ListenAddress {
    type Err = BadListenAddress;

    fn from_str(s: &str) -> Result<Self, BadListenAddress> {
        let bad = || BadListenAddress(s.to_owned());
        if s.contains(['/', '?', '#', '@', '\\']) {
            return Err(bad());
        }
        let uri: EndpointUri = format!("whip://{s}/-").parse().map_err(|_| bad())?;
        Ok(uri.listen)
    }
}

/// An endpoint of ours or of a server: `SCHEME://HOST:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUri {
    /// What stands before `://`.
    pub scheme: Scheme,
    /// HOST and PORT.
    pub listen: ListenAddress,
    /// PATH with its leading slash and without a trailing one, percent-encoded in one way.
    pub path: String,
}

impl FromStr for EndpointUri {
    type Err = UriError;

    fn from_str(s: &str) -> Result<Self, UriError> {
        let url = Url::parse(s).map_err(|source| UriError::Malformed { uri: shown(s), why: source.to_string() })?;
        let scheme = url.scheme().parse()?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UriError::UserInfo);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(UriError::MissingHost { uri: shown(s) }),
        };
        let port = url.port().ok_or_else(|| UriError::MissingPort { uri: shown(s) })?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UriError::QueryOrFragment { uri: shown(s) });
        }
        let path = normalise_path(url.path());
        if path == "/" {
            return Err(UriError::MissingPath { uri: shown(s) });
        }
        Ok(Self { scheme, listen: ListenAddress { host, port }, path })
    }
}

/// A URI without what may be a secret in it: a query, a fragment; nothing of one that may hold a name and password.
fn shown(uri: &str) -> String {
    match (uri.contains('@'), uri.split_once("://"), uri.find(['?', '#'])) {
        (true, Some((scheme, _)), _) => format!("{scheme}://***"),
        (true, None, _) => "***".to_owned(),
        (false, _, Some(at)) => format!("{}…", &uri[..=at]),
        (false, _, None) => uri.to_owned(),
    }
}

impl fmt::Display for EndpointUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.listen, self.path)
    }
}

/// What is wrong with an endpoint URI, and how it should look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Not a URI at all.
    #[error("\"{uri}\" is not a URI ({why}); write whip://HOST:PORT/PATH")]
    Malformed {
        /// As it came in, but for what may be a secret.
        uri: String,
        /// The parser's words.
        why: String,
    },
    /// A scheme that is none of ours.
    #[error("the scheme \"{0}\" is not supported; use whip, whips, whep or wheps")]
    Scheme(String),
    /// A name or password before the host. The URI is left out: it holds a secret.
    #[error("the URI holds a user name or password; set the auth-token property instead")]
    UserInfo,
    /// Nothing between `://` and the port.
    #[error("\"{uri}\" names no host; write whip://HOST:PORT/PATH, with 0.0.0.0 for all interfaces")]
    MissingHost {
        /// As it came in, but for what may be a secret.
        uri: String,
    },
    /// There is no well-known port for these schemes.
    #[error("\"{uri}\" names no port; write whip://HOST:PORT/PATH, with port 0 for any free one")]
    MissingPort {
        /// As it came in, but for what may be a secret.
        uri: String,
    },
    /// `/` is the page's.
    #[error("\"{uri}\" has no path; write whip://HOST:PORT/PATH, such as /whip/live")]
    MissingPath {
        /// As it came in, but for what may be a secret.
        uri: String,
    },
    /// An endpoint is known by its path alone.
    #[error("\"{uri}\" has a query or fragment, which an endpoint cannot have")]
    QueryOrFragment {
        /// As it came in, but for what may be a secret.
        uri: String,
    },
}

/// What is written as %XX within a segment: all that RFC 3986 section 3.3 does not allow in a pchar, and `%` itself.
const NOT_PCHAR: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// One spelling for one path: a leading slash, no trailing one, and %XX only where needed.
pub(crate) fn normalise_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    for segment in path.trim_matches('/').split('/') {
        out.push('/');
        // Bytes that are no UTF-8 have no other spelling, so they stay as they came.
        match percent_decode_str(segment).decode_utf8() {
            Ok(text) => out.extend(utf8_percent_encode(&text, NOT_PCHAR)),
            Err(_) => out.push_str(segment),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<EndpointUri, UriError> {
        s.parse()
    }

    #[test]
    fn endpoint_uri_names_scheme_host_port_and_path() {
        let uri = parse("whip://127.0.0.1:8080/whip/live").unwrap();
        assert_eq!(uri.scheme, Scheme::Whip);
        assert_eq!(uri.listen, ListenAddress { host: "127.0.0.1".into(), port: 8080 });
        assert_eq!(uri.path, "/whip/live");
        assert_eq!(uri.to_string(), "whip://127.0.0.1:8080/whip/live");
    }

    #[test]
    fn a_listen_address_is_host_and_port() {
        for good in ["127.0.0.1:8080", "[::]:0", "localhost:80"] {
            assert_eq!(good.parse::<ListenAddress>().unwrap().to_string(), good);
        }
        for bad in ["", "8080", ":8080", "host", "host:99999", "a@host:1", "host:1/x", "::1:80"] {
            assert_eq!(bad.parse::<ListenAddress>(), Err(BadListenAddress(bad.into())), "{bad}");
        }
    }

    #[test]
    fn ipv6_host_loses_its_brackets_and_gets_them_back() {
        let uri = parse("whips://[::1]:0/a/").unwrap();
        assert_eq!(uri.listen.host, "::1");
        assert!(uri.scheme.is_secure());
        assert_eq!(uri.to_string(), "whips://[::1]:0/a");
    }

    #[test]
    fn each_missing_part_is_named() {
        assert!(matches!(parse("whip://127.0.0.1/whip/live"), Err(UriError::MissingPort { .. })));
        assert!(matches!(parse("whip://127.0.0.1:8080"), Err(UriError::MissingPath { .. })));
        assert!(matches!(parse("whip://127.0.0.1:8080/"), Err(UriError::MissingPath { .. })));
        assert!(matches!(parse("rtmp://127.0.0.1:8080/x"), Err(UriError::Scheme(s)) if s == "rtmp"));
        assert!(matches!(parse("whip:///x"), Err(UriError::MissingHost { .. })));
        assert!(matches!(parse("8080"), Err(UriError::Malformed { .. })));
        assert!(matches!(parse("whip://h:1/x?y=z"), Err(UriError::QueryOrFragment { .. })));
    }

    #[test]
    fn user_info_is_refused_without_repeating_it() {
        let error = parse("whip://me:s3cret@127.0.0.1:1/x").unwrap_err();
        assert_eq!(error, UriError::UserInfo);
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn what_may_be_a_secret_is_not_repeated_in_what_is_wrong() {
        for (uri, told) in [
            ("whep://h/x?key=s3cret", "\"whep://h/x?…\" names no port"),
            ("whep://h:1/x?key=s3cret", "\"whep://h:1/x?…\" has a query"),
            ("whep://h:1/x#s3cret", "\"whep://h:1/x#…\" has a query or fragment"),
            ("whep://me:s3cret@h:70000/x", "\"whep://***\" is not a URI"),
            ("whep://me:s3@cret@:1/x", "\"whep://***\" is not a URI"),
            ("whep://me:s3cret#x@h:1/x", "\"whep://***\" is not a URI"),
            ("me:s3cret@h", "the scheme \"me\""),
            ("//me:s3cret@h?s3cret", "\"***\" is not a URI"),
        ] {
            let error = parse(uri).unwrap_err().to_string();
            assert!(error.starts_with(told) && !error.contains("cret"), "{uri}: {error}");
        }
    }

    #[test]
    fn one_path_has_one_spelling() {
        assert_eq!(normalise_path("/whip/%6Cive/"), "/whip/live");
        assert_eq!(normalise_path("/my stream"), "/my%20stream");
        assert_eq!(normalise_path("/my%20stream"), "/my%20stream");
        assert_eq!(normalise_path("/a%2Fb"), "/a%2Fb");
        assert_eq!(normalise_path("/%FF"), "/%FF");
        assert_eq!(normalise_path(""), "/");
    }
}
