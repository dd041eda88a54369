//! Takes RTMP publishers: one task a connection, so that whatever a peer sends ends that connection at most.
//!
//! rml_rtmp does the protocol. It keeps metadata only in part, and expects a message's chunks one after another, as
//! FFmpeg, OBS and GStreamer send them. It parses nested AMF values by recursion, so millions of them in one message would
//! overflow the stack: keep this program on loopback, where it belongs.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult, StreamMetadata},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    flv::{self, Kind, Tag, Value},
    report,
    store::{Publication, Store},
};

/// Each may buffer one message of up to 16 MiB.
const MAX_CONNECTIONS: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A live publisher may pause, but one that is silent for so long has gone without saying so.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(300);

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, store: Arc<Store>) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Such as no file descriptor left: others may end meanwhile.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let store = store.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, peer, store).await {
                report(&format!("{peer} was cut off: {error}"));
            }
            drop(permit);
        });
    }
}

async fn connection(mut stream: TcpStream, peer: SocketAddr, store: Arc<Store>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let rest = timeout(HANDSHAKE_TIMEOUT, handshake(&mut stream)).await??;
    let config = ServerSessionConfig { chunk_size: 65_536, ..ServerSessionConfig::new() };
    let (session, first) = ServerSession::new(config).map_err(io::Error::other)?;
    let mut publisher = Publisher { session, store, peer, publication: None };

    let mut out = publisher.act(first)?;
    out.extend(publisher.input(&rest)?);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        timeout(HANDSHAKE_TIMEOUT, stream.write_all(&out)).await??;
        match timeout(SILENCE_TIMEOUT, stream.read(&mut buffer)).await? {
            Ok(0) => return Ok(()),
            Ok(n) => out = publisher.input(&buffer[..n])?,
            // A peer that vanishes is an everyday thing, and its publication's end is reported.
            Err(_) => return Ok(()),
        }
    }
}

/// Returns what came after the handshake.
async fn handshake(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Server);
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let result = handshake.process_bytes(&buffer[..n]);
        match result.map_err(|e| io::Error::other(format!("bad RTMP handshake: {e}")))? {
            HandshakeProcessResult::InProgress { response_bytes } => stream.write_all(&response_bytes).await?,
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                stream.write_all(&response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}

/// One connection's RTMP session and what it publishes.
struct Publisher {
    session: ServerSession,
    store: Arc<Store>,
    peer: SocketAddr,
    publication: Option<Live>,
}

impl Publisher {
    /// Takes bytes and returns those to send back.
    fn input(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let results = self.session.handle_input(bytes).map_err(|e| io::Error::other(format!("bad RTMP: {e}")))?;
        self.act(results)
    }

    fn act(&mut self, results: Vec<ServerSessionResult>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => out.extend(packet.bytes),
                ServerSessionResult::RaisedEvent(event) => {
                    let more = self.on_event(event)?;
                    out.extend(self.act(more)?);
                }
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(out)
    }

    fn on_event(&mut self, event: ServerSessionEvent) -> io::Result<Vec<ServerSessionResult>> {
        use ServerSessionEvent as Event;
        let answer = match event {
            Event::ConnectionRequested { request_id, .. } => self.session.accept_request(request_id),
            Event::PublishStreamRequested { request_id, app_name, stream_key, .. } => {
                let name = format!("{app_name}/{}", stream_key.split('?').next().unwrap_or_default());
                match self.publish(&name) {
                    true => self.session.accept_request(request_id),
                    false => self.session.reject_request(
                        request_id,
                        "NetStream.Publish.BadName",
                        &format!("{name} is already being published"),
                    ),
                }
            }
            Event::PlayStreamRequested { request_id, stream_key, .. } => self.session.reject_request(
                request_id,
                "NetStream.Play.Failed",
                &format!("no playback over RTMP; ask for {stream_key}.flv over HTTP"),
            ),
            Event::PublishStreamFinished { .. } => {
                self.publication = None;
                Ok(vec![])
            }
            Event::UnhandleableAmf0Command { command_name, .. } => {
                if command_name == "FCUnpublish" {
                    self.publication = None;
                }
                Ok(vec![])
            }
            Event::StreamMetadataChanged { metadata, .. } => {
                self.push(Kind::Script, 0, metadata_tag(metadata));
                Ok(vec![])
            }
            Event::AudioDataReceived { data, timestamp, .. } => {
                self.push(Kind::Audio, timestamp.value, data);
                Ok(vec![])
            }
            Event::VideoDataReceived { data, timestamp, .. } => {
                self.push(Kind::Video, timestamp.value, data);
                Ok(vec![])
            }
            _ => Ok(vec![]),
        };
        answer.map_err(|e| io::Error::other(format!("RTMP: {e}")))
    }

    /// Whether `name` is ours now.
    fn publish(&mut self, name: &str) -> bool {
        // One stream a connection: another publish ends the one before.
        self.publication = None;
        self.publication = self.store.publish(name).map(Live);
        match &self.publication {
            Some(_) => report(&format!("{name} published by {}", self.peer)),
            None => report(&format!("{name} refused to {}: it is being published already", self.peer)),
        }
        self.publication.is_some()
    }

    fn push(&self, kind: Kind, timestamp: u32, data: bytes::Bytes) {
        if let Some(Live(publication)) = &self.publication {
            publication.push(Tag { kind, timestamp, data });
        }
    }
}

/// A publication whose end is reported, however it ends.
struct Live(Publication);

impl Drop for Live {
    fn drop(&mut self) {
        report(&format!("{} ended", self.0.name()));
    }
}

fn metadata_tag(metadata: StreamMetadata) -> bytes::Bytes {
    let whole = |value: Option<u32>| value.map(|v| Value::Number(v.into()));
    let values: Vec<_> = [
        ("width", whole(metadata.video_width)),
        ("height", whole(metadata.video_height)),
        ("videocodecid", whole(metadata.video_codec_id)),
        ("framerate", metadata.video_frame_rate.map(|v| Value::Number(v.into()))),
        ("videodatarate", whole(metadata.video_bitrate_kbps)),
        ("audiocodecid", whole(metadata.audio_codec_id)),
        ("audiodatarate", whole(metadata.audio_bitrate_kbps)),
        ("audiosamplerate", whole(metadata.audio_sample_rate)),
        ("audiochannels", whole(metadata.audio_channels)),
        ("stereo", metadata.audio_is_stereo.map(Value::Boolean)),
        ("encoder", metadata.encoder.map(Value::Text)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    flv::on_meta_data(&values)
}
