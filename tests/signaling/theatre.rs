//! A bridge server whose viewers' connections are a stand-in's, which can be told to refuse, to wait and to make offers of its
//! own, and which keeps what happens to its sessions; requests to it and its events.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

use crate::site_support::Numbers;
use crate::whip_support::{ANSWER, Fake, RUNTIME, Response, TIMEOUT, exchange, offer};
use async_trait::async_trait;
use gstwebrtcbridge::{
    channel::{ChannelLimits, Claim, Credential, MemoryRegistry, PublisherLease, Registry as _},
    signaling::{
        Access, Answer, AnswerError, Audience, IceFragment, IceRefused, IceUpdated, LayerLimits, ListenAddress, Offer,
        OfferAnswerer, Program, SessionLease, SignaledSession, SiteConfig, SiteMount, Viewing, mount_site,
    },
};
use tokio::sync::{Notify, watch};

/// Stands in for viewers' connections.
#[derive(Clone, Default)]
pub(crate) struct Theatre {
    pub(crate) refuse: Arc<Mutex<Option<AnswerError>>>,
    pub(crate) counters: Arc<Mutex<bool>>,
    pub(crate) leases: Arc<Mutex<Vec<SessionLease>>>,
    pub(crate) program: Arc<watch::Sender<Program>>,
    pub(crate) limits: Arc<Mutex<Vec<LayerLimits>>>,
    pub(crate) answers: Arc<Mutex<Vec<String>>>,
    /// An answer waits for this before it is taken, if there is one.
    pub(crate) curtain: Arc<Mutex<Option<Arc<Notify>>>>,
    pub(crate) refuse_ice: Arc<Mutex<Option<IceRefused>>>,
    /// What has happened to sessions, in order.
    pub(crate) events: Arc<Mutex<Vec<&'static str>>>,
}

#[async_trait]
impl OfferAnswerer for Theatre {
    async fn answer(&self, offer: Offer) -> Result<Answer, AnswerError> {
        if let Some(error) = self.refuse.lock().unwrap().take() {
            return Err(error);
        }
        self.leases.lock().unwrap().push(offer.lease);
        Ok(Answer { sdp: ANSWER.into(), session: Arc::new(Seat(self.clone())) })
    }

    async fn counter_offer(&self, offer: Offer) -> Option<Answer> {
        if !*self.counters.lock().unwrap() {
            return None;
        }
        self.leases.lock().unwrap().push(offer.lease);
        Some(Answer { sdp: "v=0\r\ns=offer\r\n".into(), session: Arc::new(Seat(self.clone())) })
    }
}

struct Seat(Theatre);

#[async_trait]
impl SignaledSession for Seat {
    async fn close(&self) {
        self.0.events.lock().unwrap().push("closed");
    }

    /// Credentials other than the offer's are a restart.
    async fn update_ice(&self, fragment: IceFragment) -> Result<IceUpdated, IceRefused> {
        if let Some(refusal) = self.0.refuse_ice.lock().unwrap().take() {
            return Err(refusal);
        }
        Ok(match fragment.credentials.is_some_and(|credentials| credentials.ufrag != "abcd") {
            true => IceUpdated::Restarted(IceFragment::default()),
            false => IceUpdated::Trickled,
        })
    }

    fn ice_session_tag(&self) -> String {
        "tag".into()
    }

    fn viewing(&self) -> Option<&dyn Viewing> {
        Some(self)
    }
}

#[async_trait]
impl Viewing for Seat {
    async fn answered(&self, sdp: &str) -> Result<(), AnswerError> {
        self.0.events.lock().unwrap().push("answering");
        let curtain = self.0.curtain.lock().unwrap().take();
        if let Some(curtain) = curtain {
            curtain.notified().await;
        }
        self.0.answers.lock().unwrap().push(sdp.to_owned());
        self.0.events.lock().unwrap().push("answered");
        Ok(())
    }

    fn program(&self) -> watch::Receiver<Program> {
        self.0.program.subscribe()
    }

    fn limit_layers(&self, limits: LayerLimits) {
        self.0.limits.lock().unwrap().push(limits);
    }
}

/// A bridge server with channel `live`, on which somebody publishes.
pub(crate) struct Site {
    pub(crate) mount: SiteMount,
    pub(crate) theatre: Theatre,
    pub(crate) registry: Arc<MemoryRegistry>,
    _publisher: PublisherLease,
}

impl Site {
    pub(crate) fn new(access: Access, max_viewers: u32) -> Self {
        let limits = ChannelLimits { max_channels: 20, ttl: std::time::Duration::from_secs(3600) };
        let registry = Arc::new(MemoryRegistry::new(limits, RUNTIME.handle()));
        let theatre = Theatre::default();
        let config = SiteConfig {
            listen: ListenAddress { host: "127.0.0.1".into(), port: 0 },
            tls: None,
            ice_servers: vec!["stun://stun.example:3478"]
                .into_iter()
                .map(|server| gstwebrtcbridge::signaling::IceServer::parse(server).unwrap())
                .collect(),
            max_sessions: 3,
            access,
            registry: registry.clone(),
            publishing: Arc::new(Fake::default()),
            viewing: Arc::new(theatre.clone()),
            audience: Audience { max_viewers, p2p_viewers: 0 },
            monitor: Arc::new(Numbers::default()),
            page: true,
        };
        let mount = mount_site(RUNTIME.handle(), config).unwrap();
        let claim = Claim { credential: Credential::Anonymous, last_media: Arc::new(|| None), is_private: false };
        let publisher = RUNTIME.block_on(registry.publish(&"live".parse().unwrap(), claim)).unwrap();
        Self { mount, theatre, registry, _publisher: publisher }
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        request(self.mount.local_addr(), method, path, headers, body)
    }

    pub(crate) fn post(&self, path: &str) -> Response {
        self.request("POST", path, &[("Content-Type", "application/sdp")], &view())
    }

    pub(crate) fn viewers(&self) -> u32 {
        RUNTIME.block_on(self.registry.get(&"live".parse().unwrap())).unwrap().viewers
    }
}

pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    Response::parse(&exchange(address, &format!("{text}Content-Length: {}\r\n\r\n{body}", body.len())))
}

pub(crate) fn view() -> String {
    offer(0) + "a=recvonly\r\n"
}

/// Reads server-sent events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    pub(crate) fn open(site: &Site, path: &str) -> Self {
        let mut stream = TcpStream::connect(site.mount.local_addr()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let host = site.mount.local_addr();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n").unwrap();
        let mut events = Self(BufReader::new(stream));
        let head: Vec<String> = std::iter::from_fn(|| Some(events.line()).filter(|line| !line.is_empty())).collect();
        assert!(head[0].contains("200") && head.contains(&"content-type: text/event-stream".into()), "{head:?}");
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next event and its data; nothing at the end.
    pub(crate) fn next(&mut self) -> Option<(String, serde_json::Value)> {
        let mut kind = None;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", name)) => kind = Some(name.to_owned()),
                Some(("data", data)) => return Some((kind?, serde_json::from_str(data).unwrap())),
                _ => {} // chunk sizes, comments
            }
        }
    }
}
