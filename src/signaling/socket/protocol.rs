//! What is said on `/ws`, as types: JSON text frames, and the schema that is generated from these.
//!
//! What a client sends has its shape from here and its meaning from [`request`](super::request), which checks it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most characters of a channel's title.
pub(super) const MAX_TITLE: usize = 200;
/// The most characters of a channel's category.
pub(super) const MAX_CATEGORY: usize = 100;
/// The most bytes of a channel's metadata as JSON.
pub(super) const MAX_METADATA: usize = 8 * 1024;
/// The most characters of a name in the chat.
pub(super) const MAX_ALIAS: usize = 50;
/// The most characters of a chat message.
pub(super) const MAX_CHAT: usize = 500;
/// The most characters of a candidate; long ones, with extensions, have some 250.
pub(super) const MAX_CANDIDATE: usize = 1024;
/// Ids are integers that JavaScript can tell apart.
pub(super) const MAX_ID: u64 = (1 << 53) - 1;

/// From a client, without its `id`: beside the fields of each there may be an `id`, which the reply repeats.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(tag = "type")]
pub(super) enum ClientMessage {
    /// Makes a channel; answered by `created`. Needs the right to publish.
    Create {
        /// For people.
        #[schemars(length(max = 200))]
        title: Option<String>,
        /// For lists.
        #[schemars(length(max = 100))]
        category: Option<String>,
        /// Whatever the application wants to keep with it: at most 8 KiB of JSON.
        metadata: Option<serde_json::Value>,
    },
    /// Enters a channel; answered by `joined`. One at a time.
    Join {
        /// Its id.
        #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
        channel: String,
        /// What for.
        role: JoinRole,
        /// Whether one can make peer connections with others than the server; true unless told. A viewer who cannot is
        /// served by the server; a publisher who cannot leaves all viewers to it.
        p2p: Option<bool>,
    },
    /// Leaves the channel; answered by `closed`. A publisher's session ends.
    Leave {},
    /// A session description: without `to` of a publisher or a viewer to the server, else of a peer to another. A viewer
    /// whom the publisher serves, and who offers to the server, is served by the server from then on.
    Offer {
        /// To which peer; may be left out among peers where there is only one other.
        to: Option<String>,
        /// The description (RFC 8866).
        sdp: String,
    },
    /// The answer to an offer.
    Answer {
        /// To which peer; may be left out where there is only one.
        to: Option<String>,
        /// The description (RFC 8866).
        sdp: String,
    },
    /// An ICE candidate (RFC 8838), with the names that browsers have for its parts.
    Candidate(Candidate),
    /// Says what one is called in the chat.
    Alias {
        /// For people.
        #[schemars(length(min = 1, max = 50))]
        name: String,
    },
    /// Tells everybody in the channel something.
    Chat {
        /// Plain text.
        #[schemars(length(min = 1, max = 500))]
        text: String,
    },
    /// Asks for the channels; answered by `channels`, now and at each change.
    List {},
    /// Chooses the most that a viewer whom the server serves wants to get; answered by `layers`.
    Layer {
        /// The id of a layer; null: what the network carries.
        #[schemars(length(max = 64))]
        layer: Option<String>,
    },
    /// Ends a channel that one has made, or publishes on; with the admin token, any. Answered by `closed`.
    Stop {
        /// Its id; without it the channel that one is in, or has made last.
        #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
        channel: Option<String>,
    },
}

/// What somebody enters a channel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum JoinRole {
    /// To watch.
    Viewer,
    /// To send media to the server.
    Publisher,
    /// To exchange descriptions with the others in it; the server only passes them on.
    Peer,
}

/// An ICE candidate.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Candidate {
    /// To which peer; may be left out where there is only one.
    pub(super) to: Option<String>,
    /// `candidate:…` (RFC 8839 section 5.1); empty or null: there will be no more.
    #[schemars(length(max = 1024))]
    pub(super) candidate: Option<String>,
    /// The media section's tag.
    #[serde(rename = "sdpMid")]
    #[schemars(length(max = 64))]
    pub(super) sdp_mid: Option<String>,
    /// The media section's place.
    #[serde(rename = "sdpMLineIndex")]
    pub(super) sdp_m_line_index: Option<u16>,
    /// The user fragment that it belongs to.
    #[serde(rename = "usernameFragment")]
    #[schemars(length(max = 256))]
    pub(super) username_fragment: Option<String>,
}

/// From the server. What answers a message has its `id`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum ServerMessage {
    /// A channel was made.
    Created {
        /// Its id.
        channel: String,
        /// Its stream key: the bearer token of its publisher, told once.
        key: String,
    },
    /// One is in the channel.
    Joined {
        /// Its id.
        channel: String,
        /// What one is called there.
        peer: String,
        /// Whom media goes to and comes from.
        mode: Mode,
        /// STUN and TURN servers to use.
        #[serde(rename = "iceServers", skip_serializing_if = "Vec::is_empty")]
        ice_servers: Vec<IceServerEntry>,
    },
    /// Another peer has come; for a publisher, a viewer whom it shall serve.
    PeerJoined {
        /// Who.
        peer: String,
    },
    /// Another peer has gone.
    PeerLeft {
        /// Who.
        peer: String,
        /// Without a word: his connection to the server was lost, which says nothing of that to his partner.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
    },
    /// A session description.
    Offer {
        /// Of which peer.
        from: String,
        /// The description.
        sdp: String,
    },
    /// The answer to an offer; without `from` it is the server's.
    Answer {
        /// Of which peer.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The description.
        sdp: String,
    },
    /// An ICE candidate; without `from` it is the server's.
    Candidate(RelayedCandidate),
    /// Somebody said something.
    Chat {
        /// Who.
        from: String,
        /// What he is called.
        name: String,
        /// What.
        text: String,
        /// When: milliseconds since 1970.
        at: u64,
        /// He is the channel's publisher.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        broadcaster: bool,
    },
    /// Somebody in the channel has said what he is called.
    ChatJoined {
        /// Who.
        peer: String,
        /// What he is called.
        name: String,
        /// What he was called before.
        #[serde(skip_serializing_if = "Option::is_none")]
        was: Option<String>,
    },
    /// Somebody who had a name has left the channel.
    ChatLeft {
        /// Who.
        peer: String,
        /// What he was called.
        name: String,
    },
    /// All channels.
    Channels {
        /// In order of their creation.
        channels: Vec<ChannelEntry>,
    },
    /// How many watch the channel that one is in.
    Viewers {
        /// So many.
        count: u32,
    },
    /// The layers of the video that a viewer gets from the server, and could get instead.
    Layers {
        /// The smallest first.
        layers: Vec<LayerEntry>,
    },
    /// One is no longer in the channel, or its session is over.
    Closed {
        /// `left`, `stopped`, `replaced`, `ended` (for viewers: the broadcast is over), `shutdown`; for viewers who are
        /// still in the channel and may offer anew: `changed` (to another codec), `lost`; or words of the session.
        reason: String,
    },
    /// A message was not acted on.
    Error {
        /// For programs.
        code: Code,
        /// For people.
        message: String,
    },
}

/// An ICE candidate of a peer or of the server, with the names that browsers have for its parts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct RelayedCandidate {
    /// Of which peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// `candidate:…`; empty: there will be no more.
    pub(super) candidate: String,
    /// The media section's tag.
    #[serde(rename = "sdpMid")]
    pub(super) sdp_mid: Option<String>,
    /// The media section's place.
    #[serde(rename = "sdpMLineIndex")]
    pub(super) sdp_m_line_index: Option<u16>,
    /// The user fragment that it belongs to.
    #[serde(rename = "usernameFragment", skip_serializing_if = "Option::is_none")]
    pub(super) username_fragment: Option<String>,
}

/// A STUN or TURN server, with the names that browsers have for its parts.
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct IceServerEntry {
    /// `stun:host:port`, `turn:host:port?transport=udp`
    pub(super) urls: String,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<String>,
}

/// Never the credential.
impl std::fmt::Debug for IceServerEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceServerEntry({})", self.urls)
    }
}

/// One of the layers of a video.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct LayerEntry {
    /// Its id.
    pub(super) id: String,
    /// Of its pictures, once they have told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) height: Option<u16>,
    /// Bits per second.
    pub(super) bitrate: u64,
}

/// How media goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// From peer to peer; the server passes descriptions on.
    P2p,
    /// Through the server.
    Forward,
}

/// A channel in a list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ChannelEntry {
    /// Its id.
    pub(super) id: String,
    /// For people.
    pub(super) title: Option<String>,
    /// For lists.
    pub(super) category: Option<String>,
    /// Somebody publishes.
    pub(super) live: bool,
    /// How many watch.
    pub(super) viewers: u32,
}

/// Why a message was not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// It is no JSON text frame, or a field of it is missing, unknown or against a rule.
    BadMessage,
    /// It is larger than 64 KiB; the connection closes.
    TooLarge,
    /// Too many came in too short a time.
    TooOften,
    /// The token is missing or not the right one.
    Unauthorized,
    /// It is not for this one to do.
    Forbidden,
    /// There is no such channel, peer or session.
    NotFound,
    /// One has to join a channel first.
    NotJoined,
    /// One is in a channel, or has a name missing: something else comes first.
    BadState,
    /// Another publisher is live on the channel.
    Conflict,
    /// It is well-formed but cannot be done.
    Unacceptable,
    /// This server does not do that.
    Unsupported,
    /// There is no room, or not now.
    Unavailable,
    /// Something of ours failed.
    Internal,
}

/// With the id of what it answers.
#[derive(Serialize)]
pub(super) struct Reply<'a> {
    #[serde(flatten)]
    pub(super) message: &'a ServerMessage,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<u64>,
}

impl ServerMessage {
    /// As it goes out.
    pub(super) fn to_json(&self, id: Option<u64>) -> String {
        // Nothing of it can fail to be written: there are no maps with keys that are no text.
        serde_json::to_string(&Reply { message: self, id }).unwrap_or_default()
    }
}
