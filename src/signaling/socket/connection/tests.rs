//! A connection on a clock that stands still unless nothing else happens, with frames in memory instead of a socket.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::mpsc, time::sleep};

use super::{super::outbox::outbox, *};
use crate::{
    channel::{ChannelLimits, MemoryRegistry},
    signaling::{
        Answer, AnswerError, Offer, OfferAnswerer, TrustedProxies,
        auth::{Gate, Role, TokenGate},
        endpoint::{Endpoint, EndpointParts},
        socket::{Audience, SocketCounts, Sockets, SocketsConfig},
    },
};

struct Nobody;

#[async_trait]
impl OfferAnswerer for Nobody {
    async fn answer(&self, _: Offer) -> Result<Answer, AnswerError> {
        Err(AnswerError::Conflict)
    }
}

fn sockets() -> Sockets {
    let runtime = Handle::current();
    let limits = ChannelLimits { max_channels: 100, ttl: Duration::from_secs(3600) };
    let registry = Arc::new(MemoryRegistry::new(limits, &runtime));
    let gate = Arc::new(TokenGate::new(None)) as Arc<dyn Gate>;
    let endpoint = Endpoint::new(EndpointParts {
        path: "/whip".into(),
        role: Role::Publish,
        gate: gate.clone(),
        answerer: Arc::new(Nobody),
        links: Vec::new(),
        seating: None,
        most_sessions: 1,
        trusted_proxies: TrustedProxies::default(),
    });
    let endpoint = Arc::new(endpoint);
    let config = SocketsConfig {
        registry,
        gate,
        publishing: endpoint.clone(),
        viewing: endpoint,
        seats: Arc::default(),
        audience: Audience::default(),
        ice_servers: Vec::new(),
    };
    Sockets::new(&runtime, config)
}

/// The server's end of a socket in memory.
struct Frames {
    incoming: mpsc::Receiver<Message>,
    outgoing: mpsc::UnboundedSender<Message>,
    /// Nothing is taken any more.
    stuck: bool,
}

impl Stream for Frames {
    type Item = Result<Message, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx).map(|message| message.map(Ok))
    }
}

impl Sink<Message> for Frames {
    type Error = ();

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if self.stuck { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), ()> {
        self.outgoing.send(message).map_err(|_| ())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }
}

struct Peer {
    sends: mpsc::Sender<Message>,
    hears: mpsc::UnboundedReceiver<Message>,
}

impl Peer {
    fn connect(sockets: &Sockets, stuck: bool) -> Self {
        Self::connect_from([127, 0, 0, 1], sockets, stuck)
    }

    fn connect_from(address: [u8; 4], sockets: &Sockets, stuck: bool) -> Self {
        let (sends, incoming) = mpsc::channel(8);
        let (outgoing, hears) = mpsc::unbounded_channel();
        let (shared, open) = (sockets.shared.clone(), sockets.open.subscribe());
        let (outbox, waiting) = outbox();
        tokio::spawn(async move {
            let member = Member::new(shared.clone(), outbox.clone(), (address, 9).into(), None);
            let room = Room { shared: &shared, open: &open };
            run(Frames { incoming, outgoing, stuck }, member, outbox, waiting, room).await;
        });
        Self { sends, hears }
    }

    async fn joined(sockets: &Sockets, stuck: bool) -> Self {
        let peer = Self::connect(sockets, stuck);
        peer.say(json!({"type": "join", "channel": "a", "role": "peer"})).await;
        peer
    }

    async fn say(&self, message: Value) {
        self.sends.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn hears_text(&mut self) -> Value {
        loop {
            match self.hears.recv().await.expect("a frame") {
                Message::Text(text) => return serde_json::from_str(text.as_str()).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => (),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_address_cannot_fill_the_server_with_channels_that_it_has_joined() {
    let sockets = sockets();
    let (home, away) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let mut there = Vec::new();
    let mut joins = async |number: usize, role: &str, from| {
        let mut peer = Peer::connect_from(from, &sockets, false);
        peer.say(json!({"type": "join", "channel": format!("c{number}"), "role": role})).await;
        let reply = peer.hears_text().await;
        there.push(peer);
        (reply["type"] == "joined").then_some(()).ok_or(reply["code"].clone())
    };
    for number in 0..32 {
        assert_eq!(joins(number, if number % 2 == 0 { "peer" } else { "publisher" }, home).await, Ok(()));
    }
    assert_eq!(joins(32, "peer", home).await, Err(json!("unavailable")));
    assert_eq!(joins(0, "peer", home).await, Ok(()), "what is there already costs nothing");
    assert_eq!(joins(33, "peer", away).await, Ok(()), "others are not touched");
    there[1].say(json!({"type": "leave"})).await;
    assert_eq!(there[1].hears_text().await["type"], "closed");
    there[32].say(json!({"type": "join", "channel": "c32", "role": "peer"})).await;
    assert_eq!(there[32].hears_text().await["type"], "joined");
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_pinged_every_20_s_and_closed_when_it_is_silent_for_60_s() {
    let sockets = sockets();
    let mut peer = Peer::connect(&sockets, false);
    let begun = Instant::now();
    for count in 1..3 {
        assert!(matches!(peer.hears.recv().await, Some(Message::Ping(_))));
        assert_eq!(begun.elapsed().as_secs(), count * PING.as_secs());
    }
    loop {
        match peer.hears.recv().await {
            Some(Message::Ping(_)) => (),
            Some(Message::Close(Some(frame))) => break assert_eq!(frame.code, close_code::POLICY),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(begun.elapsed().as_secs(), SILENCE.as_secs());
    assert_eq!(sockets.counts(), SocketCounts { idle: 1, ..SocketCounts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_stays() {
    let sockets = sockets();
    let mut peer = Peer::connect(&sockets, false);
    for _ in 0..100 {
        assert!(matches!(peer.hears.recv().await, Some(Message::Ping(_))));
        peer.sends.send(Message::Pong(bytes::Bytes::new())).await.unwrap();
    }
    peer.say(json!({"type": "list"})).await;
    assert_eq!(peer.hears_text().await["type"], "channels");
}

/// As when a laptop is closed: its others hear of it, though nothing ever tells us.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_network_is_gone_is_told_as_gone() {
    let sockets = sockets();
    let mut ann = Peer::joined(&sockets, false).await;
    ann.hears_text().await;
    let bob = Peer::joined(&sockets, false).await;
    assert_eq!(ann.hears_text().await["type"], "peer-joined");
    for _ in 0..2 {
        sleep(SILENCE / 2).await;
        ann.sends.send(Message::Pong(bytes::Bytes::new())).await.unwrap();
    }
    assert_eq!(ann.hears_text().await["type"], "peer-left");
    drop(bob);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_dropped_when_his_queue_is_full_and_counted() {
    let sockets = sockets();
    let mut ann = Peer::joined(&sockets, false).await;
    ann.hears_text().await;
    let _stuck = Peer::joined(&sockets, true).await;
    assert_eq!(ann.hears_text().await["type"], "peer-joined");
    let padding = "a=x\r\n".repeat(900);
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789\r\n{padding}"
    );
    // Twice what may wait: half a megabyte.
    for _ in 0..250 {
        ann.say(json!({"type": "offer", "sdp": sdp})).await;
    }
    assert_eq!(ann.hears_text().await["type"], "peer-left");
    assert_eq!(sockets.counts().too_slow, 1);
}

#[tokio::test(start_paused = true)]
async fn all_are_told_when_the_server_closes() {
    let sockets = sockets();
    let mut ann = Peer::joined(&sockets, false).await;
    ann.hears_text().await;
    drop(sockets);
    assert_eq!(ann.hears_text().await, json!({"type": "closed", "reason": "shutdown"}));
    assert!(matches!(ann.hears.recv().await, Some(Message::Close(Some(frame))) if frame.code == close_code::AWAY));
}
