//! Small requests of the server's own: a key set to read, a service to ask. Nothing of a reply but its status and its
//! body is looked at, and redirections are not followed: whoever is asked is who was configured.

use std::{fmt, str::FromStr};

use axum::body::Bytes;
use hyper::{Method, StatusCode};

use super::{
    error::ClientError,
    http::{Http, Outgoing},
    target::{ServerUrl, ServerUrlError},
    tls,
};

/// An http:// or https:// URL of a service. Shown without its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(ServerUrl);

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<Self, HttpUrlError> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default();
        match scheme.as_str() {
            "http" | "https" => text.parse().map(Self).map_err(|error| match error {
                ServerUrlError::UserInfo => HttpUrlError::UserInfo,
                ServerUrlError::Malformed(why) => HttpUrlError::Malformed(why),
                ServerUrlError::NoScheme | ServerUrlError::Scheme(_) => HttpUrlError::Scheme,
            }),
            _ => Err(HttpUrlError::Scheme),
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What is wrong with a service's URL. The URL itself is left out, as it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpUrlError {
    /// Nothing that HTTP reaches.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// Not a URL.
    #[error("it is not a URL ({0})")]
    Malformed(String),
    /// A name or password before the host.
    #[error("it holds a user name or password, which is not sent; put a key into the query instead")]
    UserInfo,
}

/// Makes such requests; trusts the system's certificate authorities.
#[derive(Clone)]
pub(in crate::signaling) struct Fetcher {
    http: Http,
}

impl Fetcher {
    pub(in crate::signaling) fn new() -> Result<Self, String> {
        Ok(Self { http: Http::new(tls::config(None).map_err(|bad| bad.what)?, None) })
    }

    /// Reads what is there, at most 256 KiB.
    pub(in crate::signaling) async fn get(&self, url: &HttpUrl) -> Result<Bytes, String> {
        let outgoing = Outgoing { method: Method::GET, content_type: None, if_match: None, body: Bytes::new() };
        let reply = self.http.send(&url.0, outgoing, false).await.map_err(|error| why(&error))?;
        match reply.status {
            StatusCode::OK => Ok(reply.body),
            status => Err(format!("it answers {status}")),
        }
    }

    /// Sends JSON; returns what status that has.
    pub(in crate::signaling) async fn post_json(&self, url: &HttpUrl, body: String) -> Result<StatusCode, String> {
        let (method, content_type) = (Method::POST, Some("application/json"));
        let outgoing = Outgoing { method, content_type, if_match: None, body: body.into() };
        Ok(self.http.send(&url.0, outgoing, false).await.map_err(|error| why(&error))?.status)
    }
}

/// The server's name stands in it; the words of a WHEP client about its settings do not.
fn why(error: &ClientError) -> String {
    match error {
        ClientError::Untrusted { why, .. } => {
            format!("its certificate is not trusted: {why}; SSL_CERT_FILE names authorities beside the system's")
        }
        ClientError::Unreachable { why, .. } | ClientError::Reply { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken_and_secrets_are_not_repeated() {
        let url = "https://idp.example/keys?key=s3cret".parse::<HttpUrl>().unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://idp.example/keys?… https://idp.example/keys?…");
        for (text, error) in [
            ("whep://h/x", HttpUrlError::Scheme),
            ("file:///etc/passwd", HttpUrlError::Scheme),
            ("h/x", HttpUrlError::Scheme),
            ("http://me:s3cret@h/x", HttpUrlError::UserInfo),
        ] {
            assert_eq!(text.parse::<HttpUrl>().unwrap_err(), error, "{text}");
        }
        assert!(matches!("http://".parse::<HttpUrl>(), Err(HttpUrlError::Malformed(_))));
    }
}
