//! A TURN server as it is configured.

use std::fmt;

/// How a TURN server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnTransport {
    /// `turn:…?transport=udp`
    Udp,
    /// `turn:…?transport=tcp`
    Tcp,
    /// `turns:…`
    Tls,
}

/// A TURN server, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is reached.
    pub transport: TurnTransport,
    /// User name.
    pub username: String,
    /// Password; never shown.
    pub password: String,
}

impl fmt::Display for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match self.transport {
            TurnTransport::Udp => write!(f, "turn:{host}:{port}?transport=udp"),
            TurnTransport::Tcp => write!(f, "turn:{host}:{port}?transport=tcp"),
            TurnTransport::Tls => write!(f, "turns:{host}:{port}?transport=tcp"),
        }
    }
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TurnServer({self})") // never the login
    }
}
