//! A server takes a new certificate into use when its files change, and keeps the old one when the new one is no good.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::whip_support::{Fake, RUNTIME, TIMEOUT, config};
use gstwebrtcbridge::signaling::{EndpointConfig, Mount, TlsFiles, mount};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// A pair on disk, and what the certificate is in a handshake.
fn write_pair(files: &TlsFiles) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

fn files_in(dir: &Path) -> TlsFiles {
    TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") }
}

fn serve(files: TlsFiles) -> Mount {
    mount(RUNTIME.handle(), EndpointConfig { tls: Some(files), ..config("/a", 0) }, Arc::new(Fake::default())).unwrap()
}

/// Trusts whatever is shown, and remembers it.
#[derive(Debug, Default)]
struct Shown(Mutex<Vec<u8>>);

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection after one request, and the certificate that it was shown.
fn connect(address: SocketAddr) -> (Tls, Vec<u8>) {
    let shown = Arc::new(Shown::default());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(shown.clone())
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    request(&mut stream);
    let certificate = shown.0.lock().unwrap().clone();
    (stream, certificate)
}

fn request(stream: &mut Tls) {
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 204"));
}

#[track_caller]
fn shows_soon(address: SocketAddr, certificate: &[u8]) {
    let deadline = Instant::now() + TIMEOUT;
    while connect(address).1 != certificate {
        assert!(Instant::now() < deadline, "the new certificate is not in use");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_new_pair_is_shown_to_newcomers_and_running_connections_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let first = write_pair(&files);
    let server = serve(files.clone());
    let (mut running, shown) = connect(server.local_addr());
    assert_eq!(shown, first);
    let second = write_pair(&files);
    shows_soon(server.local_addr(), &second);
    request(&mut running);
}

#[test]
fn a_bad_pair_changes_nothing_until_a_good_one_follows() {
    let dir = tempfile::tempdir().unwrap();
    let files = files_in(dir.path());
    let first = write_pair(&files);
    let server = serve(files.clone());
    let other = tempfile::tempdir().unwrap();
    write_pair(&files_in(other.path()));
    for bad in [fs::read(files_in(other.path()).certificate).unwrap(), b"nonsense".to_vec(), Vec::new()] {
        fs::write(&files.certificate, &bad).unwrap();
        // Three looks: it is seen, settles, and is tried.
        let until = Instant::now() + Duration::from_secs(7);
        while Instant::now() < until {
            assert_eq!(connect(server.local_addr()).1, first);
            std::thread::sleep(Duration::from_millis(250));
        }
    }
    let second = write_pair(&files);
    shows_soon(server.local_addr(), &second);
}

/// As certbot's live/ and Kubernetes' ..data do it.
#[cfg(unix)]
#[test]
fn a_symbolic_link_that_is_turned_counts_as_a_change() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let version = |name: &str| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        write_pair(&files_in(&folder))
    };
    let (first, second) = (version("v1"), version("v2"));
    symlink("v1", dir.path().join("data")).unwrap();
    symlink("data/cert.pem", dir.path().join("cert.pem")).unwrap();
    symlink("data/key.pem", dir.path().join("key.pem")).unwrap();
    let server = serve(files_in(dir.path()));
    assert_eq!(connect(server.local_addr()).1, first);
    symlink("v2", dir.path().join("data.new")).unwrap();
    fs::rename(dir.path().join("data.new"), dir.path().join("data")).unwrap();
    shows_soon(server.local_addr(), &second);
}
