//! A signaling server in the test process, with a stand-in for the peer connection, and a client that writes HTTP by hand.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use gstwebrtcbridge::{
    channel::Credential,
    signaling::{
        Answer, AnswerError, EndpointConfig, IceCredentials, IceFragment, IceRefused, IceUpdated, ListenAddress, Mount,
        MountError, Offer, OfferAnswerer, SessionLease, SignaledSession, TlsFiles, TrustedProxies, mount,
    },
};
use tokio::runtime::Runtime;

// --- the stand-in for peer connections ---

pub const ANSWER: &str = "v=0\r\ns=answer\r\n";
pub const ICE_TAG: &str = "ufrag:pwd";

#[derive(Clone, Default)]
pub struct Fake {
    pub offers: Arc<Mutex<Vec<(String, SocketAddr)>>>,
    /// Of whom they were.
    pub credentials: Arc<Mutex<Vec<Credential>>>,
    pub leases: Arc<Mutex<Vec<SessionLease>>>,
    pub closed: Arc<AtomicUsize>,
    pub refuse: Arc<Mutex<Option<AnswerError>>>,
    /// Of an offer that is only looked at.
    pub refuse_check: Arc<Mutex<Option<AnswerError>>>,
    pub panic: Arc<AtomicBool>,
    /// Never answers.
    pub hang: Arc<AtomicBool>,
    /// What came by PATCH, whole.
    pub fragments: Arc<Mutex<Vec<IceFragment>>>,
    pub refuse_ice: Arc<Mutex<Option<IceRefused>>>,
}

#[async_trait]
impl OfferAnswerer for Fake {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        assert!(!self.panic.swap(false, Ordering::SeqCst), "as the test wants it");
        if self.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if let Some(error) = self.refuse.lock().unwrap().take() {
            return Err(error);
        }
        self.offers.lock().unwrap().push((offer.sdp, offer.remote));
        self.credentials.lock().unwrap().push(offer.credential);
        self.leases.lock().unwrap().push(offer.lease);
        Ok(Answer {
            sdp: ANSWER.into(),
            session: Arc::new(FakeSession { fake: self.clone(), restarts: AtomicUsize::new(0) }),
        })
    }

    fn check(&self, _: &str, _: bool) -> Result<(), AnswerError> {
        self.refuse_check.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

struct FakeSession {
    fake: Fake,
    restarts: AtomicUsize,
}

#[async_trait]
impl SignaledSession for FakeSession {
    async fn close(&self) {
        self.fake.closed.fetch_add(1, Ordering::SeqCst);
    }

    /// Credentials other than the offer's are a restart.
    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        if let Some(refusal) = self.fake.refuse_ice.lock().unwrap().take() {
            return Err(refusal);
        }
        self.fake.fragments.lock().unwrap().push(fragment.clone());
        if fragment.credentials.is_none_or(|credentials| credentials.ufrag == "abcd") {
            return Ok(IceUpdated::Trickled);
        }
        let number = self.restarts.fetch_add(1, Ordering::SeqCst);
        let password = Some("ourpasswordourpasswordour".to_owned());
        let credentials = Some(IceCredentials { ufrag: format!("ours{number}"), password });
        Ok(IceUpdated::Restarted(IceFragment { credentials, ..IceFragment::default() }))
    }

    fn ice_session_tag(&self) -> String {
        format!("{ICE_TAG} {}", self.restarts.load(Ordering::SeqCst))
    }
}

// --- server and client ---

pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Far more than anything here takes; only a broken server comes near it.
pub const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Served {
    pub mount: Mount,
    pub answerer: Fake,
}

impl Served {
    pub fn new(path: &str) -> Self {
        Self::from_config(config(path, 0))
    }

    pub fn with_token(path: &str, token: &str) -> Self {
        Self::from_config(EndpointConfig { auth_token: Some(token.into()), ..config(path, 0) })
    }

    pub fn from_config(config: EndpointConfig) -> Self {
        let answerer = Fake::default();
        let mount = mount(RUNTIME.handle(), config, Arc::new(answerer.clone())).unwrap();
        Self { mount, answerer }
    }

    /// Another endpoint on the same port.
    pub fn also(&self, path: &str) -> Result<Mount, MountError> {
        mount(RUNTIME.handle(), config(path, self.addr().port()), Arc::new(self.answerer.clone()))
    }

    pub fn addr(&self) -> SocketAddr {
        self.mount.local_addr()
    }

    pub fn post(&self, sdp: &str) -> Response {
        let url = self.mount.url();
        let path = url.splitn(4, '/').nth(3).unwrap();
        self.request("POST", &format!("/{path}"), &[("Content-Type", "application/sdp")], sdp)
    }

    /// A PATCH of the session at `path`.
    pub fn patch(&self, path: &str, if_match: &str, body: &str) -> Response {
        let headers = [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", if_match)];
        self.request("PATCH", path, &headers, body)
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        Response::parse(&exchange(self.addr(), &text))
    }
}

pub fn config(path: &str, port: u16) -> EndpointConfig {
    let listen = ListenAddress { host: "127.0.0.1".into(), port };
    EndpointConfig {
        listen,
        path: path.into(),
        tls: None,
        auth_token: None,
        authorizer: None,
        ice_servers: Vec::new(),
        trusted_proxies: TrustedProxies::default(),
    }
}

/// Writes all, then reads to the end; an early refusal may cut either short.
pub fn exchange(address: SocketAddr, text: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let _ = stream.write_all(text.as_bytes());
    if !text.contains("Connection: close") {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|l| l.split_once(": ").unwrap()).map(|(n, v)| (n.to_lowercase(), v.into())).collect();
        Self { status, headers, body: body.into() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub fn location(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.body);
        self.header("location").unwrap().to_owned()
    }

    /// A problem document (RFC 9457) with this status and with these words in its detail.
    #[track_caller]
    pub fn is_problem(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
}

pub fn offer(candidates: usize) -> String {
    let candidate = "a=candidate:1 1 udp 2113937151 192.0.2.1 9 typ host\r\n";
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 00\r\na=setup:actpass\r\n{}",
        candidate.repeat(candidates)
    )
}

pub fn self_signed(dir: &Path) -> (TlsFiles, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.pem())
}
