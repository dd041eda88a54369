//! Data channels of who `webrtcegress` sends to: viewers talk to the element, each by its name, and it to one or to all; a
//! server that it pushes to as well, if the element has something to say.

use std::sync::{Arc, Mutex, mpsc};

use crate::common::{
    SOON,
    bin_peer::BinPeer,
    egress::Egress,
    ingest::Ingest,
    viewer::{Viewer, Wants},
    wait_until, whip,
    whip_front::WhipFront,
};
use axum::http::Method;
use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCDataChannel, WebRTCDataChannelState};
use gstwebrtcbridge::{rtp::data::buffer, session::DataMessage};

const VIDEO: &str = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=15/1 ! out.video_0";
const NEWS: &str =
    "appsrc name=news is-live=true format=time caps=application/x-webrtc-data,label=news,kind=text ! out.data_0";

type Signal = (String, String, String, Vec<u8>);

/// What the signals of an element tell: signal, session, label, message.
fn signals(egress: &Egress) -> mpsc::Receiver<Signal> {
    let (tell, signals) = mpsc::channel();
    for signal in ["data-channel-opened", "data-channel-closed", "text-received", "data-received"] {
        let tell = tell.clone();
        egress.element.connect(signal, false, move |values| {
            let [session, label] = [1, 2].map(|at| values[at].get::<String>().expect("a name"));
            let message = values.get(3).map_or_else(Vec::new, |value| match value.get::<glib::Bytes>() {
                Ok(bytes) => bytes.to_vec(),
                Err(_) => value.get::<String>().expect("text").into_bytes(),
            });
            let _ = tell.send((signal.to_owned(), session, label, message));
            None
        });
    }
    signals
}

fn next(signals: &mpsc::Receiver<Signal>, signal: &str, label: &str) -> (String, Vec<u8>) {
    loop {
        let (what, session, at, message) = signals.recv_timeout(SOON).expect(signal);
        if (what.as_str(), at.as_str()) == (signal, label) {
            return (session, message);
        }
    }
}

/// webrtcbin that watches, with a channel of its own, and what it has heard: label and message.
struct Talker {
    _bin: BinPeer,
    channel: WebRTCDataChannel,
    heard: Arc<Mutex<Vec<(String, DataMessage)>>>,
    resource: whip::Resource,
}

impl Talker {
    fn start(egress: &Egress) -> Self {
        let bin = BinPeer::viewer("H264");
        let channel: WebRTCDataChannel =
            bin.webrtc.emit_by_name("create-data-channel", &[&"chat", &None::<gst::Structure>]);
        let heard = Arc::<Mutex<Vec<(String, DataMessage)>>>::default();
        listen(&channel, &heard);
        let hears = heard.clone();
        bin.webrtc.connect("on-data-channel", false, move |values| {
            listen(&values[1].get::<WebRTCDataChannel>().expect("a channel"), &hears);
            None
        });
        let (resource, answer) = whip::post(&egress.url(), None, &bin.offer()).expect("an answer");
        assert!(answer.contains("webrtc-datachannel"), "{answer}");
        bin.answered(&answer);
        wait_until("the channel", SOON, || (channel.ready_state() == WebRTCDataChannelState::Open).then_some(()));
        bin.wait_decoded(5, 0);
        Self { _bin: bin, channel, heard, resource }
    }

    fn wait_heard(&self, expected: &[(&str, DataMessage)]) {
        let expected: Vec<_> = expected.iter().map(|(label, message)| ((*label).to_owned(), message.clone())).collect();
        wait_until(&format!("{expected:?}"), SOON, || (*self.heard.lock().expect("heard") == expected).then_some(()));
    }
}

fn listen(channel: &WebRTCDataChannel, heard: &Arc<Mutex<Vec<(String, DataMessage)>>>) {
    let label = channel.label().expect("a label").to_string();
    let (texts, text_label, bytes_heard) = (heard.clone(), label.clone(), heard.clone());
    channel.connect_on_message_string(move |_, text| {
        texts.lock().expect("heard").push((text_label.clone(), text.unwrap_or_default().into()));
    });
    channel.connect_on_message_data(move |_, bytes| {
        let bytes = bytes.map(|bytes| bytes.to_vec()).unwrap_or_default();
        bytes_heard.lock().expect("heard").push((label.clone(), bytes.into()));
    });
}

fn push_news(egress: &Egress, text: &str) {
    let source = egress.pipeline.by_name("news").expect("news").downcast::<gst_app::AppSrc>().expect("an appsrc");
    source.push_buffer(buffer(text.into())).expect("pushed");
}

fn count(egress: &Egress, field: &str) -> u64 {
    egress.stats().get(field).expect("a count")
}

#[test]
fn viewers_are_heard_by_their_sessions_names_and_spoken_to_alone_or_all_together() {
    let egress = Egress::start("", &format!("{VIDEO} {NEWS}"));
    let signals = signals(&egress);
    let ann = Talker::start(&egress);
    let (ann_id, _) = next(&signals, "data-channel-opened", "chat");
    let bob = Talker::start(&egress);
    let (bob_id, _) = next(&signals, "data-channel-opened", "chat");
    assert_ne!(ann_id, bob_id);
    ann.channel.send_string_full(Some("grüß dich")).expect("sent");
    assert_eq!(next(&signals, "text-received", "chat"), (ann_id.clone(), "grüß dich".as_bytes().to_vec()));
    bob.channel.send_data_full(Some(&glib::Bytes::from_static(&[0, 255]))).expect("sent");
    assert_eq!(next(&signals, "data-received", "chat"), (bob_id.clone(), vec![0, 255]));
    // Back to one, by the channel that it has made.
    egress.element.emit_by_name::<()>("send-text", &[&ann_id, &"chat", &"only you"]);
    ann.wait_heard(&[("chat", "only you".into())]);
    let bytes = glib::Bytes::from_static(&[1, 2]);
    egress.element.emit_by_name::<()>("send-data", &[&None::<String>, &"chat", &bytes]);
    bob.wait_heard(&[("chat", vec![1, 2].into())]);
    ann.wait_heard(&[("chat", "only you".into()), ("chat", vec![1, 2].into())]);
    // A pad's messages are for all.
    push_news(&egress, "extra");
    bob.wait_heard(&[("chat", vec![1, 2].into()), ("news", "extra".into())]);
    ann.wait_heard(&[("chat", "only you".into()), ("chat", vec![1, 2].into()), ("news", "extra".into())]);
    assert_eq!((count(&egress, "messages-received"), count(&egress, "messages-sent")), (2, 3));
    // Who has gone is spoken to in vain, which is counted.
    bob.resource.delete();
    wait_until("one to go", SOON, || (egress.stats().get::<u32>("viewers") == Ok(1)).then_some(()));
    egress.element.emit_by_name::<()>("send-text", &[&bob_id, &"chat", &"still there?"]);
    assert_eq!(count(&egress, "messages-dropped"), 1);
    assert_eq!(egress.error(), None);
}

#[test]
fn a_viewer_without_data_channels_watches_all_the_same_and_is_not_waited_for() {
    let egress = Egress::start("", &format!("{VIDEO} {NEWS}"));
    let (viewer, _resource) = egress.view(Wants::default());
    let talker = Talker::start(&egress);
    for number in 0..20 {
        push_news(&egress, &number.to_string());
    }
    egress.element.emit_by_name::<()>("send-text", &[&"", &"chat", &"all"]);
    wait_until("all of it", SOON, || (talker.heard.lock().expect("heard").len() == 21).then_some(()));
    wait_until("pictures", SOON, || (viewer.count(102) > 20).then_some(()));
    assert_eq!((count(&egress, "messages-sent"), count(&egress, "messages-dropped")), (1, 0));
    let pads = egress.stats().get::<gst::Array>("data").expect("data");
    let pad = pads[0].get::<gst::Structure>().expect("a structure");
    assert_eq!((pad.get::<u64>("messages"), pad.get::<u64>("dropped")), (Ok(20), Ok(0)), "{pad}");
}

#[test]
fn a_server_that_is_pushed_to_is_talked_with_if_there_is_something_to_say() {
    let server = Ingest::start("");
    let front = WhipFront::start(&server.url(), None);
    let port = format!("ice-udp-port={}", crate::common::free_udp_port());
    let push = Egress::start_at(&front.uri("127.0.0.1"), &port, &format!("{VIDEO} {NEWS}"));
    let signals = signals(&push);
    let heard = Arc::<Mutex<Vec<(String, String)>>>::default();
    let hears = heard.clone();
    server.element().connect("text-received", false, move |values| {
        let [label, text] = [1, 2].map(|at| values[at].get::<String>().expect("text"));
        hears.lock().expect("heard").push((label, text));
        None
    });
    wait_until("frames", SOON, || (server.frames() > 10).then_some(()));
    push_news(&push, "first");
    wait_until("the news", SOON, || (*heard.lock().expect("heard") == [("news".into(), "first".into())]).then_some(()));
    server.element().emit_by_name::<()>("send-text", &[&"news", &"thank you"]);
    assert_eq!(next(&signals, "text-received", "news"), ("server".to_owned(), b"thank you".to_vec()));
    assert!(front.seen(Method::POST)[0].body.contains("m=application"));
    // Who has nothing to say does not trouble servers that know only media.
    drop(push);
    let front = WhipFront::start(&server.url(), None);
    let silent = Egress::start_at(&front.uri("127.0.0.1"), &port, VIDEO);
    wait_until("the offer", SOON, || front.seen(Method::POST).pop().map(|post| post.body))
        .lines()
        .for_each(|line| assert!(!line.starts_with("m=application"), "{line}"));
    drop(silent);
}

#[test]
fn a_viewer_that_floods_slows_itself_down_and_harms_nobody() {
    let egress = Egress::start("", VIDEO);
    // Nobody takes what comes for now.
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    egress.element.connect("text-received", false, move |_| {
        let _ = held.lock().expect("lock").recv_timeout(SOON);
        None
    });
    let talker = Talker::start(&egress);
    let text = "x".repeat(10_000);
    for _ in 0..300 {
        talker.channel.send_string_full(Some(&text)).expect("queued");
    }
    let viewer = Viewer::new(Wants::default());
    let (_resource, answer) = whip::post(&egress.url(), None, viewer.offer()).expect("an answer");
    viewer.answered(&answer);
    wait_until("pictures", SOON, || (viewer.count(102) > 30).then_some(()));
    assert!(count(&egress, "messages-received") < 3, "the handler still has the first one");
    drop(release);
    wait_until("all of it", SOON, || (count(&egress, "messages-received") == 300).then_some(()));
    assert_eq!(egress.error(), None);
}
