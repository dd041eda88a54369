//! Where a peer is to be found: `ws://HOST:PORT/ws?channel=ID`, or `wss://` with TLS.

use std::{fmt, str::FromStr};

use crate::{
    channel::{BadChannelId, ChannelId},
    signaling::client::target::{ServerUrl, ServerUrlError},
};

/// A channel of a signaling server. Shown without its query.
#[derive(Clone, PartialEq, Eq)]
pub struct SocketUrl {
    server: ServerUrl,
    channel: ChannelId,
}

impl SocketUrl {
    /// Whether it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.server.is_secure()
    }

    /// The channel to join.
    pub fn channel(&self) -> &str {
        self.channel.as_str()
    }

    pub(super) fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// As a WebSocket's handshake names it.
    pub(super) fn to_request(&self) -> String {
        let scheme = if self.is_secure() { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.server.host_field(), self.server.path_and_query())
    }
}

impl FromStr for SocketUrl {
    type Err = SocketUrlError;

    fn from_str(s: &str) -> Result<Self, SocketUrlError> {
        let (scheme, rest) = s.split_once("://").ok_or(SocketUrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" => "http",
            "wss" => "https",
            _ => return Err(SocketUrlError::Scheme),
        };
        let server: ServerUrl = format!("{scheme}://{rest}").parse().map_err(|error| match error {
            ServerUrlError::UserInfo => SocketUrlError::UserInfo,
            error => SocketUrlError::Malformed(error.to_string()),
        })?;
        let query = server.path_and_query().split_once('?').map_or("", |(_, query)| query);
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let channel = pairs.find(|(name, _)| name == "channel").ok_or(SocketUrlError::NoChannel)?;
        Ok(Self { channel: channel.1.parse()?, server })
    }
}

impl fmt::Display for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.server.to_string();
        f.write_str(&match shown.strip_prefix("https") {
            Some(rest) => format!("wss{rest}"),
            None => format!("ws{}", shown.strip_prefix("http").unwrap_or(&shown)),
        })
    }
}

impl fmt::Debug for SocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with it. The URL itself is left out where it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketUrlError {
    /// Not of a WebSocket.
    #[error("it is no URL of a signaling server; write ws://HOST:PORT/ws?channel=ID, or wss:// with TLS")]
    Scheme,
    /// Not a URL.
    #[error("it is not a URL ({0}); write ws://HOST:PORT/ws?channel=ID, or wss:// with TLS")]
    Malformed(String),
    /// A name or password before the host.
    #[error("it holds a user name or password; set the auth-token property instead")]
    UserInfo,
    /// Nothing to join.
    #[error("it names no channel; write ws://HOST:PORT/ws?channel=ID")]
    NoChannel,
    /// What is named is none.
    #[error("its channel: {0}")]
    Channel(#[from] BadChannelId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_of_a_server_is_read_and_shown_without_its_query() {
        let url: SocketUrl = "ws://h:8080/ws?channel=blue&token=s3cret".parse().unwrap();
        assert_eq!((url.channel(), url.is_secure()), ("blue", false));
        assert_eq!(url.to_request(), "ws://h:8080/ws?channel=blue&token=s3cret");
        assert_eq!(format!("{url} {url:?}"), "ws://h:8080/ws?… ws://h:8080/ws?…");
        let url: SocketUrl = "WSS://[::1]/ws?channel=a".parse().unwrap();
        assert!(url.is_secure());
        assert_eq!((url.to_request(), url.to_string()), ("wss://[::1]/ws?channel=a".into(), "wss://[::1]/ws?…".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |s: &str| s.parse::<SocketUrl>().unwrap_err();
        assert_eq!(error("whip://h/ws?channel=a"), SocketUrlError::Scheme);
        assert_eq!(error("h/ws"), SocketUrlError::Scheme);
        assert_eq!(error("ws://h/ws"), SocketUrlError::NoChannel);
        assert_eq!(error("ws://me:pw@h/ws?channel=a"), SocketUrlError::UserInfo);
        assert!(matches!(error("ws://h:70000/ws?channel=a"), SocketUrlError::Malformed(_)));
        assert!(matches!(error("ws://h/ws?channel=a%20b"), SocketUrlError::Channel(_)));
        assert!(matches!(error("ws://h/ws?channel="), SocketUrlError::Channel(_)));
    }
}
