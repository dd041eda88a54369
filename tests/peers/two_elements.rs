//! Both peers are elements: what is sent back, one call that runs a pipeline, servers by TLS, and media that goes on while the
//! server or the way to it is gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    mpsc,
};

use crate::common::{SOON, lossy::LossyPath, player::Player, server::BridgeServer, wait_until};
use crate::meeting::{Ends, apart, encoders, site, url};
use crate::socket_support::Client;
use gst::prelude::*;
use serde_json::{Value, json};

/// Both ends have two elements and one connection; whoever comes first offers to send as well as to receive.
async fn sent_back(sender_is_first: bool) {
    let site = site();
    let url = url(&site);
    apart(move || {
        crate::common::server::register();
        let sink = "fakesink sync=false async=false";
        // A UDP port does not talk to itself: the two would be in two processes.
        let port = format!("ice-udp-port={}", crate::common::free_udp_port());
        let sender = format!(
            "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! webrtcegress name=out uri={url} {port} \
             audiotestsrc is-live=true ! out.audio_0 webrtcingest name=in uri={url} {port} in.video_0 ! {sink} in.audio_0 ! {sink}"
        );
        let echo = format!("webrtcingest uri={url} : webrtcegress name=out uri={url}");
        let (first, second) = if sender_is_first { (&sender, &echo) } else { (&echo, &sender) };
        let first = Ends::start(first);
        let waiting = || first.stats("out").get::<String>("url").ok();
        wait_until("the first one", SOON, waiting);
        let second = Ends::start(second);
        let (sender, echo) = if sender_is_first { (first, second) } else { (second, first) };
        wait_until("what comes back", SOON, || sender.stats("in").get::<u64>("frames").is_ok_and(|frames| frames > 60).then_some(()));
        let passed = encoders(&echo.stats("out"));
        assert_eq!(passed.len(), 2, "{passed:?}");
        assert!(passed.iter().all(|(_, encoder)| encoder == "passthrough"), "{passed:?}");
        let mut sent: Vec<String> = encoders(&sender.stats("out")).into_iter().map(|(codec, _)| codec).collect();
        let mut came: Vec<String> = passed.into_iter().map(|(codec, _)| codec).collect();
        sent.sort();
        came.sort();
        assert_eq!(sent, came, "in the codecs that it was sent in");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_who_comes_later_comes_back_without_being_encoded() {
    sent_back(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_who_was_there_before_comes_back_without_being_encoded() {
    sent_back(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_joins_and_runs_until_the_other_one_goes() {
    let site = site();
    let (url, plain) = (url(&site), format!("ws://{}/ws?channel=blue", site.addr()));
    apart(crate::common::server::register).await;
    let running = tokio::spawn(async move {
        gstwebrtcbridge::WebRtcServer::run_with_signaling(&plain, "webrtcingest : webrtcegress").await
    });
    apart(move || {
        let sink = "fakesink sync=false async=false";
        // A UDP port does not talk to itself: the two would be in two processes.
        let port = format!("ice-udp-port={}", crate::common::free_udp_port());
        let sender = Ends::start(&format!(
            "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! webrtcegress name=out uri={url} {port} \
             webrtcingest name=in uri={url} {port} in.video_0 ! {sink}"
        ));
        wait_until("what comes back", SOON, || sender.stats("in").get::<u64>("frames").is_ok_and(|frames| frames > 30).then_some(()));
    })
    .await;
    let ended = tokio::time::timeout(SOON, running).await.expect("an end").expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    let wrong = gstwebrtcbridge::WebRtcServer::run_with_signaling("http://h/", "fakesrc ! fakesink").await;
    assert!(wrong.unwrap_err().to_string().contains("channel=ID"));
}

/// What the texts that reach an element by its signal are: the last argument of `text-received`.
fn texts(ends: &Ends, name: &str) -> mpsc::Receiver<String> {
    let (tell, texts) = mpsc::channel();
    ends.element(name).connect("text-received", false, move |values| {
        let _ = tell.send(values.last().and_then(|text| text.get::<String>().ok()).expect("text"));
        None
    });
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_element_that_only_sends_media_talks_with_its_peer_as_well() {
    let site = site();
    let url = url(&site);
    apart(move || {
        let (sender, receiver) = sender_and_receiver(&url, &url);
        let (to_sender, to_receiver) = (texts(&sender, "out"), texts(&receiver, "in"));
        receiver.element("in").emit_by_name::<()>("send-text", &[&"chat", &"hello"]);
        assert_eq!(to_sender.recv_timeout(SOON).expect("a text"), "hello");
        sender.element("out").emit_by_name::<()>("send-text", &[&None::<String>, &"chat", &"and back"]);
        assert_eq!(to_receiver.recv_timeout(SOON).expect("a text"), "and back");
        assert_eq!(sender.stats("out").get::<u64>("messages-received"), Ok(1));
        assert_eq!(sender.stats("out").get::<u64>("messages-dropped"), Ok(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_peer_says_is_heard_by_both_elements_of_a_call() {
    let site = site();
    let (url, sink) = (url(&site), "fakesink sync=false async=false");
    apart(move || {
        crate::common::server::register();
        let picture = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1";
        // A UDP port does not talk to itself: the two would be in two processes.
        let port = format!("ice-udp-port={}", crate::common::free_udp_port());
        let both = Ends::start(&format!(
            "{picture} ! webrtcegress name=out uri={url} {port} webrtcingest name=in uri={url} {port} in.video_0 ! {sink}"
        ));
        both.wait_state("waiting");
        let other = Ends::start(&format!(
            "{picture} ! webrtcegress name=out uri={url} webrtcingest name=in uri={url} in.video_0 ! {sink}"
        ));
        wait_more_frames(&both, 10);
        let heard = [texts(&both, "in"), texts(&both, "out")];
        other.element("out").emit_by_name::<()>("send-text", &[&None::<String>, &"chat", &"hello"]);
        for heard in heard {
            assert_eq!(heard.recv_timeout(SOON).expect("a text"), "hello");
        }
    })
    .await;
}

/// Hands what two elements say on to the other one, as the other peer of each; media goes through `path`. The offers that
/// it has handed on.
fn between(mut red: Client, mut blue: Client, path: LossyPath) -> Arc<AtomicUsize> {
    let offers = Arc::<AtomicUsize>::default();
    let counts = offers.clone();
    tokio::spawn(async move {
        let (mut from_red, mut from_blue) = (Value::Null, Value::Null);
        loop {
            tokio::select! {
                Some(heard) = red.hear_any() => {
                    hand_on(heard, &mut from_red, &mut blue, &from_blue, (&path, &counts)).await;
                }
                Some(heard) = blue.hear_any() => {
                    hand_on(heard, &mut from_blue, &mut red, &from_red, (&path, &counts)).await;
                }
                else => return,
            }
        }
    });
    offers
}

async fn hand_on(
    heard: tokio_tungstenite::tungstenite::Message,
    from: &mut Value,
    other: &mut Client,
    to: &Value,
    (path, offers): (&LossyPath, &AtomicUsize),
) {
    let Ok(text) = heard.to_text() else { return };
    let Ok(message) = serde_json::from_str::<Value>(text) else { return };
    if message["type"] == "peer-joined" {
        *from = message["peer"].clone();
    }
    let (Some(kind @ ("offer" | "answer")), Some(sdp)) = (message["type"].as_str(), message["sdp"].as_str()) else {
        return;
    };
    *from = message["from"].clone();
    let sdp = match kind {
        // One end is enough to lead both there.
        "answer" => path.reroute(sdp),
        _ => {
            offers.fetch_add(1, SeqCst);
            sdp.lines().filter(|line| !line.starts_with("a=candidate:")).flat_map(|line| [line, "\r\n"]).collect()
        }
    };
    other.send(json!({"type": kind, "to": to, "sdp": sdp})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_breaks_and_comes_back_elsewhere_is_found_again_by_both_ends_on_their_own() {
    let site = site();
    let down = Arc::new(AtomicBool::new(false));
    let loses = down.clone();
    let path = LossyPath::new(move |_, _| loses.load(SeqCst));
    let url = |channel: &str| format!("\"ws://{}/ws?channel={channel}\"", site.addr());
    let (red, blue) = (url("red"), url("blue"));
    // Whoever is there first offers: so does the sender.
    let (to_receiver, _) = site.joined("red", "peer").await;
    let (receiver, sender) = apart(move || {
        crate::common::server::register();
        // A UDP port does not talk to itself: the two would be in two processes.
        let port = format!("ice-udp-port={}", crate::common::free_udp_port());
        let sink = "fakesink sync=false async=false";
        let receiver =
            Ends::start(&format!("webrtcingest name=in uri={red} {port} on-disconnect=wait in.video_0 ! {sink}"));
        let sender = Ends::start(&format!(
            "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! webrtcegress name=out uri={blue}"
        ));
        receiver.wait_state("waiting");
        sender.wait_state("waiting");
        (receiver, sender)
    })
    .await;
    let (to_sender, _) = site.joined("blue", "peer").await;
    let offers = between(to_receiver, to_sender, path);
    apart(move || {
        let frames = |more: u64| {
            let count = || receiver.stats("in").get::<u64>("frames").unwrap_or(0);
            let enough = count() + more;
            wait_until("frames", SOON, || (count() >= enough).then_some(()));
        };
        frames(30);
        let before = offers.load(SeqCst);
        down.store(true, SeqCst);
        // The relay is dead, and the next one is somewhere else.
        wait_until("another offer", SOON, || (offers.load(SeqCst) > before).then_some(()));
        down.store(false, SeqCst);
        frames(60);
        let sessions = receiver.stats("in").get::<u64>("sessions").unwrap_or(0);
        assert!(sessions >= 2, "{sessions}");
        drop((sender, receiver));
    })
    .await;
}

#[test]
fn a_signaling_server_by_tls_is_met_if_its_certificate_is_trusted_and_not_otherwise() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name).display().to_string());
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let server = BridgeServer::start(&[("tls-certificate", &certificate), ("tls-key", &key)]);
    let url = format!("\"{}/ws?channel=blue\"", server.url().replacen("https", "wss", 1));
    assert!(url.starts_with("\"wss://"), "{url}");
    let trusting = Player::start(&url, &format!("tls-certificate={certificate}"));
    trusting.wait_state("waiting");
    // Nobody has vouched for it.
    let careful = Player::start(&url, "");
    let said = careful.wait_message("a refusal", |message| match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
        _ => None,
    });
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(careful.stats().get::<u64>("sessions"), Ok(0));
    // Media of both ends, through what is trusted.
    let port = format!("ice-udp-port={}", crate::common::free_udp_port());
    let sender = Ends::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
         ! webrtcegress name=out uri={url} tls-certificate={certificate} {port}"
    ));
    trusting.wait_frames(30);
    drop(sender);
}

/// Stands before a server, and can lose all who have come through it.
struct Way {
    address: std::net::SocketAddr,
    streams: Arc<std::sync::Mutex<Vec<std::net::TcpStream>>>,
}

impl Way {
    fn to(server: std::net::SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, streams) =
            (listener.local_addr().expect("an address"), Arc::<std::sync::Mutex<Vec<_>>>::default());
        let known = streams.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) =
                    (client.expect("a client"), std::net::TcpStream::connect(server).expect("the server"));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().expect("a copy"), to.try_clone().expect("a copy"));
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
                known.lock().expect("lock").extend([client, server]);
            }
        });
        Self { address, streams }
    }

    /// Without a word, as when a network changes.
    fn cut(&self) {
        for stream in self.streams.lock().expect("lock").drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// One who sends and one who receives, by these URLs; the one who sends is first.
fn sender_and_receiver(sender: &str, receiver: &str) -> (Ends, Ends) {
    crate::common::server::register();
    let first = Ends::start(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! webrtcegress name=out uri={sender} ice-udp-port={}",
        crate::common::free_udp_port()
    ));
    first.wait_state("waiting");
    let sink = "fakesink sync=false async=false";
    let second = Ends::start(&format!("webrtcingest name=in uri={receiver} in.video_0 ! {sink}"));
    first.wait_state("live");
    second.wait_state("live");
    (first, second)
}

fn wait_more_frames(receiver: &Ends, more: u64) {
    let frames = || receiver.stats("in").get::<u64>("frames").unwrap_or_default();
    let enough = frames() + more;
    wait_until("frames", SOON, || (frames() >= enough).then_some(()));
}

/// One connection was enough for both.
fn assert_the_first_connection(sender: &Ends, receiver: &Ends) {
    let (sent, received) = (sender.stats("out"), receiver.stats("in"));
    assert_eq!(
        (sent.get::<u64>("viewers-total"), received.get::<u64>("sessions")),
        (Ok(1), Ok(1)),
        "{sent} {received}"
    );
}

#[test]
fn media_goes_on_while_the_signaling_server_is_restarted() {
    crate::common::server::register();
    let listen = format!("127.0.0.1:{}", crate::common::free_port());
    let server = BridgeServer::start(&[("session", ""), ("listen", &listen)]);
    let url = format!("\"ws://{listen}/ws?channel=blue\"");
    let (sender, receiver) = sender_and_receiver(&url, &url);
    wait_more_frames(&receiver, 20);
    drop(server);
    [&sender, &receiver].iter().for_each(|end| end.wait_state("retrying"));
    wait_more_frames(&receiver, 60);
    let _server = BridgeServer::start(&[("session", ""), ("listen", &listen)]);
    [&sender, &receiver].iter().for_each(|end| end.wait_state("live"));
    wait_more_frames(&receiver, 60);
    assert_the_first_connection(&sender, &receiver);
    // They find each other again when it is over after all.
    let Ends(gone) = &sender;
    gone.set_state(gst::State::Null).expect("stopped");
    gone.set_state(gst::State::Playing).expect("playing again");
    wait_until("another connection", SOON, || {
        receiver.stats("in").get::<u64>("sessions").is_ok_and(|sessions| sessions > 1).then_some(())
    });
    wait_more_frames(&receiver, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_goes_on_when_one_of_them_is_lost_to_the_server() {
    let site = site();
    let (direct, way) = (url(&site), Way::to(site.addr().to_string().parse().expect("an address")));
    apart(move || {
        let (sender, receiver) = sender_and_receiver(&direct, &format!("\"ws://{}/ws?channel=blue\"", way.address));
        wait_more_frames(&receiver, 20);
        way.cut();
        receiver.wait_state("retrying");
        receiver.wait_state("live");
        wait_more_frames(&receiver, 60);
        assert_the_first_connection(&sender, &receiver);
    })
    .await;
}
