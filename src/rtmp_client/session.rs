//! What is said on a connection, without I/O: bytes of the server in, bytes for it out, until the stream is live.

use bytes::{BufMut as _, BytesMut};

use super::{
    Error, Target,
    auth::{self, Next},
    commands::{self, Answer, Said},
    handshake::Handshake,
    reader::{Malformed, Message, Reader},
    writer::{self, CHUNK_SIZE, COMMANDS, CONTROL, FIRST_CHUNK_SIZE, Header},
};

/// Message types (sections 5.4, 7.1).
const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
const WINDOW_SIZE: u8 = 5;
const PEER_BANDWIDTH: u8 = 6;
const AMF3_COMMAND: u8 = 17;
const AMF0_COMMAND: u8 = 20;

/// User control events (section 7.1.7).
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;

/// Where the conversation stands.
#[derive(Debug)]
enum Stage {
    Handshake(Handshake),
    Connecting,
    Creating,
    Publishing,
    Live,
}

/// Credentials that the server asked for, behind the application's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    pub(super) query: Option<String>,
    pub(super) attempts: usize,
}

/// How a session ends before it is live.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Failed(Error),
    /// Connect again with this query.
    Again(String),
}

impl From<Malformed> for Ending {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Failed(Error::Protocol(what))
    }
}

#[derive(Debug)]
pub(super) struct Session {
    target: Target,
    proof: Proof,
    random: u32,
    stage: Stage,
    reader: Reader,
    stream: u32,
    /// What the server has sent since we acknowledged, and how much it may.
    unacknowledged: u32,
    received: u32,
    window: Option<u32>,
}

impl Session {
    /// Begins; what to send first is in `out`.
    pub(super) fn new(
        target: Target,
        proof: Proof,
        random: u32,
        fill: impl FnOnce(&mut [u8]),
        out: &mut BytesMut,
    ) -> Self {
        Handshake::begin(fill, out);
        Self {
            target,
            proof,
            random,
            stage: Stage::Handshake(Handshake::default()),
            reader: Reader::default(),
            stream: 0,
            unacknowledged: 0,
            received: 0,
            window: None,
        }
    }

    /// Whether the server has taken the stream.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    /// The message stream that media goes into.
    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    /// Takes what the server sent; what it is to be told is appended to `out`.
    pub(super) fn receive(&mut self, mut bytes: &[u8], out: &mut BytesMut) -> Result<(), Ending> {
        self.count(bytes.len(), out);
        if let Stage::Handshake(handshake) = &mut self.stage {
            let done = handshake.receive(&mut bytes, out);
            if !done.map_err(|_| Ending::Failed(Error::Protocol("its first bytes are of another protocol")))? {
                return Ok(());
            }
            self.stage = Stage::Connecting;
            let (application, url) = self.names();
            self.command(0, &commands::connect(&application, &url, &self.target.codecs), out);
        }
        while let Some(message) = self.reader.read(&mut bytes)? {
            self.handle(&message, out)?;
        }
        Ok(())
    }

    /// Says goodbye.
    pub(super) fn end(&self, out: &mut BytesMut) {
        for command in commands::goodbye(&self.target.stream, self.stream) {
            self.command(0, &command, out);
        }
    }

    fn handle(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), Ending> {
        let number = |at: usize| {
            let bytes = message.body.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            bytes.map(u32::from_be_bytes).ok_or(Malformed("a control message that is too short"))
        };
        match message.kind {
            SET_CHUNK_SIZE => self.reader.set_chunk_size(number(0)? & 0x7fff_ffff)?,
            ABORT => self.reader.abort(number(0)?),
            WINDOW_SIZE => self.window = Some(number(0)?).filter(|window| *window > 0),
            // Ours is what the server asks for, and it is told so (section 5.4.5).
            PEER_BANDWIDTH => control(WINDOW_SIZE, &number(0)?.to_be_bytes(), out),
            USER_CONTROL if message.body.starts_with(&PING_REQUEST.to_be_bytes()) => {
                let mut body = BytesMut::from(&PING_RESPONSE.to_be_bytes()[..]);
                body.put_u32(number(2)?);
                control(USER_CONTROL, &body, out);
            }
            // Behind a byte for the format, which is AMF0 again.
            AMF3_COMMAND => self.answer(message.body.get(1..).unwrap_or_default(), out)?,
            AMF0_COMMAND => self.answer(&message.body, out)?,
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, body: &[u8], out: &mut BytesMut) -> Result<(), Ending> {
        // What nobody can read decides nothing; connect-timeout is there for a server that says nothing else.
        match commands::read(body).unwrap_or(Answer::Other) {
            Answer::Result { transaction, number } => self.proceed(transaction, number, out),
            Answer::Error { transaction, said } => self.refuse(transaction, &said),
            Answer::Status(said) if said.code == "NetStream.Publish.Start" => {
                if matches!(self.stage, Stage::Publishing) {
                    self.stage = Stage::Live;
                }
                Ok(())
            }
            // Warnings, and what happens to a stream that is live already.
            Answer::Status(said) if said.is_refusal() || said.is_error && !self.is_live() => Err(failed(&said)),
            Answer::Close => Err(Ending::Failed(Error::Closed)),
            Answer::Status(_) | Answer::Other => Ok(()),
        }
    }

    fn proceed(&mut self, transaction: f64, number: Option<f64>, out: &mut BytesMut) -> Result<(), Ending> {
        match self.stage {
            Stage::Connecting if transaction == commands::CONNECT => {
                self.stage = Stage::Creating;
                control(SET_CHUNK_SIZE, &(CHUNK_SIZE as u32).to_be_bytes(), out);
                for command in commands::announce(&self.target.stream) {
                    self.command(0, &command, out);
                }
                self.command(0, &commands::create(), out);
            }
            Stage::Creating if transaction == commands::CREATE => {
                let id = number.filter(|id| *id >= 0.0 && *id <= f64::from(u32::MAX));
                self.stream = id.ok_or(Malformed("createStream gives no number"))? as u32;
                self.stage = Stage::Publishing;
                self.command(self.stream, &commands::publish(&self.target.stream), out);
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse(&self, transaction: f64, said: &Said) -> Result<(), Ending> {
        match self.stage {
            Stage::Connecting if transaction == commands::CONNECT => {
                let Target { credentials, application, .. } = &self.target;
                let attempts = self.proof.attempts;
                Err(match auth::next(&said.description, credentials.as_ref(), application, attempts, self.random) {
                    Next::Connect(query) => Ending::Again(query),
                    Next::Refused(words) => Ending::Failed(Error::Refused(words)),
                    Next::Unrelated => failed(said),
                })
            }
            Stage::Creating if transaction == commands::CREATE => Err(failed(said)),
            Stage::Publishing if transaction == commands::PUBLISH => Err(failed(said)),
            _ => Ok(()), // some servers do not know releaseStream and FCPublish, and nobody needs them to
        }
    }

    /// The application and its URL, with the proof if the server asked for one.
    fn names(&self) -> (String, String) {
        let Target { tls, host, port, application, .. } = &self.target;
        let application = match &self.proof.query {
            Some(query) => format!("{application}{}{query}", if application.contains('?') { '&' } else { '?' }),
            None => application.clone(),
        };
        let (scheme, usual) = if *tls { ("rtmps", 443) } else { ("rtmp", 1935) };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let port = if *port == usual { String::new() } else { format!(":{port}") };
        let url = format!("{scheme}://{host}{port}/{application}");
        (application, url)
    }

    fn command(&self, stream: u32, body: &[u8], out: &mut BytesMut) {
        let size =
            if matches!(self.stage, Stage::Handshake(_) | Stage::Connecting) { FIRST_CHUNK_SIZE } else { CHUNK_SIZE };
        let header = Header { chunk_stream: COMMANDS, kind: AMF0_COMMAND, timestamp: 0, stream };
        writer::put_message(size, header, body, out);
    }

    /// Acknowledges what has come when the server's window is half full (section 5.4.3).
    fn count(&mut self, bytes: usize, out: &mut BytesMut) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.received = self.received.wrapping_add(bytes); // wraps, as its field does
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
        if self.window.is_some_and(|window| self.unacknowledged >= (window / 2).max(1)) {
            self.unacknowledged = 0;
            control(ACKNOWLEDGEMENT, &self.received.to_be_bytes(), out);
        }
    }
}

fn control(kind: u8, body: &[u8], out: &mut BytesMut) {
    let header = Header { chunk_stream: CONTROL, kind, timestamp: 0, stream: 0 };
    writer::put_message(FIRST_CHUNK_SIZE, header, body, out);
}

fn failed(said: &Said) -> Ending {
    let words = said.words();
    Ending::Failed(if said.is_refusal() { Error::Refused(words) } else { Error::Answered(words) })
}

#[cfg(test)]
mod tests;
