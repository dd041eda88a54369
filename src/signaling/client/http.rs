//! One HTTP/1.1 request and its reply: TCP, TLS, time limits, bounded sizes. A connection serves one request; a client
//! makes a handful in its life.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, header, http::request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    error::{self, ClientError, Token},
    retry_after::retry_after,
    target::ServerUrl,
};

/// For the whole of a request: a server that gathers candidates by STUN takes some seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// For one address of a host, so that a dead one leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of a host that are tried.
const MOST_ADDRESSES: usize = 6;
/// An SDP answer has some 10 KB.
const MAX_BODY: usize = 256 * 1024;
const MAX_HEAD: usize = 64 * 1024;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) content_type: Option<&'static str>,
    pub(super) if_match: Option<String>,
    pub(super) body: Bytes,
}

impl Outgoing {
    pub(super) fn new(method: Method, content_type: &'static str, body: &str) -> Self {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Self { method, content_type: Some(content_type), if_match: None, body }
    }
}

/// What came back, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where it came from, if that is known.
    pub(super) from: Option<IpAddr>,
}

/// A connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Sends requests.
#[derive(Clone)]
pub(super) struct Http {
    tls: Arc<rustls::ClientConfig>,
    token: Option<header::HeaderValue>,
}

impl Http {
    pub(super) fn new(tls: Arc<rustls::ClientConfig>, token: Option<header::HeaderValue>) -> Self {
        Self { tls, token }
    }

    /// A reply that says no.
    pub(super) fn refused(&self, server: &ServerUrl, reply: &Reply, with_token: bool) -> ClientError {
        ClientError::Refused {
            server: server.clone(),
            status: reply.status,
            detail: error::detail(&reply.body),
            token: self.token(with_token),
            retry_after: retry_after(&reply.headers, SystemTime::now()),
        }
    }

    /// What becomes of the token in a request that may, or may not, have it.
    fn token(&self, with_token: bool) -> Token {
        match (&self.token, with_token) {
            (None, _) => Token::None,
            (Some(_), true) => Token::Sent,
            (Some(_), false) => Token::KeptBack,
        }
    }

    /// Sends one request and reads the whole reply.
    pub(super) async fn send(
        &self,
        url: &ServerUrl,
        outgoing: Outgoing,
        with_token: bool,
    ) -> Result<Reply, ClientError> {
        let sending = Box::pin(self.exchange(url, outgoing, with_token));
        timeout(REQUEST_TIMEOUT, sending)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout { server: url.clone(), seconds: REQUEST_TIMEOUT.as_secs() }))
    }

    async fn exchange(&self, url: &ServerUrl, outgoing: Outgoing, with_token: bool) -> Result<Reply, ClientError> {
        let unusable = |why: String| ClientError::Reply { server: url.clone(), why };
        let mut request = self
            .request(url, outgoing.method, with_token)
            .uri(url.path_and_query())
            .header(header::CONNECTION, "close");
        if let Some(content_type) = outgoing.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(tag) = outgoing.if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        let request = request
            .body(Full::new(outgoing.body))
            .map_err(|error| unusable(format!("there is no request to make for it: {error}")))?;

        let stream = connect(url).await?;
        let from = stream.peer_addr().ok().map(|address| address.ip());
        let reply = round_trip(url, self.with_tls(url, stream).await?, request).await?;
        Ok(Reply { from, ..reply })
    }

    /// What every request has in its head.
    pub(super) fn request(&self, url: &ServerUrl, method: Method, with_token: bool) -> request::Builder {
        let request = Request::builder()
            .method(method)
            .header(header::HOST, url.host_field())
            .header(header::USER_AGENT, concat!("webrtcbridge/", env!("CARGO_PKG_VERSION")));
        match (&self.token, with_token) {
            (Some(token), true) => request.header(header::AUTHORIZATION, token),
            _ => request,
        }
    }

    /// A connection to the server, with TLS where its URL has it.
    pub(super) async fn open(&self, url: &ServerUrl) -> Result<Box<dyn Stream>, ClientError> {
        self.with_tls(url, connect(url).await?).await
    }

    async fn with_tls(&self, url: &ServerUrl, stream: TcpStream) -> Result<Box<dyn Stream>, ClientError> {
        match url.is_secure() {
            true => Ok(Box::new(self.secure(url, stream).await?)),
            false => Ok(Box::new(stream)),
        }
    }

    async fn secure(
        &self,
        url: &ServerUrl,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable { server: url.clone(), why };
        let (host, _) = url.authority().ok_or_else(|| unreachable("it has no host".into()))?;
        let name = match host {
            url::Host::Domain(name) => {
                ServerName::try_from(name.to_owned()).map_err(|error| unreachable(error.to_string()))?
            }
            url::Host::Ipv4(address) => ServerName::IpAddress(std::net::IpAddr::from(address).into()),
            url::Host::Ipv6(address) => ServerName::IpAddress(std::net::IpAddr::from(address).into()),
        };
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    ClientError::Untrusted { server: url.clone(), why: format!("{why}") }
                }
                _ => unreachable(format!("TLS: {error}")),
            }
        })
    }
}

/// Whether a server is on this machine, as far as its name tells; one that cannot be found is not.
pub(super) async fn is_local(url: &ServerUrl) -> bool {
    let addresses = timeout(CONNECT_TIMEOUT, resolve(url)).await;
    addresses.is_ok_and(|found| {
        found.is_ok_and(|found| {
            !found.is_empty() && found.iter().all(|address| address.ip().to_canonical().is_loopback())
        })
    })
}

async fn resolve(url: &ServerUrl) -> Result<Vec<SocketAddr>, ClientError> {
    let unreachable = |why: String| ClientError::Unreachable { server: url.clone(), why };
    Ok(match url.authority().ok_or_else(|| unreachable("it has no host".into()))? {
        (url::Host::Ipv4(address), port) => vec![(address, port).into()],
        (url::Host::Ipv6(address), port) => vec![(address, port).into()],
        (url::Host::Domain(name), port) => tokio::net::lookup_host((name, port))
            .await
            .map_err(|error| unreachable(format!("its name cannot be resolved: {error}")))?
            .take(MOST_ADDRESSES)
            .collect(),
    })
}

async fn connect(url: &ServerUrl) -> Result<TcpStream, ClientError> {
    let mut why = "its name has no address".to_owned();
    for address in resolve(url).await? {
        if !url.may_lead_to(address.ip()) {
            why = format!("it is at {}, which a server elsewhere must not send us to", address.ip());
            continue;
        }
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        }
    }
    Err(ClientError::Unreachable { server: url.clone(), why })
}

async fn round_trip(
    url: &ServerUrl,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Reply, ClientError> {
    let broke = |error: hyper::Error| match error.is_parse() {
        true => ClientError::Reply { server: url.clone(), why: format!("it is not HTTP: {error}") },
        false => ClientError::Unreachable { server: url.clone(), why: format!("the connection broke: {error}") },
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    // Driven beside the request and dropped with it: a request that is given up leaves nothing behind.
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(broke)?.into_parts();
        let body =
            Limited::new(body, MAX_BODY).collect().await.map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => broke(*error),
                Err(_) => {
                    ClientError::Reply { server: url.clone(), why: format!("it is larger than {MAX_BODY} bytes") }
                }
            })?;
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes(), from: None })
    };
    tokio::pin!(exchange);
    let mut connection = Box::pin(connection);
    tokio::select! {
        biased;
        ended = &mut connection => {
            drop(connection); // lets go of the exchange's other ends, so that what follows does not wait
            // The connection knows better than the exchange why there is no reply.
            match (exchange.await, ended) {
                (Err(_), Err(error)) => Err(broke(error)),
                (reply, _) => reply,
            }
        }
        reply = &mut exchange => reply,
    }
}
