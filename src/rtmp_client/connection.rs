//! A connection: opened until the server has taken the stream, looked after by one task, fed from any thread.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand::Rng as _;

use super::{
    Error, dial,
    link::Link,
    session::{Ending, Proof, Session},
};
use crate::flv::SharedTag;

/// What servers say is short.
const BUFFER: usize = 4096;
/// What a stream takes to become live is 5 kB at most; a server that wants more wants something else.
const MOST_ANSWERS: usize = 64 << 10;
/// So often what a server has said is read when nothing can be written any more.
const LAST_READS: usize = 16;
/// How long the server is waited for after the goodbye: with what it has sent unread, closing would reset the connection,
/// and what is on its way to it might be lost.
const LINGER: Duration = Duration::from_millis(200);

/// Where to, and how. Names and credentials are secrets.
#[derive(Clone)]
pub struct Target {
    /// Whether the connection is wrapped in TLS.
    pub tls: bool,
    /// GTlsCertificateFlags: what of the server's certificate is checked.
    pub tls_validation_flags: u32,
    /// Host name or address, without the brackets of IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The application.
    pub application: String,
    /// The stream's name.
    pub stream: String,
    /// User name and password, told to servers that ask for them.
    pub credentials: Option<(String, String)>,
    /// FourCCs of enhanced RTMP that will be sent.
    pub codecs: Vec<[u8; 4]>,
    /// Counts the bytes of media that the socket takes.
    pub written: Arc<AtomicU64>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}:{})", self.host, self.port)
    }
}

/// An open connection, whose stream the server has taken.
#[derive(Debug)]
pub struct Connection {
    link: Arc<Link>,
    session: Session,
    buffer: Box<[u8]>,
    answers: BytesMut,
    /// Bytes of answers before the stream was live.
    answered: usize,
    goodbye_said: bool,
    over_by: Option<tokio::time::Instant>,
}

/// Sends media on a connection, from any thread. What it sends after the connection's end goes nowhere.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Link>);

/// Connects, and returns when the server has taken the stream. Takes as long as it takes.
pub async fn open(target: Target) -> Result<Connection, Error> {
    let mut proof = Proof::default();
    loop {
        match attempt(&target, proof.clone()).await {
            Ok(connection) => return Ok(connection),
            Err(Ending::Failed(error)) => return Err(error),
            // Each is another one; `auth` says which is the last.
            Err(Ending::Again(query)) => proof = Proof { query: Some(query), attempts: proof.attempts + 1 },
        }
    }
}

async fn attempt(target: &Target, proof: Proof) -> Result<Connection, Ending> {
    let (stream, tls) = dial::dial(target).await.map_err(Ending::Failed)?;
    tracing::debug!(host = target.host, port = target.port, "connected");
    let link = Arc::new(Link::new(stream, tls, target.written.clone()));
    let mut answers = BytesMut::new();
    let session =
        Session::new(target.clone(), proof, rand::random(), |bytes| rand::rng().fill_bytes(bytes), &mut answers);
    link.answer(&mut answers).map_err(Ending::Failed)?;
    let buffer = vec![0; BUFFER].into();
    let mut connection = Connection { link, session, buffer, answers, answered: 0, goodbye_said: false, over_by: None };
    while !connection.session.is_live() {
        connection.step().await?;
    }
    connection.link.go_live(connection.session.stream());
    tracing::debug!(host = target.host, port = target.port, "the server has taken the stream");
    Ok(connection)
}

impl Connection {
    /// The end for media.
    pub fn sender(&self) -> Sender {
        Sender(self.link.clone())
    }

    /// Does what is to do: answers the server, and sends what the socket did not take at once. Returns when the connection
    /// has ended, with why. May be given up at any time, and called again.
    pub async fn run(&mut self) -> Error {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(Ending::Failed(error)) => return error,
                Err(Ending::Again(_)) => return Error::Closed,
            }
        }
    }

    /// Sends all that is queued, says goodbye, and waits a little for the server to hear it. May be given up at any time,
    /// and called again.
    pub async fn finish(&mut self) -> Result<(), Error> {
        if !std::mem::replace(&mut self.goodbye_said, true) {
            self.session.end(&mut self.answers);
            self.link.answer(&mut self.answers)?;
        }
        while self.over_by.is_none() {
            if !self.link.has_queued() {
                self.link.shut();
                self.over_by = Some(tokio::time::Instant::now() + LINGER);
                break;
            }
            if let Err(Ending::Failed(error)) = self.step().await {
                return Err(error);
            }
        }
        let over_by = self.over_by.unwrap_or_else(tokio::time::Instant::now);
        let _ = tokio::time::timeout_at(over_by, self.run()).await; // all has left; more cannot be done
        Ok(())
    }

    /// Waits for the socket, and does what is due then.
    async fn step(&mut self) -> Result<(), Ending> {
        tokio::task::consume_budget().await; // a server that never stops must not have the thread for itself
        let may_read = tokio::select! {
            () = self.link.readable() => true,
            () = self.link.writable() => false,
        };
        if !may_read {
            self.link.send();
        }
        let Some(failure) = self.link.failure() else {
            return if may_read { self.receive().map(|_| ()) } else { Ok(()) };
        };
        // The server may have said why before it closed.
        for _ in 0..LAST_READS {
            if !self.receive()? {
                break;
            }
        }
        Err(Ending::Failed(failure))
    }

    /// Takes what the server has sent; whether that was anything.
    fn receive(&mut self) -> Result<bool, Ending> {
        let mut any = false;
        while let Some((count, more)) = self.link.read(&mut self.buffer).map_err(Ending::Failed)? {
            any = true;
            let received = self.buffer.get(..count).unwrap_or_default();
            self.session.receive(received, &mut self.answers)?;
            if !self.answers.is_empty() {
                if !self.session.is_live() {
                    self.answered += self.answers.len();
                }
                if self.answered > MOST_ANSWERS {
                    return Err(Ending::Failed(Error::Protocol("it asks too much")));
                }
                self.link.answer(&mut self.answers).map_err(Ending::Failed)?;
            }
            if !more {
                break;
            }
        }
        Ok(any)
    }
}

impl Sender {
    /// Sends tags, or queues what the socket does not take. Never waits, and copies no media.
    pub fn push(&self, tags: impl IntoIterator<Item = SharedTag>) {
        self.0.push(tags);
    }

    /// How long the oldest tag has been waiting for the socket. For ever, if too much waits.
    pub fn lag(&self) -> Duration {
        self.0.lag(Instant::now())
    }

    /// Whether anything waits for the socket.
    pub fn has_queued(&self) -> bool {
        self.0.has_queued()
    }
}
