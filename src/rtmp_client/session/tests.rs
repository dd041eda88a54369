//! Conversations with a server made of bytes.

use bytes::BytesMut;

use super::*;
use crate::{
    flv::amf0::{begin_object, end_array, put_key, put_null, put_number, put_string},
    rtmp_client::amf0::{self, Value},
};

const HELLO: [u8; 1 + 2 * 1536] = [3; 1 + 2 * 1536];

fn target() -> Target {
    Target {
        tls: false,
        tls_validation_flags: 0,
        host: "h".into(),
        port: 1935,
        application: "app".into(),
        stream: "k3y".into(),
        credentials: Some(("bob".into(), "p4ss".into())),
        codecs: Vec::new(),
        written: Default::default(),
    }
}

/// A session, and what it has sent, without the handshake.
struct Talk {
    session: Session,
    reader: Reader,
}

impl Talk {
    fn start(target: Target, proof: Proof) -> (Self, Vec<Message>) {
        let mut out = BytesMut::new();
        let mut session = Session::new(target, proof, 7, |_| {}, &mut out);
        assert_eq!(out.len(), 1537);
        out.clear();
        session.receive(&HELLO, &mut out).unwrap();
        let _ = out.split_to(1536);
        let mut talk = Self { session, reader: Reader::default() };
        let said = talk.read(&out);
        (talk, said)
    }

    /// Says something to it; what it answers.
    fn say(&mut self, kind: u8, body: &[u8]) -> Result<Vec<Message>, Ending> {
        let (mut bytes, mut out) = (BytesMut::new(), BytesMut::new());
        writer::put_message(128, Header { chunk_stream: 3, kind, timestamp: 0, stream: 0 }, body, &mut bytes);
        self.session.receive(&bytes, &mut out)?;
        Ok(self.read(&out))
    }

    fn read(&mut self, mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut bytes).unwrap() {
            if message.kind == SET_CHUNK_SIZE {
                self.reader.set_chunk_size(u32::from_be_bytes(message.body[..4].try_into().unwrap())).unwrap();
            }
            messages.push(message);
        }
        messages
    }
}

fn result(transaction: f64, number: Option<f64>) -> BytesMut {
    let mut body = BytesMut::new();
    put_string(&mut body, "_result");
    put_number(&mut body, transaction);
    put_null(&mut body);
    number.into_iter().for_each(|number| put_number(&mut body, number));
    body
}

fn said(command: &str, transaction: f64, level: &str, code: &str, description: &str) -> BytesMut {
    let mut body = BytesMut::new();
    put_string(&mut body, command);
    put_number(&mut body, transaction);
    put_null(&mut body);
    begin_object(&mut body);
    for (key, value) in [("level", level), ("code", code), ("description", description)] {
        put_key(&mut body, key);
        put_string(&mut body, value);
    }
    end_array(&mut body);
    body
}

fn command(message: &Message) -> Vec<Value> {
    assert_eq!(message.kind, AMF0_COMMAND);
    amf0::read_all(&message.body).unwrap()
}

fn names(messages: &[Message]) -> Vec<String> {
    let commands = messages.iter().filter(|message| message.kind == AMF0_COMMAND);
    commands.map(|message| command(message)[0].as_str().unwrap().to_owned()).collect()
}

/// Up to the publish command.
fn publishing() -> Talk {
    let (mut talk, _) = Talk::start(target(), Proof::default());
    talk.say(AMF0_COMMAND, &result(1.0, None)).unwrap();
    talk.say(AMF0_COMMAND, &result(4.0, Some(1.0))).unwrap();
    talk
}

#[test]
fn stream_is_live_when_the_server_says_so_and_not_before() {
    let (mut talk, messages) = Talk::start(target(), Proof::default());
    let connect = command(&messages[0]);
    assert_eq!((connect[0].as_str(), connect[2].field("app")), (Some("connect"), Some("app")));
    assert_eq!(connect[2].field("tcUrl"), Some("rtmp://h/app"));
    let early = said("onStatus", 0.0, "status", "NetStream.Publish.Start", "");
    assert_eq!(talk.say(AMF0_COMMAND, &early), Ok(Vec::new()));
    assert!(!talk.session.is_live());
    let messages = talk.say(AMF0_COMMAND, &result(1.0, None)).unwrap();
    assert_eq!(names(&messages), ["releaseStream", "FCPublish", "createStream"]);
    // Answers to what nobody needs decide nothing.
    let unknown = said("_error", 2.0, "error", "NetConnection.Call.Failed", "Method not found (releaseStream).");
    assert_eq!(talk.say(AMF0_COMMAND, &unknown), Ok(Vec::new()));
    let messages = talk.say(AMF0_COMMAND, &result(4.0, Some(5.0))).unwrap();
    let publish = command(&messages[0]);
    assert_eq!((publish[0].as_str(), publish[3].as_str()), (Some("publish"), Some("k3y")));
    assert!(!talk.session.is_live());
    talk.say(AMF0_COMMAND, &said("onStatus", 0.0, "status", "NetStream.Publish.Start", "")).unwrap();
    assert!(talk.session.is_live() && talk.session.stream() == 5);
    let mut out = BytesMut::new();
    talk.session.end(&mut out);
    assert_eq!(names(&talk.read(&out)), ["FCUnpublish", "deleteStream"]);
}

#[test]
fn no_is_told_from_what_may_pass() {
    let refused = |words: &str| Err(Ending::Failed(Error::Refused(words.into())));
    let taken = said("onStatus", 0.0, "error", "NetStream.Publish.BadName", "Already publishing");
    let words = "NetStream.Publish.BadName: Already publishing";
    assert_eq!(publishing().say(AMF0_COMMAND, &taken), refused(words));
    let mut amf3 = vec![0];
    amf3.extend_from_slice(&taken);
    assert_eq!(publishing().say(AMF3_COMMAND, &amf3), refused(words));
    let start = || Talk::start(target(), Proof::default()).0;
    let rejected = said("_error", 1.0, "error", "NetConnection.Connect.Rejected", "");
    assert_eq!(start().say(AMF0_COMMAND, &rejected), refused("NetConnection.Connect.Rejected"));
    let failed = said("_error", 1.0, "error", "NetConnection.Connect.Failed", "busy");
    let answered = Err(Ending::Failed(Error::Answered("NetConnection.Connect.Failed: busy".into())));
    assert_eq!(start().say(AMF0_COMMAND, &failed), answered);
    let mut close = BytesMut::new();
    put_string(&mut close, "close");
    assert_eq!(publishing().say(AMF0_COMMAND, &close), Err(Ending::Failed(Error::Closed)));
    assert_eq!(publishing().say(AMF0_COMMAND, b"\xff"), Ok(Vec::new()));
}

#[test]
fn server_that_asks_for_a_password_gets_its_answer_on_another_connection() {
    let mut query = None;
    let challenge = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=bob&salt=a&challenge=b";
    for (attempts, description, expected) in [
        (0, "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ", "authmod=adobe&user=bob"),
        (1, challenge, "authmod=adobe&user=bob&challenge=00000007&response="),
    ] {
        let (mut talk, messages) = Talk::start(target(), Proof { query: query.clone(), attempts });
        let application = command(&messages[0])[2].field("app").unwrap().to_owned();
        assert_eq!(application, query.map_or("app".into(), |query: String| format!("app?{query}")));
        let error = said("_error", 1.0, "error", "NetConnection.Connect.Rejected", description);
        let Err(Ending::Again(next)) = talk.say(AMF0_COMMAND, &error) else { panic!("{description}") };
        assert!(next.starts_with(expected) && !next.contains("p4ss"), "{next}");
        query = Some(next);
    }
    let (mut talk, _) = Talk::start(target(), Proof { query, attempts: 2 });
    let error = said("_error", 1.0, "error", "NetConnection.Connect.Rejected", "authmod=adobe : ?reason=authfailed");
    assert!(matches!(talk.say(AMF0_COMMAND, &error), Err(Ending::Failed(Error::Refused(_)))));
}

#[test]
fn server_s_questions_are_answered() {
    let mut talk = publishing();
    let pong = talk.say(USER_CONTROL, &[0, 6, 1, 2, 3, 4]).unwrap();
    assert_eq!(pong, [Message { kind: USER_CONTROL, body: vec![0, 7, 1, 2, 3, 4] }]);
    let window = talk.say(PEER_BANDWIDTH, &[0, 1, 0, 0, 2]).unwrap();
    assert_eq!(window, [Message { kind: WINDOW_SIZE, body: vec![0, 1, 0, 0] }]);
    talk.say(WINDOW_SIZE, &[0, 0, 0, 200]).unwrap();
    let acknowledgements: Vec<Message> = (0..10).flat_map(|_| talk.say(9, &[0; 8]).unwrap()).collect();
    assert!(!acknowledgements.is_empty() && acknowledgements.iter().all(|message| message.kind == ACKNOWLEDGEMENT));
    assert!(acknowledgements.len() < 10);
    assert!(talk.say(USER_CONTROL, &[0, 6, 1]).is_err());
    assert!(publishing().say(SET_CHUNK_SIZE, &[0, 0, 0, 0]).is_err());
}

#[test]
fn enhanced_codecs_are_announced_where_there_are_any() {
    let listed = |codecs: Vec<[u8; 4]>| {
        let (_, messages) = Talk::start(Target { codecs, ..target() }, Proof::default());
        messages[0].body.windows(4).any(|part| part == b"Opus")
    };
    assert!(listed(vec![*b"hvc1", *b"Opus"]) && !listed(Vec::new()));
}

#[test]
fn secrets_are_not_in_what_is_printed_for_debugging() {
    let (talk, _) = Talk::start(target(), Proof::default());
    let printed = format!("{:?}", talk.session.target);
    assert!(!printed.contains("k3y") && !printed.contains("bob") && !printed.contains("p4ss"), "{printed}");
}
