//! Data channels as an element has them: pads, signals and action signals, with GStreamer's own webrtcbin as the peer; and
//! the pads of what is sent.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use crate::common::{
    SOON,
    data::pair,
    publisher::sdp::{local_description, set_remote_description},
    server::BridgeServer,
    wait_until, webrtcbin_may_complain, whip,
};
use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCDataChannel, WebRTCDataChannelState};
use gstwebrtcbridge::{
    rtp::data::{DataOut, DataPads, buffer, is_text},
    session::{DataMessage, Reliability},
};

/// webrtcbin with data channels and nothing else, and what it has heard: label and message.
struct Bin {
    pipeline: gst::Pipeline,
    webrtc: gst::Element,
    heard: Arc<Mutex<Vec<(String, DataMessage)>>>,
    channel: WebRTCDataChannel,
    _resource: whip::Resource,
}

type Heard = Arc<Mutex<Vec<(String, DataMessage)>>>;

fn listen(channel: &WebRTCDataChannel, heard: &Heard) {
    let label = channel.label().expect("a label").to_string();
    let (texts, text_label) = (heard.clone(), label.clone());
    channel.connect_on_message_string(move |_, text| {
        texts.lock().unwrap().push((text_label.clone(), text.unwrap_or_default().into()));
    });
    let bytes_heard = heard.clone();
    channel.connect_on_message_data(move |_, bytes| {
        let bytes = bytes.map(|bytes| bytes.to_vec()).unwrap_or_default();
        bytes_heard.lock().unwrap().push((label.clone(), bytes.into()));
    });
}

impl Bin {
    /// Posts an offer of a channel, and waits until that is open.
    fn start(url: &str, options: Option<gst::Structure>) -> Self {
        webrtcbin_may_complain();
        let pipeline = gst::Pipeline::new();
        let webrtc = gst::ElementFactory::make("webrtcbin").build().expect("webrtcbin");
        webrtc.set_property_from_str("bundle-policy", "max-bundle");
        pipeline.add(&webrtc).expect("one element");
        pipeline.set_state(gst::State::Playing).expect("playing");
        let channel = webrtc.emit_by_name::<WebRTCDataChannel>("create-data-channel", &[&"chat", &options]);
        let heard = Heard::default();
        listen(&channel, &heard);
        let hears = heard.clone();
        webrtc.connect("on-data-channel", false, move |values| {
            listen(&values[1].get::<WebRTCDataChannel>().expect("a channel"), &hears);
            None
        });
        let offer = local_description(&webrtc, "offer", true);
        let (resource, answer) =
            whip::post(url, None, &offer).unwrap_or_else(|refused| panic!("{} {}", refused.status, refused.body));
        set_remote_description(&webrtc, gst_webrtc::WebRTCSDPType::Answer, &answer);
        wait_until("the channel", SOON, || (channel.ready_state() == WebRTCDataChannelState::Open).then_some(()));
        Self { pipeline, webrtc, heard, channel, _resource: resource }
    }

    fn heard(&self, count: usize) -> Vec<(String, DataMessage)> {
        wait_until("messages at webrtcbin", SOON, || {
            let heard = self.heard.lock().unwrap();
            (heard.len() >= count).then(|| heard.clone())
        })
    }
}

impl Drop for Bin {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// An element with something behind its data pads.
struct Element {
    pipeline: gst::Pipeline,
    element: gst::Element,
    signals: mpsc::Receiver<(String, String, Vec<u8>)>,
}

impl Element {
    fn start(rest: &str) -> Self {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
        let description = format!("webrtcingest name=in uri=whip://127.0.0.1:0/whip/live {rest}");
        let pipeline = gst::parse::launch(&description).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
        let element = pipeline.by_name("in").expect("the element");
        let (tell, signals) = mpsc::channel();
        for signal in ["data-channel-opened", "data-channel-closed", "text-received", "data-received"] {
            let tell = tell.clone();
            element.connect(signal, false, move |values| {
                let label = values[1].get::<String>().expect("a label");
                let message = values.get(2).map_or_else(Vec::new, |value| match value.get::<glib::Bytes>() {
                    Ok(bytes) => bytes.to_vec(),
                    Err(_) => value.get::<String>().expect("text").into_bytes(),
                });
                let _ = tell.send((signal.to_owned(), label, message));
                None
            });
        }
        pipeline.set_state(gst::State::Playing).expect("playing");
        Self { pipeline, element, signals }
    }

    fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }

    fn url(&self) -> String {
        wait_until("the URL", SOON, || self.stats().get::<String>("url").ok())
    }

    fn signal(&self) -> (String, String, Vec<u8>) {
        self.signals.recv_timeout(SOON).expect("a signal")
    }

    fn sink(&self) -> gst_app::AppSink {
        self.pipeline.by_name("out").expect("out").downcast().expect("an appsink")
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn pull(sink: &gst_app::AppSink) -> gst::Sample {
    sink.try_pull_sample(gst::ClockTime::from_seconds(SOON.as_secs())).expect("a buffer in time")
}

fn owned(signal: &str, label: &str, message: &[u8]) -> (String, String, Vec<u8>) {
    (signal.to_owned(), label.to_owned(), message.to_vec())
}

#[test]
fn messages_come_out_of_a_pad_and_by_signals_and_go_back_by_action_signals() {
    let element = Element::start("in.data_0 ! appsink name=out sync=false");
    let options = gst::Structure::builder("options").field("ordered", false).field("protocol", "echo.v1").build();
    let peer = Bin::start(&element.url(), Some(options));
    assert_eq!(element.signal(), owned("data-channel-opened", "chat", b""));
    peer.channel.send_string_full(Some("grüß dich")).expect("sent");
    let bytes: Vec<u8> = (0..60_000).map(|at| at as u8).collect();
    peer.channel.send_data_full(Some(&glib::Bytes::from_owned(bytes.clone()))).expect("sent");
    assert_eq!(element.signal(), owned("text-received", "chat", "grüß dich".as_bytes()));
    assert_eq!(element.signal(), owned("data-received", "chat", &bytes));
    let sink = element.sink();
    for (text, payload) in [(true, "grüß dich".as_bytes()), (false, &bytes[..])] {
        let sample = pull(&sink);
        let caps = sample.caps().expect("caps").structure(0).expect("a structure");
        assert_eq!(caps.name(), "application/x-webrtc-data");
        assert_eq!((caps.get::<&str>("label"), caps.get::<&str>("protocol")), (Ok("chat"), Ok("echo.v1")));
        assert_eq!(caps.get::<bool>("ordered"), Ok(false));
        let buffer = sample.buffer().expect("a buffer");
        assert_eq!((is_text(buffer), &buffer.map_readable().expect("bytes")[..]), (Some(text), payload));
        assert!(buffer.pts().is_some());
    }
    element.element.emit_by_name::<()>("send-text", &[&"chat", &"back"]);
    element.element.emit_by_name::<()>("send-data", &[&"chat", &glib::Bytes::from_static(&[0, 1, 2])]);
    // No channel has this label, so there is a new one.
    element.element.emit_by_name::<()>("send-text", &[&"news", &"hot"]);
    let mut heard = peer.heard(3);
    heard.sort_by_key(|(label, _)| label.clone());
    let expected: [(String, DataMessage); 3] =
        [("chat".into(), "back".into()), ("chat".into(), vec![0, 1, 2].into()), ("news".into(), "hot".into())];
    assert_eq!(heard, expected);
    assert_eq!(element.signal(), owned("data-channel-opened", "news", b""));
    let stats = wait_until("counts", SOON, || {
        Some(element.stats()).filter(|stats| stats.get("data-messages-sent") == Ok(3_u64))
    });
    assert_eq!(
        ["data-messages", "data-messages-received", "data-channels-opened", "data-messages-dropped"]
            .map(|field| stats.get::<u64>(field).expect(field)),
        [2, 2, 2, 0]
    );
    assert_eq!(stats.get::<gst::Array>("data-channels").expect("channels").len(), 2);
    peer.webrtc.set_state(gst::State::Null).expect("null");
}

#[test]
fn what_no_pad_takes_is_counted_and_eos_reaches_what_waits_for_a_channel() {
    let element = Element::start("in.data_1 ! appsink name=out sync=false");
    let peer = Bin::start(&element.url(), None);
    assert_eq!(element.signal().0, "data-channel-opened");
    peer.channel.send_string_full(Some("unheard")).expect("sent");
    assert_eq!(element.signal().0, "text-received");
    wait_until("the drop to be counted", SOON, || {
        (element.stats().get("data-dropped-unlinked") == Ok(1_u64)).then_some(())
    });
    // Without a session it goes nowhere, and nothing breaks.
    drop(peer);
    let nobody = Element::start("in.data_0 ! appsink name=out sync=false");
    nobody.element.emit_by_name::<()>("send-text", &[&"chat", &"nobody is there"]);
    assert!(nobody.pipeline.send_event(gst::event::Eos::new()));
    wait_until("EOS behind the pad that never was", SOON, || nobody.sink().is_eos().then_some(()));
}

#[test]
fn buffers_of_a_pad_go_to_every_session_under_the_label_of_their_caps() {
    gst::init().expect("GStreamer");
    let ((here, there), (here_too, there_too)) = (pair(), pair());
    let out = DataOut::new("data_0");
    let caps = gst::Caps::builder("application/x-webrtc-data")
        .field("label", "telemetry")
        .field("ordered", false)
        .field("max-retransmits", 0)
        .field("kind", "text")
        .build();
    out.configure(&caps);
    assert_eq!(out.chain(&gst::Buffer::from_slice(*b"too early")), Ok(gst::FlowSuccess::Ok));
    out.add(here.session.clone());
    out.add(here_too.session.clone());
    out.chain(&gst::Buffer::from_slice(*b"{}")).expect("sent");
    out.chain(&buffer(vec![1, 2].into())).expect("sent");
    for listener in [&there.listener, &there_too.listener] {
        let channel = listener.opened();
        assert_eq!((channel.label(), channel.options().ordered), ("telemetry", false));
        // Unordered, so either may be the first.
        let mut came = [listener.message(), listener.message()];
        came.sort_by_key(|message| matches!(message, DataMessage::Binary(_)));
        assert_eq!(came, ["{}".into(), vec![1, 2].into()]);
    }
    assert_eq!(here.listener.opened().options().reliability, Reliability::Retransmits(0));
    assert_eq!((out.stats().messages, out.stats().dropped), (4, 1));
    out.event(&gst::event::Eos::new());
    there.listener.closed();
    there_too.listener.closed();
}

#[test]
fn a_slow_peer_holds_up_the_pad_of_its_reliable_channel_until_that_is_flushed() {
    gst::init().expect("GStreamer");
    let (here, there) = pair();
    let out = Arc::new(DataOut::new("data_0"));
    out.add(here.session.clone());
    assert_eq!(there.listener.opened().label(), "data_0");
    there.listener.take(false);
    let (pushing, (done, ended)) = (out.clone(), mpsc::channel());
    let thread = std::thread::spawn(move || {
        let payload = vec![7; 20_000];
        let mut pushed = 0;
        while pushing.chain(&gst::Buffer::from_slice(payload.clone())).is_ok() {
            pushed += 1;
        }
        let _ = done.send(pushed);
    });
    let mut before = 0;
    wait_until("the pad to be held up", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = out.stats().messages;
        (now > 0 && std::mem::replace(&mut before, now) == now).then_some(())
    });
    assert_eq!(out.stats().dropped, 0);
    assert!(ended.try_recv().is_err());
    out.event(&gst::event::FlushStart::new());
    let pushed = ended.recv_timeout(SOON).expect("the push to return");
    assert_eq!(pushed, out.stats().messages);
    thread.join().expect("the pusher");
    there.listener.take(true);
    for _ in 0..pushed {
        assert_eq!(there.listener.message().len(), 20_000);
    }
}

#[test]
fn an_elements_data_pads_send_from_a_pipeline_and_let_go_when_it_stops() {
    gst::init().expect("GStreamer");
    let (here, there) = pair();
    let pads = DataPads::default();
    let template = gst::PadTemplate::new(
        "data_%u",
        gst::PadDirection::Sink,
        gst::PadPresence::Request,
        &gst::Caps::builder("application/x-webrtc-data").build(),
    )
    .expect("a template");
    let (ended, ends) = mpsc::channel();
    let ended = Mutex::new(ended);
    let pad = pads.pad(&template, "data_0", Arc::new(move |has| _ = ended.lock().unwrap().send(has)));
    pads.add(here.session.clone());
    let pipeline = gst::Pipeline::new();
    let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
    let caps = gst::Caps::builder("application/x-webrtc-data").field("label", "chat").field("kind", "text").build();
    source.set_caps(Some(&caps));
    let bin = gst::Bin::new();
    bin.add_pad(&pad).expect("a pad");
    pipeline.add_many([source.upcast_ref::<gst::Element>(), bin.upcast_ref()]).expect("two elements");
    source.static_pad("src").expect("a pad").link(&pad).expect("a link");
    pipeline.set_state(gst::State::Playing).expect("playing");
    source.push_buffer(gst::Buffer::from_slice(*b"hello")).expect("room");
    wait_until("the message", SOON, || match there.listener.next() {
        crate::common::data::Told::Message(channel, message) => Some((channel.label().to_owned(), message)),
        _ => None,
    });
    // Held up, and stopped nevertheless.
    there.listener.take(false);
    for _ in 0..2000 {
        source.push_buffer(gst::Buffer::from_slice(vec![7; 20_000])).expect("room");
    }
    let mut before = 0;
    wait_until("the pad to be held up", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = pads.stats()[0].1.messages;
        (now > 1 && std::mem::replace(&mut before, now) == now).then_some(())
    });
    assert_eq!(pads.ends(), [(true, false)]);
    pipeline.set_state(gst::State::Ready).expect("ready");
    pipeline.set_state(gst::State::Playing).expect("playing");
    source.end_of_stream().expect("an end");
    wait_until("the end", SOON, || ends.try_iter().any(|has_ended| has_ended).then_some(()));
    assert_eq!(pads.ends(), [(true, true)]);
    assert!(pads.has("data_0") && pads.remove(&pad) && pads.is_empty());
    pipeline.set_state(gst::State::Null).expect("null");
}

#[test]
fn messages_are_echoed_by_a_session_whose_two_elements_are_linked() {
    let server = BridgeServer::start(&[("session", "webrtcingest name=in in.data_0 ! webrtcegress")]);
    let peer = Bin::start(&server.whip("echo"), None);
    let bytes: Vec<u8> = (0..200_u8).collect();
    peer.channel.send_string_full(Some("hello")).expect("sent");
    peer.channel.send_data_full(Some(&glib::Bytes::from_owned(bytes.clone()))).expect("sent");
    let expected: [(String, DataMessage); 2] = [("chat".into(), "hello".into()), ("chat".into(), bytes.into())];
    assert_eq!(peer.heard(2), expected);
}

#[test]
fn both_elements_of_a_session_hear_what_its_peer_says_and_when_its_channel_ends() {
    let (tell, told) = mpsc::channel();
    let server = BridgeServer::start_with(&[], move |bin| {
        bin.connect("create-session", false, move |_| {
            let description = "webrtcingest name=in in.data_0 ! webrtcegress name=out";
            let session = gst::parse::bin_from_description(description, false).expect("a bin");
            for (name, signal) in
                ["in", "out"].map(|name| [(name, "text-received"), (name, "data-channel-closed")]).concat()
            {
                let tell = tell.clone();
                session.by_name(name).expect(name).connect(signal, false, move |values| {
                    let last = values.last().and_then(|value| value.get::<String>().ok()).expect("a text or a label");
                    // That is the channel that the pad has made.
                    if last != "data_0" {
                        let _ = tell.send((signal, name, last));
                    }
                    None
                });
            }
            Some(session.upcast::<gst::Element>().to_value())
        });
    });
    let two = || {
        let mut two = [0; 2].map(|_| told.recv_timeout(SOON).expect("a signal"));
        two.sort();
        two
    };
    let peer = Bin::start(&server.whip("both"), None);
    peer.channel.send_string_full(Some("hello")).expect("sent");
    assert_eq!(two(), ["in", "out"].map(|name| ("text-received", name, "hello".to_owned())));
    peer.channel.close();
    assert_eq!(two(), ["in", "out"].map(|name| ("data-channel-closed", name, "chat".to_owned())));
}
