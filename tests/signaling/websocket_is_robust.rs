//! What hostile and broken clients do to /ws: they get an error or the door, and everybody else goes on.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::socket_support::{Client, Site, TIMEOUT};
use crate::whip_support::{Fake, Response, exchange, offer};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

fn site() -> Site {
    Site::new(Arc::new(Fake::default()))
}

/// Two peers that must not be touched, and that still can talk.
struct Good {
    ann: Client,
    bob: Client,
}

impl Good {
    async fn new(site: &Site) -> Self {
        let (ann, _) = site.joined("good", "peer").await;
        let (bob, _) = site.joined("good", "peer").await;
        Self { ann, bob }
    }

    async fn goes_on(mut self) {
        self.ann.send(json!({"type": "offer", "sdp": offer(0)})).await;
        assert_eq!(self.bob.hear().await["sdp"], offer(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_message_is_answered_by_an_error_and_the_connection_goes_on() {
    let site = site();
    let good = Good::new(&site).await;
    let mut client = site.client().await;
    let deep = "[".repeat(60_000);
    for bad in ["", "hello", "[]", "null", "{}", r#"{"type":1}"#, r#"{"type":"dance"}"#, r#"{"type":"join"}"#, &deep] {
        client.send_text(bad).await;
        let error = client.hear().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("bad-message")), "{bad}");
        assert!(error.get("id").is_none());
    }
    client.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert!(client.hear().await["message"].as_str().unwrap().contains("binary"));
    let (code, words) = client.refused(json!({"type": "create", "title": "x".repeat(201)})).await;
    assert_eq!((code.as_str(), words.contains("title")), ("bad-message", true), "the field is named");
    client.ask(json!({"type": "list"})).await;
    good.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_64_kib_is_told_and_closes_that_connection_alone() {
    let site = site();
    let good = Good::new(&site).await;
    let mut client = site.client().await;
    let chat = |n: usize| json!({"type": "chat", "text": "x".repeat(n)}).to_string();
    client.send_text(&chat(64 * 1024 - 100)).await;
    assert_eq!(client.hear().await["code"], "bad-message", "it was read");
    client.send_text(&chat(70_000)).await;
    assert_eq!(client.hear().await["code"], "too-large");
    assert_eq!(client.closed().await, Some(1009));
    // The same in pieces.
    let mut pieces = Raw::open(&site);
    pieces.frame(0x01, &[b'x'; 40_000]);
    for _ in 0..2 {
        pieces.frame(0x00, &[b'x'; 40_000]);
    }
    assert_eq!(pieces.close_code(), Some(1009));
    good.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_refused_and_then_cut_off() {
    let site = site();
    let good = Good::new(&site).await;
    let (mut sink, mut stream) = site.client().await.socket.split();
    let flood = tokio::spawn(async move {
        let list = Message::text(json!({"type": "leave"}).to_string());
        while sink.send(list.clone()).await.is_ok() {}
    });
    let (mut refused, mut code) = (0, None);
    while let Some(Ok(message)) = tokio::time::timeout(TIMEOUT, stream.next()).await.unwrap() {
        match message {
            Message::Text(text) if text.contains("too-often") => refused += 1,
            Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
            _ => (),
        }
    }
    assert_eq!(code, Some(1008));
    assert!(refused > 0, "first it is told");
    flood.abort();
    good.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_dropped_and_holds_up_nobody() {
    let site = site();
    let good = Good::new(&site).await;
    let (mut ann, _) = site.joined("slow", "peer").await;
    let mut slow = Raw::open(&site);
    slow.frame(0x81, json!({"type": "join", "channel": "slow", "role": "peer"}).to_string().as_bytes());
    let peer = ann.hear_type("peer-joined").await["peer"].clone();
    // Lines that do not matter make it as large as an offer may be.
    let large = format!("{}{}", offer(0), format!("a=x:{}\r\n", "x".repeat(1000)).repeat(55));
    let begun = Instant::now();
    let left = loop {
        ann.send(json!({"type": "offer", "sdp": large, "to": peer})).await;
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(1), ann.hear_type("peer-left")).await {
            break message;
        }
        assert!(begun.elapsed() < TIMEOUT, "it is still waited for");
    };
    assert_eq!(left["peer"], peer);
    good.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_close_their_connection_alone() {
    let site = site();
    let good = Good::new(&site).await;
    type Sends = fn(&mut Raw);
    let cases: &[(&str, u16, Sends)] = &[
        ("unmasked", 1002, |raw| raw.send(b"\x81\x02{}")),
        ("reserved bits", 1002, |raw| raw.frame(0xf1, b"{}")),
        ("reserved opcode", 1002, |raw| raw.frame(0x83, b"{}")),
        ("reserved control opcode", 1002, |raw| raw.frame(0x8b, b"")),
        ("fragmented ping", 1002, |raw| raw.frame(0x09, b"x")),
        ("long ping", 1002, |raw| raw.frame(0x89, &[b'x'; 126])),
        ("continuation of nothing", 1002, |raw| raw.frame(0x80, b"x")),
        ("two beginnings", 1002, |raw| {
            raw.frame(0x01, b"{");
            raw.frame(0x81, b"}");
        }),
        ("not UTF-8", 1007, |raw| raw.frame(0x81, b"\xff\xfe")),
        ("not UTF-8 in pieces", 1007, |raw| {
            raw.frame(0x01, b"{\"\xc3");
            raw.frame(0x80, b"\x28\"}");
        }),
        ("huge length", 1009, |raw| raw.send(b"\x81\xff\x00\x00\x00\x7f\xff\xff\xff\xff\0\0\0\0")),
    ];
    for (name, code, sends) in cases {
        let mut raw = Raw::open(&site);
        sends(&mut raw);
        assert_eq!(raw.close_code(), Some(*code), "{name}");
    }
    good.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_never_end_and_clients_that_say_nothing_hold_up_nobody() {
    let site = site();
    let begun: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            stream.write_all(b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr").unwrap();
            stream
        })
        .collect();
    let silent: Vec<_> = (0..100).map(|_| Raw::open(&site)).collect();
    Good::new(&site).await.goes_on().await;
    drop((begun, silent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_is_told_what_to_do() {
    let site = site();
    let ask = |method: &str, headers: &str| {
        let text = format!(
            "{method} /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        Response::parse(&exchange(site.addr(), &text))
    };
    let plain = ask("GET", "");
    plain.is_problem(426, "WebSocket");
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    let post = ask("POST", "");
    post.is_problem(405, "GET");
    let elsewhere = crate::whip_support::Served::new("/whip/live");
    elsewhere.request("GET", "/ws", &[], "").is_problem(404, "/ws");
    assert!(matches!(site.client_at("/wss").await, Err(Error::Http(response)) if response.status() == 404));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_off_leave_nothing_behind() {
    let site = site();
    let (mut ann, _) = site.joined("room", "peer").await;
    for _ in 0..50 {
        let (gone, id) = site.joined("room", "peer").await;
        assert_eq!(ann.hear().await["peer"], id.as_str());
        drop(gone);
        assert_eq!(ann.hear().await, json!({"type": "peer-left", "peer": id, "lost": true}));
    }
    // As full as a channel may be: the ones before are not counted.
    let mut all = Vec::new();
    for _ in 1..16 {
        all.push(site.joined("room", "peer").await);
    }
    let mut late = site.client().await;
    assert_eq!(late.refused(json!({"type": "join", "channel": "room", "role": "peer"})).await.0, "unavailable");
}

/// Any frames, whole and broken, from a seeded generator: the server goes on, and nothing is left of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long"]
async fn random_frames_harm_nobody() {
    let site = site();
    let good = Good::new(&site).await;
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = move || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice
    };
    let texts = [
        json!({"type": "join", "channel": "fuzz", "role": "peer"}).to_string(),
        json!({"type": "offer", "sdp": offer(1)}).to_string(),
        json!({"type": "create", "title": "x"}).to_string(),
        json!({"type": "chat", "text": "x"}).to_string(),
    ];
    for _ in 0..20_000 {
        let mut raw = Raw::open(&site);
        for _ in 0..roll() % 6 {
            let mut payload = texts[(roll() % 4) as usize].clone().into_bytes();
            for _ in 0..roll() % 4 {
                let at = (roll() % payload.len() as u64) as usize;
                payload[at] = roll() as u8;
            }
            let first = if roll() % 3 == 0 { roll() as u8 } else { 0x81 };
            if roll() % 8 == 0 {
                let mut bytes = Raw::bytes(first, &payload);
                bytes.truncate((roll() % bytes.len() as u64) as usize);
                raw.send(&bytes);
            } else {
                raw.frame(first, &payload);
            }
        }
        if roll() % 2 == 0 {
            raw.frame(0x88, b"");
            // Half a frame before it may have swallowed it.
            let _ = raw.stream.shutdown(Shutdown::Write);
            raw.close_code();
        }
    }
    good.goes_on().await;
}

/// A client that writes its frames by hand.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    fn open(site: &Site) -> Self {
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self { stream }
    }

    /// A frame with this first byte, masked by zeros.
    fn bytes(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            medium => {
                frame.push(0x80 | 126);
                frame.extend((medium as u16).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&Self::bytes(first, payload));
    }

    /// The server may have closed already.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads up to the end; the code of the close frame, if one came.
    fn close_code(&mut self) -> Option<u16> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).ok()?;
            let length = match head[1] {
                126 => {
                    let mut length = [0; 2];
                    self.stream.read_exact(&mut length).ok()?;
                    usize::from(u16::from_be_bytes(length))
                }
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).ok()?;
            if head[0] == 0x88 {
                return Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]));
            }
        }
    }
}
