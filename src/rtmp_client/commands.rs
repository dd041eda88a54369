//! The commands of a publisher (section 7.2), and what servers answer.

use bytes::BytesMut;

use super::amf0::{self, Value};
use crate::flv::amf0::{begin_object, begin_strict_array, end_array, put_key, put_null, put_number, put_string};

/// What FFmpeg, OBS and rtmp2sink say: some servers take streams from a Flash Media Live Encoder only.
const FLASH_VERSION: &str = "FMLE/3.0 (compatible; FMSc/1.0)";

/// Transactions, by which answers are told from one another.
pub(super) const CONNECT: f64 = 1.0;
const RELEASE: f64 = 2.0;
const ANNOUNCE: f64 = 3.0;
pub(super) const CREATE: f64 = 4.0;
pub(super) const PUBLISH: f64 = 5.0;

/// `connect` (section 7.2.1.1). `codecs`: FourCCs of enhanced RTMP, for servers that want to be told.
pub(super) fn connect(application: &str, url: &str, codecs: &[[u8; 4]]) -> BytesMut {
    let mut out = begin("connect", CONNECT);
    begin_object(&mut out);
    for (key, value) in [("app", application), ("type", "nonprivate"), ("flashVer", FLASH_VERSION), ("tcUrl", url)] {
        put_key(&mut out, key);
        put_string(&mut out, value);
    }
    if !codecs.is_empty() {
        put_key(&mut out, "fourCcList");
        begin_strict_array(&mut out, codecs.len() as u32);
        codecs.iter().for_each(|codec| put_string(&mut out, &String::from_utf8_lossy(codec)));
    }
    end_array(&mut out);
    out
}

/// `releaseStream` and `FCPublish`: no part of the specification, but servers of Adobe's descent want them.
pub(super) fn announce(stream: &str) -> [BytesMut; 2] {
    [with_name("releaseStream", RELEASE, stream), with_name("FCPublish", ANNOUNCE, stream)]
}

/// `createStream` (section 7.2.1.3).
pub(super) fn create() -> BytesMut {
    let mut out = begin("createStream", CREATE);
    put_null(&mut out);
    out
}

/// `publish` (section 7.2.2.6).
pub(super) fn publish(stream: &str) -> BytesMut {
    let mut out = with_name("publish", PUBLISH, stream);
    put_string(&mut out, "live");
    out
}

/// The goodbye: `FCUnpublish`, which servers of Adobe's descent want, and `deleteStream` (section 7.2.2.3).
pub(super) fn goodbye(stream: &str, id: u32) -> [BytesMut; 2] {
    let mut delete = begin("deleteStream", 0.0);
    put_null(&mut delete);
    put_number(&mut delete, f64::from(id));
    [with_name("FCUnpublish", 0.0, stream), delete]
}

fn with_name(command: &str, transaction: f64, stream: &str) -> BytesMut {
    let mut out = begin(command, transaction);
    put_null(&mut out);
    put_string(&mut out, stream);
    out
}

fn begin(command: &str, transaction: f64) -> BytesMut {
    let mut out = BytesMut::with_capacity(256);
    put_string(&mut out, command);
    put_number(&mut out, transaction);
    out
}

/// What the server says.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// `_result`, with the number that comes behind the properties.
    Result { transaction: f64, number: Option<f64> },
    /// `_error`.
    Error { transaction: f64, said: Said },
    /// `onStatus` and its like.
    Status(Said),
    /// `close`.
    Close,
    /// Anything else.
    Other,
}

/// The code and description of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: String,
    pub(super) description: String,
    pub(super) is_error: bool,
}

impl Said {
    /// Whether it is a no for good, and not a failure that may pass.
    pub(super) fn is_refusal(&self) -> bool {
        let words = format!("{} {}", self.code, self.description).to_lowercase();
        ["denied", "rejected", "not authorized", "authorization", "badname", "badauth"]
            .iter()
            .any(|no| words.contains(no))
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match (self.code.as_str(), self.description.as_str()) {
            ("", "") => "without a reason".into(),
            (code, "") => code.into(),
            ("", description) => description.into(),
            (code, description) => format!("{code}: {description}"),
        }
    }
}

/// Reads the body of a command message.
pub(super) fn read(body: &[u8]) -> Result<Answer, amf0::Malformed> {
    let values = amf0::read_all(body)?;
    let Some(command) = values.first().and_then(Value::as_str) else { return Err(amf0::Malformed) };
    let transaction = values.get(1).and_then(Value::as_number).unwrap_or_default();
    Ok(match command {
        "_result" => Answer::Result { transaction, number: values.get(3).and_then(Value::as_number) },
        "_error" => Answer::Error { transaction, said: said(&values) },
        "onStatus" | "onFCPublish" => Answer::Status(said(&values)),
        "close" => Answer::Close,
        _ => Answer::Other,
    })
}

/// What is said about it stands in the last object that has a code.
fn said(values: &[Value]) -> Said {
    let Some(info) = values.iter().rev().find(|value| value.field("code").is_some()) else { return Said::default() };
    let field = |name| info.field(name).unwrap_or_default().to_owned();
    Said { code: field("code"), description: field("description"), is_error: info.field("level") == Some("error") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_it_should() {
        let values = amf0::read_all(&connect("live", "rtmp://h/live", &[*b"hvc1"])).unwrap();
        assert_eq!(values[0].as_str(), Some("connect"));
        assert_eq!((values[2].field("app"), values[2].field("tcUrl")), (Some("live"), Some("rtmp://h/live")));
        assert!(!connect("live", "", &[]).windows(10).any(|part| part == b"fourCcList"));
        let values = amf0::read_all(&publish("key")).unwrap();
        assert_eq!((values[3].as_str(), values[4].as_str()), (Some("key"), Some("live")));
        let [leave, delete] = goodbye("key", 7).map(|command| amf0::read_all(&command).unwrap());
        assert_eq!((leave[0].as_str(), leave[3].as_str()), (Some("FCUnpublish"), Some("key")));
        assert_eq!((delete[0].as_str(), delete[3].as_number()), (Some("deleteStream"), Some(7.0)));
    }

    #[test]
    fn refusals_are_told_from_failures() {
        let said =
            |code: &str, description: &str| Said { code: code.into(), description: description.into(), is_error: true };
        assert!(said("NetStream.Publish.BadName", "Already publishing").is_refusal());
        assert!(said("NetConnection.Connect.Rejected", "").is_refusal());
        assert!(said("", "[ AccessManager.Reject ] : not authorized").is_refusal());
        assert!(!said("NetConnection.Connect.Failed", "out of memory").is_refusal());
    }
}
