//! Why a connection failed: read from rtmp2sink's words, told in ours.
//!
//! rtmp2sink gives a wrong key, an unknown name and a timeout one and the same error code; only the text differs.

use std::fmt;

/// Why a connection could not be made or was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host name is unknown.
    Resolve,
    /// Nothing listens there.
    Unreachable,
    /// No connection within connect-timeout.
    ConnectTimeout,
    /// The server closed the connection before it accepted the stream.
    ClosedWhileConnecting,
    /// The server said no; its words, sanitised.
    Refused(String),
    /// The server's certificate does not pass the checks; the library's words, sanitised.
    Certificate(String),
    /// There is no TLS here.
    NoTls,
    /// TLS failed; in the library's words, sanitised.
    Tls(String),
    /// The connection was live and is gone.
    Lost,
    /// Data was waiting and no byte left for stall-timeout.
    Stalled,
    /// Anything else, sanitised.
    Other(String),
}

impl Failure {
    /// Reads rtmp2sink's (already sanitised) words. `connected` tells whether the server had accepted the stream.
    pub fn read(text: &str, connected: bool) -> Self {
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if has(&["resolving", "resolver"]) {
            Self::Resolve
        } else if has(&["denied", "rejected", "not authorized", "authorization", "badname", "badauth"]) {
            Self::Refused(first_line(text))
        } else if has(&["tls support is not available", "tls/ssl support not available"]) {
            Self::NoTls
        } else if has(&["certificate"]) {
            Self::Certificate(first_line(text))
        } else if has(&["tls", "g-tls-error"]) {
            Self::Tls(first_line(text))
        } else if connected {
            Self::Lost
        } else if has(&["connection refused", "unreachable", "no route"]) {
            Self::Unreachable
        } else if has(&["closed remotely", "reset by peer", "broken pipe"]) {
            Self::ClosedWhileConnecting
        } else if has(&["timed out"]) {
            Self::ConnectTimeout
        } else {
            Self::Other(first_line(text))
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Resolve => "check the host name in location and this machine's DNS",
            Self::Unreachable => "check host and port in location, and that the server runs",
            Self::ConnectTimeout => {
                "check the network, host and port in location, and raise connect-timeout if it is slow"
            }
            Self::ClosedWhileConnecting => "check the application and the stream key in location",
            Self::Refused(_) => "check the stream key, and that nobody else is publishing with it",
            Self::Certificate(_) => {
                "check the host name in location, this machine's clock and its package ca-certificates; for a server of \
                 your own with a self-signed certificate take unknown-ca out of tls-validation-flags"
            }
            Self::NoTls => "install the Debian package glib-networking",
            Self::Tls(_) => "check that the server speaks RTMPS on this port",
            Self::Lost => "check the server's log; a wrong stream key may show like this, too",
            Self::Stalled => "check the uplink, and lower video-bitrate if it is too slow for the stream",
            Self::Other(_) => "check location and the server's log",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve => f.write_str("the host name cannot be resolved"),
            Self::Unreachable => f.write_str("connection refused or host unreachable"),
            Self::ConnectTimeout => f.write_str("no connection within connect-timeout"),
            Self::ClosedWhileConnecting => f.write_str("the server closed the connection before accepting the stream"),
            Self::Refused(words) => write!(f, "the server refused the stream ({words})"),
            Self::Certificate(words) => write!(f, "the server's TLS certificate is not valid for it ({words})"),
            Self::NoTls => f.write_str("TLS is not available here"),
            Self::Tls(words) => write!(f, "TLS failed ({words})"),
            Self::Lost => f.write_str("the server closed the connection"),
            Self::Stalled => f.write_str("the server takes no more data (stall-timeout)"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_rtmp2sink_are_understood() {
        for (text, failure) in [
            ("Failed to connect: Error resolving “no.such.invalid”: Name or service not known", Failure::Resolve),
            ("Connection refused: Could not connect to 127.0.0.1: Connection refused", Failure::Unreachable),
            ("Failed to connect: 'connect' cmd failed: connection closed remotely", Failure::ClosedWhileConnecting),
            ("Failed to connect: Socket I/O timed out", Failure::ConnectTimeout),
            ("Failed to connect: TLS support is not available", Failure::NoTls),
        ] {
            assert_eq!(Failure::read(text, false), failure, "{text}");
        }
        let certificate = Failure::read("Failed to connect: Unacceptable TLS certificate", false);
        assert!(matches!(certificate, Failure::Certificate(_)));
        let denied =
            "Failed to connect: publish denied; stream already exists: { \"code\": \"NetStream.Publish.BadName\" }";
        assert!(matches!(Failure::read(denied, false), Failure::Refused(_)));
        assert_eq!(Failure::read("Connection error: connection closed remotely", true), Failure::Lost);
    }
}
