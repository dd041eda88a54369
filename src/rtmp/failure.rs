//! Why a connection failed, and what to do about it, as users are told.

use std::fmt;

use super::Location;
use crate::rtmp_client::Error;

/// Words of others are shown no longer than this.
const LONGEST: usize = 200;

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
    /// TLS failed; in the library's words, sanitised.
    Tls(String),
    /// The connection was live and is gone.
    Lost,
    /// Data was waiting and no byte left for stall-timeout.
    Stalled,
    /// This process has as many files open as it may.
    NoFiles,
    /// Anything else, sanitised.
    Other(String),
}

impl Failure {
    /// What an error of a connection to `location` means. `connected`: the server had accepted the stream.
    pub(super) fn of(error: &Error, connected: bool, location: &Location) -> Self {
        // Secrets first: half of one would not be recognised.
        let words = |text: &str| -> String {
            let text = location.sanitise(text);
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
        };
        match error {
            Error::Refused(text) => Self::Refused(words(text)),
            Error::Certificate(text) => Self::Certificate(words(text)),
            Error::Tls(text) => Self::Tls(words(text)),
            _ if connected => Self::Lost,
            Error::Resolve(_) => Self::Resolve,
            Error::Unreachable(_) => Self::Unreachable,
            Error::NoFiles => Self::NoFiles,
            Error::Closed => Self::ClosedWhileConnecting,
            Error::Answered(text) => Self::Other(format!("the server said: {}", words(text))),
            Error::Protocol(_) | Error::Io(_) => Self::Other(words(&error.to_string())),
        }
    }

    /// In one word, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve => "dns",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "timeout",
            Self::ClosedWhileConnecting => "closed",
            Self::Refused(_) => "refused",
            Self::Certificate(_) => "certificate",
            Self::Tls(_) => "tls",
            Self::Lost => "lost",
            Self::Stalled => "stalled",
            Self::NoFiles => "no_files",
            Self::Other(_) => "other",
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
            Self::Tls(_) => "check that the server speaks RTMPS on this port",
            Self::Lost => "check the server's log; a wrong stream key may show like this, too",
            Self::Stalled => "check the uplink, and lower video-bitrate if it is too slow for the stream",
            Self::NoFiles => "raise the limit of open files (ulimit -n, or LimitNOFILE= of systemd)",
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
            Self::Tls(words) => write!(f, "TLS failed ({words})"),
            Self::Lost => f.write_str("the server closed the connection"),
            Self::Stalled => f.write_str("the server takes no more data (stall-timeout)"),
            Self::NoFiles => f.write_str("this process has as many files open as it may"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_when_they_come() {
        let location = Location::parse("rtmp://h/app/s3cret").unwrap();
        let of = |error: Error, connected| Failure::of(&error, connected, &location);
        assert_eq!(of(Error::Resolve("no such name".into()), false), Failure::Resolve);
        assert_eq!(of(Error::Unreachable("refused".into()), false), Failure::Unreachable);
        assert_eq!(of(Error::NoFiles, false), Failure::NoFiles);
        assert_eq!(of(Error::Closed, false), Failure::ClosedWhileConnecting);
        assert_eq!(of(Error::Closed, true), Failure::Lost);
        assert_eq!(of(Error::Protocol("a chunk"), true), Failure::Lost);
        assert!(matches!(of(Error::Protocol("a chunk"), false), Failure::Other(_)));
        assert!(matches!(of(Error::Refused("taken".into()), true), Failure::Refused(_)));
    }

    #[test]
    fn words_of_a_server_hold_no_secret_however_long_they_are() {
        let location = Location::parse("rtmp://h/app/s3cret").unwrap();
        let text = format!("{}s3cret\n is busy", "x".repeat(LONGEST - 3));
        let Failure::Refused(words) = Failure::of(&Error::Refused(text), false, &location) else { panic!() };
        assert!(words.ends_with("x***") && !words.contains('\n'), "{words}");
    }
}
