//! A client's message, read and checked: whatever is wrong with it is named, and what is left can be acted on.

use serde_json::{Map, Value};

use super::protocol::{
    Candidate, ClientMessage, Code, JoinRole, MAX_ALIAS, MAX_CANDIDATE, MAX_CATEGORY, MAX_CHAT, MAX_ID, MAX_METADATA,
    MAX_TITLE,
};
use crate::{
    channel::{ChannelId, NewChannel},
    signaling::sdp,
};

/// What a client wants.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Create(NewChannel),
    Join { channel: ChannelId, role: JoinRole, is_direct: bool },
    Leave,
    Signal { to: Option<String>, signal: Signal },
    Alias(String),
    Chat(String),
    List,
    Layer(Option<usize>),
    Stop(Option<ChannelId>),
}

/// What peers tell each other, or a publisher the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Signal {
    Offer(String),
    Answer(String),
    Candidate(Trickled),
}

/// A candidate; empty: there will be no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trickled {
    pub(super) candidate: String,
    pub(super) mid: Option<String>,
    pub(super) m_line_index: Option<u16>,
    pub(super) ufrag: Option<String>,
}

/// What is wrong with a message, and its id if that could be read.
#[derive(Debug, PartialEq)]
pub(super) struct BadMessage {
    pub(super) id: Option<u64>,
    pub(super) code: Code,
    pub(super) what: String,
}

/// Reads one text frame.
pub(super) fn parse(text: &str) -> Result<(Option<u64>, Request), BadMessage> {
    let bad = |id, what: String| BadMessage { id, code: Code::BadMessage, what };
    let mut object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| bad(None, format!("not a JSON object: {error}")))?;
    let id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(id) => match id.as_u64().filter(|id| *id <= MAX_ID) {
            Some(id) => Some(id),
            None => return Err(bad(None, format!("id: must be an integer from 0 to {MAX_ID}"))),
        },
    };
    let message = typed(object).map_err(|what| bad(id, what))?;
    let request = Request::checked(message).map_err(|what| bad(id, what))?;
    Ok((id, request))
}

fn typed(mut object: Map<String, Value>) -> Result<ClientMessage, String> {
    let Some(Value::String(kind)) = object.remove("type") else { return Err("type: must be a text".into()) };
    // From here on the type's name is the one key of the object around the fields, which names the field in errors.
    let message = Value::Object(Map::from_iter([(kind, Value::Object(object))]));
    serde_path_to_error::deserialize(message).map_err(|error| {
        // After the type's own name.
        let path = error.path().to_string();
        let field = path.split_once('.').map(|(_, field)| format!("{field}: ")).unwrap_or_default();
        abridged(&format!("{field}{}", error.inner()))
    })
}

impl Request {
    fn checked(message: ClientMessage) -> Result<Self, String> {
        Ok(match message {
            ClientMessage::Create { title, category, metadata } => {
                let title = title.map(|title| label("title", title, MAX_TITLE)).transpose()?;
                let category = category.map(|category| label("category", category, MAX_CATEGORY)).transpose()?;
                let metadata = metadata.map(|metadata| metadata.to_string());
                if metadata.as_ref().is_some_and(|metadata| metadata.len() > MAX_METADATA) {
                    return Err(format!("metadata: has more than {MAX_METADATA} bytes"));
                }
                Self::Create(NewChannel { title, category, metadata })
            }
            ClientMessage::Join { channel, role, p2p } => {
                Self::Join { channel: channel_id(&channel)?, role, is_direct: p2p.unwrap_or(true) }
            }
            ClientMessage::Leave {} => Self::Leave,
            ClientMessage::Offer { to, sdp } => {
                Self::Signal { to: peer(to)?, signal: Signal::Offer(checked_sdp(sdp)?) }
            }
            ClientMessage::Answer { to, sdp } => {
                Self::Signal { to: peer(to)?, signal: Signal::Answer(checked_sdp(sdp)?) }
            }
            ClientMessage::Candidate(candidate) => {
                let Candidate { to, candidate, sdp_mid, sdp_m_line_index, username_fragment } = candidate;
                let candidate = self::candidate(candidate.unwrap_or_default())?;
                let mid = sdp_mid.map(|mid| token("sdpMid", mid, 64)).transpose()?;
                let ufrag = username_fragment.map(ufrag).transpose()?;
                let trickled = Trickled { candidate, mid, m_line_index: sdp_m_line_index, ufrag };
                Self::Signal { to: peer(to)?, signal: Signal::Candidate(trickled) }
            }
            ClientMessage::Alias { name } => Self::Alias(words("name", label("name", name, MAX_ALIAS)?)?),
            ClientMessage::Chat { text } => {
                if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
                    return Err("text: has control characters".into());
                }
                Self::Chat(words("text", at_most("text", text, MAX_CHAT)?)?)
            }
            ClientMessage::List {} => Self::List,
            ClientMessage::Layer { layer } => Self::Layer(layer.map(|layer| self::layer(&layer)).transpose()?),
            ClientMessage::Stop { channel } => Self::Stop(channel.map(|channel| channel_id(&channel)).transpose()?),
        })
    }
}

fn at_most(field: &str, text: String, most: usize) -> Result<String, String> {
    match text.chars().nth(most) {
        None => Ok(text),
        Some(_) => Err(format!("{field}: has more than {most} characters")),
    }
}

/// One line for people.
fn label(field: &str, text: String, most: usize) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        false => at_most(field, text, most),
        true => Err(format!("{field}: has control characters")),
    }
}

fn words(field: &str, text: String) -> Result<String, String> {
    match text.trim().is_empty() {
        false => Ok(text),
        true => Err(format!("{field}: is empty")),
    }
}

/// Visible ASCII: it will stand in lines of SDP.
fn token(field: &str, text: String, most: usize) -> Result<String, String> {
    match text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(format!("{field}: must have at most {most} visible ASCII characters")),
    }
}

fn channel_id(text: &str) -> Result<ChannelId, String> {
    text.parse().map_err(|error| format!("channel: {error}"))
}

/// Layers have their places as ids.
fn layer(id: &str) -> Result<usize, String> {
    id.parse().map_err(|_| "layer: is no layer's id".to_owned())
}

/// Peers have ids of the form of a channel's.
fn peer(to: Option<String>) -> Result<Option<String>, String> {
    match to {
        Some(to) if to.parse::<ChannelId>().is_err() => Err("to: is no peer's id".into()),
        to => Ok(to),
    }
}

fn checked_sdp(sdp: String) -> Result<String, String> {
    match sdp::check(sdp.as_bytes()) {
        Ok(_) => Ok(sdp),
        Err(error) => Err(format!("sdp: {error}")),
    }
}

fn candidate(line: String) -> Result<String, String> {
    if line.is_empty() {
        return Ok(line);
    }
    let fits = line.len() <= MAX_CANDIDATE && line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    match fits && line.starts_with("candidate:") {
        true => Ok(line),
        false => {
            Err(format!("candidate: must begin with \"candidate:\" and have at most {MAX_CANDIDATE} ASCII characters"))
        }
    }
}

/// `4*256ice-char` (RFC 8839 section 5.4).
fn ufrag(text: String) -> Result<String, String> {
    let is_ice = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match (4..=256).contains(&text.len()) && text.bytes().all(is_ice) {
        true => Ok(text),
        false => Err("usernameFragment: must have 4 to 256 ICE characters".into()),
    }
}

/// Errors may quote what came; they are to be read by people.
fn abridged(text: &str) -> String {
    const MOST: usize = 300;
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\\r\\no=- 1 1 IN IP4 0.0.0.0\\r\\ns=-\\r\\nt=0 0\\r\\na=fingerprint:sha-256 AA\\r\\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\\r\\na=ice-ufrag:abcd\\r\\na=ice-pwd:0123456789\\r\\n";

    fn wrong(text: &str) -> String {
        parse(text).expect_err(text).what
    }

    #[test]
    fn every_message_is_read() {
        let read = |text: &str| parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"));
        let (id, create) = read(r#"{"type":"create","id":7,"title":"ä","category":"tech","metadata":{"a":[1]}}"#);
        let metadata = Some(r#"{"a":[1]}"#.to_owned());
        let made = NewChannel { title: Some("ä".into()), category: Some("tech".into()), metadata };
        assert_eq!((id, create), (Some(7), Request::Create(made)));
        assert_eq!(read(r#"{"type":"create"}"#), (None, Request::Create(NewChannel::default())));
        let live: ChannelId = "live".parse().unwrap();
        let join = Request::Join { channel: live.clone(), role: JoinRole::Peer, is_direct: true };
        assert_eq!(read(r#"{"id":null,"channel":"live","role":"peer","type":"join"}"#), (None, join));
        let join = Request::Join { channel: live.clone(), role: JoinRole::Viewer, is_direct: false };
        assert_eq!(read(r#"{"type":"join","channel":"live","role":"viewer","p2p":false}"#).1, join);
        assert_eq!(read(r#"{"type":"leave"}"#).1, Request::Leave);
        assert_eq!(read(r#"{"type":"list","id":0}"#), (Some(0), Request::List));
        assert_eq!(read(r#"{"type":"layer","layer":"2"}"#).1, Request::Layer(Some(2)));
        assert_eq!(read(r#"{"type":"layer","layer":null}"#).1, Request::Layer(None));
        assert_eq!(read(r#"{"type":"stop"}"#).1, Request::Stop(None));
        assert_eq!(read(r#"{"type":"stop","channel":"live"}"#).1, Request::Stop(Some(live)));
        assert_eq!(read(r#"{"type":"alias","name":"Ann"}"#).1, Request::Alias("Ann".into()));
        assert_eq!(read(r#"{"type":"chat","text":"a\nb"}"#).1, Request::Chat("a\nb".into()));
        let (_, offer) = read(&format!(r#"{{"type":"offer","to":"p1","sdp":"{SDP}"}}"#));
        assert!(matches!(offer, Request::Signal { to: Some(to), signal: Signal::Offer(_) } if to == "p1"));
        let (_, answer) = read(&format!(r#"{{"type":"answer","sdp":"{SDP}"}}"#));
        assert!(matches!(answer, Request::Signal { to: None, signal: Signal::Answer(_) }));
    }

    /// `{type: "candidate", ...event.candidate.toJSON()}`, and what stands for the last one.
    #[test]
    fn a_browsers_candidate_is_read_as_it_is() {
        let line = "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw";
        let text = format!(
            r#"{{"type":"candidate","candidate":"{line}","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}}"#
        );
        let expected = Trickled {
            candidate: line.into(),
            mid: Some("0".into()),
            m_line_index: Some(0),
            ufrag: Some("EsAw".into()),
        };
        let (_, read) = parse(&text).unwrap();
        assert_eq!(read, Request::Signal { to: None, signal: Signal::Candidate(expected) });
        for last in [r#"{"type":"candidate","candidate":""}"#, r#"{"type":"candidate","candidate":null}"#] {
            let (_, read) = parse(last).unwrap();
            assert_eq!(read, Request::Signal { to: None, signal: Signal::Candidate(Trickled::default()) });
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{\"type\":\"list\"", "not a JSON object"),
            ("{}", "type: must be a text"),
            (r#"{"type":5}"#, "type: must be a text"),
            (r#"{"type":"dance"}"#, "unknown variant `dance`"),
            (r#"{"type":"join","channel":"a"}"#, "missing field `role`"),
            (r#"{"type":"join","channel":"a","role":"king"}"#, "role: unknown variant `king`"),
            (r#"{"type":"join","channel":5,"role":"peer"}"#, "channel: invalid type: integer `5`"),
            (r#"{"type":"join","channel":"a b","role":"peer"}"#, "channel: "),
            (r#"{"type":"list","colour":1}"#, "unknown field `colour`"),
            (r#"{"type":"list","id":-1}"#, "id: "),
            (r#"{"type":"list","id":1.5}"#, "id: "),
            (r#"{"type":"list","id":"x"}"#, "id: "),
            (r#"{"type":"list","id":9007199254740992}"#, "id: "),
            (r#"{"type":"offer","sdp":"hello"}"#, "sdp: "),
            (r#"{"type":"offer","sdp":"v=0","to":"../x"}"#, "to: "),
            (r#"{"type":"candidate","candidate":"host"}"#, "candidate: "),
            (r#"{"type":"candidate","candidate":"candidate:1\r\na=x"}"#, "candidate: "),
            (r#"{"type":"candidate","sdpMid":"a b"}"#, "sdpMid: "),
            (r#"{"type":"candidate","sdpMLineIndex":70000}"#, "sdpMLineIndex: "),
            (r#"{"type":"candidate","usernameFragment":"x"}"#, "usernameFragment: "),
            (r#"{"type":"layer","layer":"hd"}"#, "layer: is no"),
            (r#"{"type":"alias","name":" "}"#, "name: is empty"),
            (r#"{"type":"alias","name":"a\nb"}"#, "name: has control"),
            (r#"{"type":"chat","text":""}"#, "text: is empty"),
            (r#"{"type":"chat","text":"\u0000"}"#, "text: has control"),
        ] {
            assert!(wrong(text).contains(why), "{text}: {}", wrong(text));
        }
    }

    #[test]
    fn the_id_of_a_bad_message_is_told() {
        assert_eq!(parse(r#"{"type":"dance","id":3}"#).unwrap_err().id, Some(3));
        assert_eq!(parse(r#"{"type":"chat","text":"","id":4}"#).unwrap_err().id, Some(4));
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let with = |kind: &str, field: &str, n: usize| format!(r#"{{"type":"{kind}","{field}":"{}"}}"#, "ä".repeat(n));
        for (kind, field, most) in [
            ("create", "title", MAX_TITLE),
            ("create", "category", MAX_CATEGORY),
            ("alias", "name", MAX_ALIAS),
            ("chat", "text", MAX_CHAT),
        ] {
            assert!(parse(&with(kind, field, most)).is_ok(), "{field}");
            assert!(wrong(&with(kind, field, most + 1)).contains(&format!("{field}: has more than {most}")));
        }
        let metadata = |n: usize| format!(r#"{{"type":"create","metadata":"{}"}}"#, "x".repeat(n - 2));
        assert!(parse(&metadata(MAX_METADATA)).is_ok());
        assert!(wrong(&metadata(MAX_METADATA + 1)).starts_with("metadata: "));
    }

    #[test]
    fn errors_are_short_and_of_one_line_whatever_came() {
        let what = wrong(&format!(r#"{{"type":"{}\n\u001b[31m"}}"#, "x".repeat(60_000)));
        assert!(what.chars().count() <= 301 && !what.chars().any(char::is_control), "{what}");
        assert!(parse(&"[".repeat(60_000)).is_err(), "depth is bounded");
        assert!(parse(&format!("{{\"a\":{}", "[".repeat(60_000))).is_err());
    }
}
