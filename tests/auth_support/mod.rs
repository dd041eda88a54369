//! A bridge server with stand-ins for what is behind it, an identity provider that signs JWTs, and services to be asked.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use axum::{Router, http::StatusCode, response::IntoResponse as _, routing};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gstwebrtcbridge::{
    channel::{
        Change, ChannelId, ChannelInfo, Claim, CreateError, Created, EnterError, KeyFit, NewChannel, Presence,
        PublishError, PublisherLease, Registry, Visitor,
    },
    signaling::{Access, Audience, ListenAddress, Monitor, Report, SiteConfig, SiteMount, mount_site},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::whip_support::{Fake, RUNTIME, Response, exchange, offer};

// --- the server ---

/// Channels with keys; nothing else.
#[derive(Clone, Default)]
pub struct Keys(pub Arc<Mutex<HashMap<String, String>>>);

#[async_trait]
impl Registry for Keys {
    async fn create(&self, _: NewChannel) -> Result<Created, CreateError> {
        Err(CreateError::Full(0))
    }
    async fn list(&self) -> Vec<ChannelInfo> {
        Vec::new()
    }
    async fn get(&self, _: &ChannelId) -> Option<ChannelInfo> {
        None
    }
    async fn key_fits(&self, id: &ChannelId, key: Option<&str>) -> KeyFit {
        match self.0.lock().unwrap().get(id.as_str()) {
            None => KeyFit::NoKey,
            Some(right) if key == Some(right) => KeyFit::Right,
            Some(_) => KeyFit::Wrong,
        }
    }
    async fn publish(&self, _: &ChannelId, _: Claim) -> Result<PublisherLease, PublishError> {
        Err(PublishError::Live)
    }
    async fn enter(&self, id: &ChannelId, _: Visitor) -> Result<Presence, EnterError> {
        Err(EnterError::NoChannel(id.clone()))
    }
    async fn touch(&self, _: &ChannelId) {}
    async fn stop(&self, _: &ChannelId) -> bool {
        false
    }
    fn changes(&self) -> broadcast::Receiver<Change> {
        broadcast::channel(1).1
    }
}

/// Nobody asks for figures here.
struct Idle;

impl Monitor for Idle {
    fn report(&self) -> Report {
        Report::default()
    }

    fn is_draining(&self) -> bool {
        false
    }
}

pub struct Bridge {
    pub mount: SiteMount,
    pub answerer: Fake,
    pub keys: Keys,
}

impl Bridge {
    pub fn new(access: Access) -> Self {
        Self::listening("127.0.0.1", access)
    }

    pub fn listening(host: &str, access: Access) -> Self {
        let (answerer, keys) = (Fake::default(), Keys::default());
        let config = SiteConfig {
            listen: ListenAddress { host: host.into(), port: 0 },
            tls: None,
            ice_servers: Vec::new(),
            max_sessions: 10_000,
            access,
            registry: Arc::new(keys.clone()),
            publishing: Arc::new(answerer.clone()),
            viewing: Arc::new(answerer.clone()),
            audience: Audience::default(),
            page: true,
            monitor: Arc::new(Idle),
        };
        Self { mount: mount_site(RUNTIME.handle(), config).unwrap(), answerer, keys }
    }

    /// Gives a channel a stream key.
    pub fn with_key(self, channel: &str, key: &str) -> Self {
        self.keys.0.lock().unwrap().insert(channel.into(), key.into());
        self
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.mount.local_addr().port()))
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        self.request_from([127, 0, 0, 1], method, path, headers, body)
    }

    /// From another address of this machine.
    pub fn request_from(
        &self,
        from: [u8; 4],
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let host = self.addr().to_string();
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        let has_host = headers.iter().any(|(name, _)| *name == "Host");
        for (name, value) in headers.iter().copied().chain((!has_host).then_some(("Host", host.as_str()))) {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("\r\n{body}");
        Response::parse(&match from {
            [127, 0, 0, 1] => exchange(self.addr(), &text),
            _ => exchange_from(from, self.addr(), &text),
        })
    }

    /// Publishes, with a token.
    pub fn publish(&self, channel: &str, token: Option<&str>) -> Response {
        self.publish_from([127, 0, 0, 1], channel, token)
    }

    pub fn publish_from(&self, from: [u8; 4], channel: &str, token: Option<&str>) -> Response {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/sdp")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        self.request_from(from, "POST", &format!("/whip/{channel}"), &headers, &offer(1))
    }
}

fn exchange_from(from: [u8; 4], to: SocketAddr, text: &str) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::whip_support::TIMEOUT)).unwrap();
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

// --- who signs JWTs ---

pub const SECRET: &str = "a secret of more than thirty-two bytes";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are good for an hour.
pub fn claims(role: &str, channel: &str) -> Value {
    json!({ "role": role, "channel": channel, "exp": now() + 3600 })
}

pub fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// A token with this header and claims, and whatever signature `sign` makes.
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub fn hs256_with(secret: &[u8], header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    token(header, claims, |signed| hmac::sign(&key, signed).as_ref().to_vec())
}

pub fn hs256(claims: &Value) -> String {
    hs256_with(SECRET.as_bytes(), &json!({"alg": "HS256", "typ": "JWT"}), claims)
}

/// A key pair of an identity provider.
pub enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("../data/auth/rsa.pk8")).unwrap())
    }

    pub fn ec() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    pub fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm()});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        token(&header, claims, |signed| self.signature(signed))
    }

    pub fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The public half as everybody can read it.
    pub fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": text(&n), "e": text(&e)})
            }
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": text(x), "y": text(y)})
            }
        }
    }
}

// --- who is asked ---

/// An HTTP service that says what it is told to say, and remembers what it was asked.
#[derive(Clone)]
pub struct Service {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<String>>>,
    pub says: Arc<Mutex<Says>>,
}

#[derive(Clone)]
pub enum Says {
    Status(u16, String),
    RedirectTo(String),
    Nothing,
}

impl Service {
    pub fn new(says: Says) -> Self {
        let (asked, says) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(says)));
        let _entered = RUNTIME.enter();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(socket).unwrap();
        let service = Self { address, asked, says };
        let answering = service.clone();
        let router = Router::new().fallback(routing::any(move |body: String| answering.clone().answer(body)));
        RUNTIME.spawn(async move { axum::serve(listener, router).await });
        service
    }

    async fn answer(self, body: String) -> axum::response::Response {
        self.asked.lock().unwrap().push(body);
        let says = self.says.lock().unwrap().clone();
        match says {
            Says::Status(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
            Says::RedirectTo(url) => (StatusCode::TEMPORARY_REDIRECT, [("location", url)]).into_response(),
            Says::Nothing => std::future::pending().await,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/here?key=s3rvice", self.address)
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}
