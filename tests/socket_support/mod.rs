//! A bridge server in the test process, with a stand-in for the peer connection, and WebSocket clients for it.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use gstwebrtcbridge::{
    channel::{ChannelLimits, MemoryRegistry, Registry},
    signaling::{
        Access, Audience, IceServer, ListenAddress, Monitor, OfferAnswerer, Report, SiteConfig, SiteMount, mount_site,
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, runtime::Handle, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

/// Far more than anything here takes; only a broken server comes near it.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns once it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let asking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, asking).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// No sessions that could be counted.
struct Idle;

impl Monitor for Idle {
    fn report(&self) -> Report {
        Report::default()
    }

    fn is_draining(&self) -> bool {
        false
    }
}

pub struct Site {
    pub mount: SiteMount,
    pub registry: Arc<MemoryRegistry>,
}

impl Site {
    pub fn new(publishing: Arc<dyn OfferAnswerer>) -> Self {
        Self::with(publishing, Access::default(), Duration::from_secs(3600))
    }

    pub fn with(publishing: Arc<dyn OfferAnswerer>, access: Access, ttl: Duration) -> Self {
        Self::start(publishing, access, ttl, Audience::default())
    }

    /// One whose publishers' pages serve so many viewers.
    pub fn with_viewers(publishing: Arc<dyn OfferAnswerer>, p2p_viewers: u32) -> Self {
        let audience = Audience { max_viewers: 3, p2p_viewers };
        Self::start(publishing, Access::default(), Duration::from_secs(3600), audience)
    }

    fn start(publishing: Arc<dyn OfferAnswerer>, access: Access, ttl: Duration, audience: Audience) -> Self {
        let runtime = Handle::current();
        let registry = Arc::new(MemoryRegistry::new(ChannelLimits { max_channels: 100, ttl }, &runtime));
        let config = SiteConfig {
            listen: ListenAddress { host: "127.0.0.1".into(), port: 0 },
            tls: None,
            ice_servers: vec![IceServer::parse("turn://ann:s3cret@turn.example:3478").unwrap()],
            max_sessions: 100,
            access,
            registry: registry.clone(),
            viewing: publishing.clone(),
            publishing,
            audience,
            monitor: Arc::new(Idle),
            page: true,
        };
        Self { mount: mount_site(&runtime, config).unwrap(), registry }
    }

    pub fn addr(&self) -> SocketAddr {
        self.mount.local_addr()
    }

    pub async fn client(&self) -> Client {
        self.client_at("/ws").await.unwrap()
    }

    pub async fn client_at(&self, path: &str) -> Result<Client, Error> {
        Client::connect(&format!("ws://{}{path}", self.addr())).await
    }

    pub async fn client_with_bearer(&self, token: &str) -> Client {
        let mut request = format!("ws://{}/ws", self.addr()).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Client { socket: connect_async(request).await.unwrap().0 }
    }

    /// A client in a channel, and what it is called there.
    pub async fn joined(&self, channel: &str, role: &str) -> (Client, String) {
        let mut client = self.client().await;
        let joined = client.ask(json!({"type": "join", "channel": channel, "role": role})).await;
        assert_eq!(joined["type"], "joined", "{joined}");
        (client, joined["peer"].as_str().unwrap().to_owned())
    }

    pub async fn is_live(&self, channel: &str) -> bool {
        self.registry.get(&channel.parse().unwrap()).await.is_some_and(|info| info.is_live)
    }
}

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self { socket: connect_async(url).await?.0 })
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message; pings are answered by the library.
    pub async fn hear(&mut self) -> Value {
        match self.hear_any().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("no message: {other:?}"),
        }
    }

    /// The next frame that is no ping or pong; nothing at the end.
    pub async fn hear_any(&mut self) -> Option<Message> {
        loop {
            match timeout(TIMEOUT, self.socket.next()).await.expect("a frame in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => (),
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message of this type; others are passed over.
    pub async fn hear_type(&mut self, kind: &str) -> Value {
        loop {
            let message = self.hear().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Sends a message with an id and returns the reply to it.
    pub async fn ask(&mut self, mut message: Value) -> Value {
        const ID: u64 = 77;
        message["id"] = json!(ID);
        self.send(message).await;
        loop {
            let reply = self.hear().await;
            if reply["id"] == ID {
                return reply;
            }
        }
    }

    /// Sends a message that is refused; returns the code and the words.
    pub async fn refused(&mut self, message: Value) -> (String, String) {
        let error = self.ask(message).await;
        assert_eq!(error["type"], "error", "{error}");
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    /// Nothing of what was sent before has led to a message.
    pub async fn hears_nothing(&mut self) {
        self.send(json!({"type": "dance", "id": 1})).await;
        let error = self.hear().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!(1)), "something came before: {error}");
    }

    /// Hears everything up to the end; returns the close code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.hear_any().await {
                Some(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Some(_) => (),
                None => return None,
            }
        }
    }
}
