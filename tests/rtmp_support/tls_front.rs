//! A TLS front before a plain RTMP server, as stunnel would be, with a certificate made for the test.
#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

/// Runs until it is dropped.
pub(crate) struct TlsFront {
    port: u16,
    seen: Arc<Seen>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Seen {
    /// Server names that clients asked for.
    names: Mutex<Vec<Option<String>>>,
    /// Handshakes that were completed.
    accepted: AtomicUsize,
}

/// A certificate authority of the test's own.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }
}

impl TlsFront {
    /// Before `upstream`, with a certificate for `name`: self-signed, or signed by an authority.
    pub(crate) fn start(upstream: u16, name: &str, authority: Option<&Authority>) -> Self {
        Self::start_with(upstream, rcgen::CertificateParams::new([name.to_owned()]).unwrap(), authority)
    }

    /// With a certificate for localhost that nobody should take any more.
    pub(crate) fn expired(upstream: u16) -> Self {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 4, 1);
        Self::start_with(upstream, params, None)
    }

    fn start_with(upstream: u16, params: rcgen::CertificateParams, authority: Option<&Authority>) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = match authority {
            Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Seen>::default();
        runtime.spawn({
            let seen = seen.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, acceptor.clone(), upstream, seen.clone()));
                }
            }
        });
        Self { port, seen, _runtime: runtime }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.seen.names.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(client: tokio::net::TcpStream, acceptor: TlsAcceptor, upstream: u16, seen: Arc<Seen>) {
    let Ok(start) = tokio_rustls::LazyConfigAcceptor::new(Default::default(), client).await else { return };
    seen.names.lock().unwrap().push(start.client_hello().server_name().map(str::to_owned));
    let Ok(mut client) = start.into_stream(acceptor.config().clone()).await else { return };
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
    let Ok(mut server) = tokio::net::TcpStream::connect(server).await else { return };
    // TLS 1.3 has the client judge the certificate after the server is done: only what it then sends tells.
    let mut first = [0; 1];
    let Ok(1..) = tokio::io::AsyncReadExt::read(&mut client, &mut first).await else { return };
    seen.accepted.fetch_add(1, Ordering::SeqCst);
    if tokio::io::AsyncWriteExt::write_all(&mut server, &first).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
