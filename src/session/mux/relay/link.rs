//! The way to a TURN server: a UDP socket of its own, a TCP connection, or TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf},
    net::{TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    super::NamedBy,
    super::framing::{Broken, Frames, Framing, framed},
    server::{TurnServer, TurnTransport},
};

/// To connect, and for the TLS handshake.
const CONNECTING: Duration = Duration::from_secs(5);
/// Datagrams that wait for a stream that is slower than the media; then they are dropped, as UDP would.
const WAITING: usize = 256;

/// Why there is no way, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("its name cannot be resolved: {0}")]
    Name(io::Error),
    #[error("it cannot be reached: {0}")]
    Connect(io::Error),
    #[error("it cannot be reached: no answer within 5 s")]
    Timeout,
    #[error("its certificate or TLS is not accepted: {0}")]
    Tls(io::Error),
    #[error("it cannot be called by TLS: {0}")]
    Setup(String),
    #[error("it has closed the connection")]
    Closed,
    #[error("the connection to it was lost: {0}")]
    Lost(io::Error),
    #[error("it speaks no TURN: {0}")]
    Broken(#[from] Broken),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open way.
pub(super) enum Link {
    Udp { socket: UdpSocket, buffer: Vec<u8> },
    Stream { reader: ReadHalf<Box<dyn Stream>>, frames: Frames, buffer: Vec<u8>, writer: mpsc::Sender<Vec<u8>> },
}

impl Link {
    pub(super) async fn open(server: &TurnServer, named_by: NamedBy) -> Result<Self, LinkError> {
        timeout(CONNECTING, Self::opened(server, named_by)).await.map_err(|_| LinkError::Timeout)?
    }

    async fn opened(server: &TurnServer, named_by: NamedBy) -> Result<Self, LinkError> {
        let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await.map_err(LinkError::Name)?;
        let mut addresses: Vec<SocketAddr> = addresses.filter(|address| named_by.admits(*address)).collect();
        // What it relays is IPv4, and so it is reached by it where it can be.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let none = || LinkError::Name(io::Error::from(io::ErrorKind::NotFound));
        let address = *addresses.first().ok_or_else(none)?;
        let buffer = vec![0; 65_536];
        if server.transport == TurnTransport::Udp {
            let any: SocketAddr = if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
            let socket = UdpSocket::bind(any).await.map_err(LinkError::Connect)?;
            socket.connect(address).await.map_err(LinkError::Connect)?;
            return Ok(Self::Udp { socket, buffer });
        }
        let tcp = TcpStream::connect(address).await.map_err(LinkError::Connect)?;
        let _ = tcp.set_nodelay(true); // media; it still works without
        let stream: Box<dyn Stream> = match server.transport {
            TurnTransport::Tls => {
                let name = ServerName::try_from(server.host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|error| LinkError::Setup(error.to_string()))?;
                let connector = TlsConnector::from(tls()?);
                Box::new(connector.connect(name, tcp).await.map_err(LinkError::Tls)?)
            }
            _ => Box::new(tcp),
        };
        let (reader, mut write_half) = tokio::io::split(stream);
        let (writer, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING);
        // Ends with the link, whose reader hears of errors.
        tokio::spawn(async move {
            while let Some(bytes) = waiting.recv().await {
                if write_half.write_all(&bytes).await.is_err() || write_half.flush().await.is_err() {
                    return;
                }
            }
            let _ = write_half.shutdown().await;
        });
        Ok(Self::Stream { reader, frames: Frames::new(Framing::Turn), buffer, writer })
    }

    /// Whether nothing is lost on the way.
    pub(super) fn is_reliable(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// Sends or drops; false if it was dropped.
    pub(super) fn send(&self, message: &[u8]) -> bool {
        match self {
            Self::Udp { socket, .. } => socket.try_send(message).is_ok(),
            Self::Stream { writer, .. } => {
                framed(Framing::Turn, message).is_some_and(|bytes| writer.try_send(bytes).is_ok())
            }
        }
    }

    /// The next message. May be dropped while it waits: nothing is lost.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        match self {
            Self::Udp { socket, buffer } => {
                let length = socket.recv(buffer).await.map_err(LinkError::Lost)?;
                Ok(buffer.get(..length).unwrap_or_default().to_vec())
            }
            Self::Stream { reader, frames, buffer, .. } => loop {
                if let Some(message) = frames.next()? {
                    return Ok(message);
                }
                match reader.read(buffer).await.map_err(LinkError::Lost)? {
                    0 => return Err(LinkError::Closed),
                    count => frames.push(buffer.get(..count).unwrap_or_default()),
                }
            },
        }
    }
}

/// The system's certificate authorities are trusted; SSL_CERT_FILE names others.
fn tls() -> Result<Arc<ClientConfig>, LinkError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(LinkError::Setup("there are no certificate authorities here; install ca-certificates".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| LinkError::Setup(error.to_string()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
