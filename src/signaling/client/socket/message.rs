//! What a peer says to a signaling server and hears from it, as JSON. Pure.
//!
//! The server's own types are strict, so that clients hear of their mistakes; these take what they know and pass over the
//! rest, so that a newer server is understood.

use serde::{Deserialize, Serialize};

/// The most characters of a candidate, and of what it belongs to.
const MAX_CANDIDATE: usize = 1024;

/// To the server.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum ToServer<'a> {
    Join {
        channel: &'a str,
        role: &'static str,
    },
    Leave {},
    Offer {
        to: &'a str,
        sdp: &'a str,
    },
    Answer {
        to: &'a str,
        sdp: &'a str,
    },
    Candidate {
        to: &'a str,
        #[serde(flatten)]
        candidate: &'a SocketCandidate,
    },
}

/// An ICE candidate, with the names that browsers have for its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCandidate {
    /// `candidate:…`; empty or nothing: there will be no more.
    pub candidate: Option<String>,
    /// The media section's tag.
    #[serde(rename = "sdpMid", skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// The media section's place.
    #[serde(rename = "sdpMLineIndex", skip_serializing_if = "Option::is_none")]
    pub m_line_index: Option<u16>,
    /// The user fragment that it belongs to.
    #[serde(rename = "usernameFragment", skip_serializing_if = "Option::is_none")]
    pub ufrag: Option<String>,
}

impl SocketCandidate {
    /// Whether it can stand in lines of SDP: it came from a peer.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| text.len() <= MAX_CANDIDATE && !text.chars().any(char::is_control))
        };
        plain(&self.candidate) && plain(&self.mid) && plain(&self.ufrag)
    }
}

/// From the server.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum FromServer {
    Joined {
        peer: String,
    },
    PeerJoined {
        peer: String,
    },
    PeerLeft {
        peer: String,
        #[serde(default)]
        lost: bool,
    },
    Offer {
        from: String,
        sdp: String,
    },
    Answer {
        from: Option<String>,
        sdp: String,
    },
    Candidate {
        from: Option<String>,
        #[serde(flatten)]
        candidate: SocketCandidate,
    },
    Closed {
        reason: String,
    },
    Error {
        code: String,
        message: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

impl ToServer<'_> {
    pub(super) fn to_json(&self) -> String {
        // Nothing of it can fail to be written: there are no maps with keys that are no text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl FromServer {
    /// What is malformed says nothing to us.
    pub(super) fn of_json(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(Self::Candidate { candidate, .. }) if !candidate.is_plain() => Self::Other,
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "a message of the signaling server is not understood");
                Self::Other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_the_form_that_the_server_reads() {
        let join = ToServer::Join { channel: "blue", role: "peer" }.to_json();
        assert_eq!(join, r#"{"type":"join","channel":"blue","role":"peer"}"#);
        assert_eq!(ToServer::Leave {}.to_json(), r#"{"type":"leave"}"#);
        assert_eq!(ToServer::Offer { to: "p", sdp: "v=0" }.to_json(), r#"{"type":"offer","to":"p","sdp":"v=0"}"#);
        let candidate =
            SocketCandidate { candidate: Some("candidate:1".into()), mid: Some("0".into()), ..Default::default() };
        assert_eq!(
            ToServer::Candidate { to: "p", candidate: &candidate }.to_json(),
            r#"{"type":"candidate","to":"p","candidate":"candidate:1","sdpMid":"0"}"#
        );
    }

    #[test]
    fn what_is_heard_is_read_whatever_else_is_in_it() {
        let read = FromServer::of_json;
        let joined =
            r#"{"type":"joined","channel":"c","peer":"p","mode":"p2p","iceServers":[{"urls":"stun:h"}],"id":1}"#;
        assert_eq!(read(joined), FromServer::Joined { peer: "p".into() });
        assert_eq!(read(r#"{"type":"peer-joined","peer":"q"}"#), FromServer::PeerJoined { peer: "q".into() });
        let candidate = SocketCandidate {
            candidate: Some("candidate:1 1 udp".into()),
            mid: Some("0".into()),
            m_line_index: Some(0),
            ufrag: None,
        };
        assert_eq!(
            read(r#"{"type":"candidate","from":"q","candidate":"candidate:1 1 udp","sdpMid":"0","sdpMLineIndex":0}"#),
            FromServer::Candidate { from: Some("q".into()), candidate }
        );
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        for text in [
            "",
            "[]",
            r#"{"type":"dance"}"#,
            r#"{"type":"chat","from":"a","name":"b","text":"c","at":1}"#,
            r#"{"type":"offer","from":"a"}"#,
            r#"{"type":"candidate","from":"q","candidate":"candidate:1\r\na=x"}"#,
        ] {
            assert_eq!(FromServer::of_json(text), FromServer::Other, "{text}");
        }
    }
}
