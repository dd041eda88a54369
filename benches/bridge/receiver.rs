//! An RTMP server that takes note of each picture and when its last byte came. rml_rtmp does the protocol.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Instant,
};

use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult},
};

use crate::common::flv::{Kind, Tag};

/// A picture that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture {
    pub(crate) at: Instant,
    /// Hash of its slices.
    pub(crate) slices: u64,
    is_keyframe: bool,
}

type Streams = Arc<Mutex<HashMap<String, Vec<Picture>>>>;

/// A running server, one thread for each publisher.
pub(crate) struct Receiver {
    port: u16,
    streams: Streams,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let streams = Streams::default();
        let shared = streams.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let streams = shared.clone();
                std::thread::spawn(move || drop(Publisher::serve(stream, streams))); // gone when the bridge is
            }
        });
        Self { port, streams }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// When the first keyframe of a stream came.
    pub(crate) fn first_keyframe(&self, key: &str) -> Option<Instant> {
        let streams = self.streams.lock().expect("streams");
        streams.get(key)?.iter().find(|picture| picture.is_keyframe).map(|picture| picture.at)
    }

    /// All pictures of a stream.
    pub(crate) fn pictures(&self, key: &str) -> Vec<Picture> {
        self.streams.lock().expect("streams").get(key).cloned().unwrap_or_default()
    }
}

struct Publisher {
    stream: TcpStream,
    session: ServerSession,
    key: String,
    streams: Streams,
}

impl Publisher {
    /// Serves one until it is gone.
    fn serve(mut stream: TcpStream, streams: Streams) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let rest = handshake(&mut stream)?;
        let config = ServerSessionConfig { chunk_size: 65_536, ..ServerSessionConfig::new() };
        let (session, first) = ServerSession::new(config).map_err(io::Error::other)?;
        let mut publisher = Self { stream, session, key: String::new(), streams };
        publisher.act(first, Instant::now())?;
        publisher.take(&rest)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match publisher.stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => publisher.take(&buffer[..count])?,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        let results = self.session.handle_input(bytes).map_err(io::Error::other)?;
        self.act(results, now)
    }

    fn act(&mut self, results: Vec<ServerSessionResult>, now: Instant) -> io::Result<()> {
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => self.stream.write_all(&packet.bytes)?,
                ServerSessionResult::RaisedEvent(event) => {
                    let more = self.on_event(event, now)?;
                    self.act(more, now)?;
                }
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: ServerSessionEvent, now: Instant) -> io::Result<Vec<ServerSessionResult>> {
        use ServerSessionEvent as Event;
        let answer = match event {
            Event::ConnectionRequested { request_id, .. } => self.session.accept_request(request_id),
            Event::PublishStreamRequested { request_id, stream_key, .. } => {
                self.key = stream_key;
                self.session.accept_request(request_id)
            }
            Event::VideoDataReceived { data, .. } => {
                let tag = Tag { kind: Kind::Video, timestamp: 0, data: data.to_vec() };
                if !tag.is_header() {
                    let picture = Picture { at: now, slices: tag.slices(), is_keyframe: tag.is_key() };
                    self.streams.lock().expect("streams").entry(self.key.clone()).or_default().push(picture);
                }
                Ok(vec![])
            }
            _ => Ok(vec![]),
        };
        answer.map_err(io::Error::other)
    }
}

/// Returns what came after the handshake.
fn handshake(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Server);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match handshake.process_bytes(&buffer[..count]).map_err(|error| io::Error::other(error.to_string()))? {
            HandshakeProcessResult::InProgress { response_bytes } => stream.write_all(&response_bytes)?,
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                stream.write_all(&response_bytes)?;
                return Ok(remaining_bytes);
            }
        }
    }
}
