//! The program as a whole: a publisher of rml_rtmp's own client on one side, plain HTTP on the other.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{
        ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType, StreamMetadata,
    },
    time::RtmpTimestamp,
};

const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 1];
const DELTA: &[u8] = &[0x27, 1, 0, 0, 0, 2];

#[test]
fn published_stream_is_played_from_its_last_keyframe() {
    let mut receiver = Receiver::start();
    assert!(receiver.get("/healthz").starts_with(b"HTTP/1.0 200"));
    assert!(receiver.get("/live/key.flv").starts_with(b"HTTP/1.0 404"));

    let mut publisher = Publisher::connect(&receiver, "live", "key").unwrap();
    receiver.expect("live/key published by");
    publisher.video(0, &[0x17, 0, 0, 0, 0]);
    publisher.video(1000, KEYFRAME);
    publisher.video(1033, DELTA);
    publisher.video(3000, KEYFRAME);
    publisher.video(3050, DELTA);
    receiver.wait_for_tag("/live/key.flv", &[(9, 50), (9, 2050)]);
    let mut second = Publisher::connect(&receiver, "live", "key");
    assert!(second.is_err(), "the key is taken");
    receiver.expect("refused");
    second = Publisher::connect(&receiver, "live", "other");
    receiver.expect("live/other published by");
    drop(second);
    receiver.expect("live/other ended");

    let mut player = receiver.open("/live/key.flv");
    let mut tags = vec![];
    while tags.last() != Some(&(9, 50)) {
        tags.push(next_tag(&mut player));
    }
    assert_eq!(tags, [(18, 0), (9, 0), (9, 0), (9, 50)], "metadata, sequence header, keyframe, delta");

    publisher.video(3066, DELTA);
    assert_eq!(next_tag(&mut player), (9, 66));
    drop(publisher);
    receiver.expect("live/key ended");
    assert_eq!(player.read(&mut [0]).unwrap_or(0), 0, "the player's stream ends too");
    Publisher::connect(&receiver, "live", "key").unwrap();
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let receiver = Receiver::start();
    for garbage in [vec![0xff; 5000], [&[3][..], &[0; 3072], &[0xff; 5000]].concat()] {
        let mut stream = TcpStream::connect(&receiver.rtmp).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut vec![]);
    }
    Publisher::connect(&receiver, "live", "key").unwrap();
}

#[test]
fn interrupt_ends_it_cleanly() {
    let mut receiver = Receiver::start();
    let _publisher = Publisher::connect(&receiver, "live", "key").unwrap();
    let killed = Command::new("kill").args(["-INT", &receiver.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(receiver.child.wait().unwrap().success());
}

const TIMEOUT: Duration = Duration::from_secs(20);

struct Receiver {
    child: Child,
    out: BufReader<ChildStdout>,
    rtmp: String,
    http: String,
}

impl Receiver {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rtmp-receiver"))
            .args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = |scheme: &str| line.split(scheme).nth(1).unwrap().split('/').next().unwrap().to_owned();
        let (rtmp, http) = (address("rtmp://"), address("http://"));
        assert_eq!(line, format!("rtmp-receiver: rtmp://{rtmp}/ http://{http}/\n"));
        Self { child, out, rtmp, http }
    }

    /// Reads lines until one has these words; the test's own time limit is the limit.
    fn expect(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it ended before it said {words:?}");
        }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let mut response = vec![];
        self.request(path).read_to_end(&mut response).unwrap();
        response
    }

    fn request(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        // HTTP/1.0, so that the body is not in chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        stream
    }

    /// Plays until one of these tags has come by: what was sent before it has been taken too.
    fn wait_for_tag(&self, path: &str, tags: &[(u8, u32)]) {
        let mut player = self.open(path);
        while !tags.contains(&next_tag(&mut player)) {}
    }

    /// A player just behind the FLV file header.
    fn open(&self, path: &str) -> BufReader<TcpStream> {
        let (mut stream, mut line) = (BufReader::new(self.request(path)), String::new());
        stream.read_line(&mut line).unwrap();
        while line.contains(" 404 ") {
            // The first tag is still on its way.
            stream = BufReader::new(self.request(path));
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        assert!(line.contains(" 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        let mut header = [0; 13];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header, *b"FLV\x01\x01\0\0\0\x09\0\0\0\0", "video only");
        stream
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next tag's type and timestamp.
fn next_tag(stream: &mut impl std::io::Read) -> (u8, u32) {
    let mut head = [0; 11];
    stream.read_exact(&mut head).unwrap();
    let size = u32::from_be_bytes([0, head[1], head[2], head[3]]);
    let mut rest = vec![0; size as usize + 4];
    stream.read_exact(&mut rest).unwrap();
    (head[0], u32::from_be_bytes([head[7], head[4], head[5], head[6]]))
}

struct Publisher {
    stream: TcpStream,
    session: ClientSession,
}

impl Publisher {
    /// Publishes, or says why the server would not have it.
    fn connect(receiver: &Receiver, app: &str, key: &str) -> Result<Self, String> {
        let mut stream = TcpStream::connect(&receiver.rtmp).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let rest = handshake(&mut stream);
        let (mut session, first) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut results = first;
        results.push(session.request_connection(app.into()).unwrap());
        results.extend(session.handle_input(&rest).unwrap());
        let mut publisher = Self { stream, session };
        let mut buffer = [0; 4096];
        loop {
            for event in publisher.send(results) {
                match event {
                    ClientSessionEvent::ConnectionRequestAccepted => {
                        let request =
                            publisher.session.request_publishing(key.into(), PublishRequestType::Live).unwrap();
                        publisher.send(vec![request]);
                    }
                    ClientSessionEvent::PublishRequestAccepted => {
                        let mut metadata = StreamMetadata::new();
                        metadata.video_width = Some(640);
                        let metadata = publisher.session.publish_metadata(&metadata).unwrap();
                        publisher.send(vec![metadata]);
                        return Ok(publisher);
                    }
                    other if format!("{other:?}").contains("BadName") => return Err(format!("{other:?}")),
                    _ => {}
                }
            }
            let n = publisher.stream.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "the server hung up");
            results = match publisher.session.handle_input(&buffer[..n]) {
                Ok(results) => results,
                Err(error) => return Err(error.to_string()),
            };
        }
    }

    fn send(&mut self, results: Vec<ClientSessionResult>) -> Vec<ClientSessionEvent> {
        let mut events = vec![];
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.stream.write_all(&packet.bytes).unwrap(),
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        events
    }

    fn video(&mut self, timestamp: u32, data: &'static [u8]) {
        let data = Bytes::from_static(data);
        let packet = self.session.publish_video_data(data, RtmpTimestamp::new(timestamp), false).unwrap();
        self.send(vec![packet]);
    }
}

fn handshake(stream: &mut TcpStream) -> Vec<u8> {
    let mut handshake = Handshake::new(PeerType::Client);
    stream.write_all(&handshake.generate_outbound_p0_and_p1().unwrap()).unwrap();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "the server hung up during the handshake");
        match handshake.process_bytes(&buffer[..n]).unwrap() {
            HandshakeProcessResult::InProgress { response_bytes } => stream.write_all(&response_bytes).unwrap(),
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                stream.write_all(&response_bytes).unwrap();
                return remaining_bytes;
            }
        }
    }
}
