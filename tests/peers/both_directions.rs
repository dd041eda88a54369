//! What an element in a session's pipeline has to send goes to the publisher, on the connection that the publisher has made.

#![allow(unreachable_pub, missing_docs)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::common::{
    SOON, http,
    server::BridgeServer,
    viewer::{Viewer, Wants},
    wait_until, whip,
};
use bytes::Bytes;
use gst::{glib, prelude::*, subclass::prelude::*};
use gstwebrtcbridge::{
    bridge::{Peer, Sending},
    codec::Codec,
    session::{Answered, DataSink, Outgoing, OutgoingPacket, Outlet, SendEvents, Sends, Track},
};

/// What stands for a `webrtcegress`: it can send whatever comes in, or else VP8 and Opus.
#[derive(Default)]
pub struct Fake {
    asked: Mutex<Vec<Vec<Codec>>>,
    taken: Mutex<Vec<(usize, Codec)>>,
    outlet: Mutex<Option<Outlet>>,
    ready: AtomicUsize,
}

struct Events(Arc<Fake>);

impl SendEvents for Events {
    fn ready(&self) {
        self.0.ready.fetch_add(1, SeqCst);
    }

    fn keyframe_wanted(&self, _: usize) {}
}

struct Half(Arc<Fake>);

impl Sending for Half {
    fn sends(&self, incoming: &[Track]) -> Sends {
        let codecs: Vec<Codec> = incoming.iter().map(|track| track.codec).collect();
        self.0.asked.lock().expect("lock").push(codecs);
        let mut tracks: Vec<Outgoing> = incoming.iter().map(|track| Outgoing::of(track.codec, &track.fmtp)).collect();
        if tracks.is_empty() {
            tracks = vec![Outgoing::of(Codec::Vp8, ""), Outgoing::of(Codec::Opus, "")];
        }
        Sends { tracks, events: Arc::new(Events(self.0.clone())), receives: false }
    }

    fn hears(&self) -> Option<Arc<dyn DataSink>> {
        None
    }

    fn answered(&self, answered: &Answered) {
        *self.0.taken.lock().expect("lock") = answered.outgoing.iter().map(|t| (t.index, t.codec)).collect();
        *self.0.outlet.lock().expect("lock") = answered.outlet.clone();
    }
}

pub mod imp {
    use super::*;

    #[derive(Default)]
    pub struct FakeSender {
        pub fake: Arc<Fake>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for FakeSender {
        const NAME: &'static str = "TestFakeSender";
        type Type = super::FakeSender;
        type ParentType = gst::Element;
    }

    impl ObjectImpl for FakeSender {}
    impl GstObjectImpl for FakeSender {}

    impl ElementImpl for FakeSender {
        fn change_state(&self, change: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            if change == gst::StateChange::ReadyToPaused {
                let peer = Peer::around(&*self.obj()).ok_or(gst::StateChangeError)?;
                if let Err(error) = peer.send(Arc::new(Half(self.fake.clone()))) {
                    gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", error));
                    return Err(gst::StateChangeError);
                }
            }
            self.parent_change_state(change)
        }
    }
}

glib::wrapper! {
    pub struct FakeSender(ObjectSubclass<imp::FakeSender>) @extends gst::Element, gst::Object;
}

/// A server whose sessions are made of these elements and so many fakes; all that was asked of the last one.
fn server(description: &'static str, senders: usize) -> (BridgeServer, Arc<Mutex<Arc<Fake>>>) {
    let last = Arc::new(Mutex::new(Arc::<Fake>::default()));
    let told = last.clone();
    let server = BridgeServer::start_with(&[], |bin| {
        bin.connect("create-session", false, move |_| {
            let pipeline = gst::Pipeline::new();
            if !description.is_empty() {
                pipeline.add(&gst::parse::launch(description).expect("a description")).expect("added");
            }
            for _ in 0..senders {
                let sender: FakeSender = glib::Object::new();
                *told.lock().expect("lock") = sender.imp().fake.clone();
                pipeline.add(&sender).expect("added");
            }
            Some(pipeline.upcast::<gst::Element>().to_value())
        });
    });
    (server, last)
}

fn outlet(last: &Arc<Mutex<Arc<Fake>>>) -> (Arc<Fake>, Option<Outlet>) {
    let fake = last.lock().expect("lock").clone();
    let outlet = fake.outlet.lock().expect("lock").clone();
    (fake, outlet)
}

/// Posts an offer as the tests of webrtc-echoes do; the answer, or the status and what was wrong.
fn exchange(server: &BridgeServer, offer: &str) -> Result<String, (u16, String)> {
    let body = serde_json::json!({"type": "offer", "sdp": offer}).to_string();
    let url = format!("{}/offer", server.url());
    let mut response = http().post(&url).header("Content-Type", "application/json").send(body).expect("POST");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().expect("a body");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    match (status, body["type"].as_str(), body["sdp"].as_str()) {
        (200, Some("answer"), Some(sdp)) => Ok(sdp.to_owned()),
        _ => Err((status, body["detail"].to_string())),
    }
}

#[test]
fn an_offer_of_both_directions_is_answered_with_both_in_the_codec_that_comes_in() {
    let (server, last) = server("webrtcingest", 1);
    let viewer = Viewer::new(Wants::default());
    let offer = viewer.offer().replace("a=recvonly", "a=sendrecv");
    let answer = exchange(&server, &offer).expect("an answer");
    assert_eq!(answer.matches("a=sendrecv\r\n").count(), 2, "{answer}");
    let (fake, outlet) = outlet(&last);
    assert!(outlet.is_some());
    assert_eq!(*fake.asked.lock().unwrap(), [[Codec::Opus, Codec::H264]]);
    assert_eq!(*fake.taken.lock().unwrap(), [(0, Codec::Opus), (1, Codec::H264)]);
}

#[test]
fn whip_goes_one_way_whatever_there_is_to_send() {
    let (server, last) = server("webrtcingest", 1);
    let viewer = Viewer::new(Wants::default());
    let offer = viewer.offer().replace("a=recvonly", "a=sendrecv");
    let (session, answer) = whip::post(&server.whip("red"), None, &offer).expect("an answer");
    assert_eq!(answer.matches("a=recvonly\r\n").count(), 2, "RFC 9725 section 4.2: {answer}");
    assert!(outlet(&last).1.is_none());
    session.delete();
}

#[test]
fn what_only_sends_answers_whoever_only_receives() {
    let (server, last) = server("", 1);
    let viewer = Viewer::new(Wants::default());
    let answer = exchange(&server, viewer.offer()).expect("an answer");
    assert_eq!(answer.matches("a=sendonly\r\n").count(), 2, "{answer}");
    viewer.answered(&answer);
    viewer.wait_connected();
    let (fake, outlet) = outlet(&last);
    wait_until("the sending half", SOON, || (fake.ready.load(SeqCst) == 1).then_some(()));
    let payload = Bytes::from_static(&[0xFC, 1, 2]);
    let sound = OutgoingPacket {
        dependencies: None,
        number: 0,
        timestamp: 77,
        marker: false,
        starts_keyframe: true,
        payload: payload.clone(),
        stored: 0,
        renumbered: None,
    };
    outlet.expect("an outlet").send(1, [sound]);
    wait_until("the sound", SOON, || (viewer.count(111) == 1).then_some(()));
    assert_eq!(viewer.stream(111).packets.into_values().next().unwrap().payload, payload);
}

#[test]
fn two_senders_in_one_session_are_refused_by_name() {
    let (server, _) = server("webrtcingest", 2);
    let viewer = Viewer::new(Wants::default());
    let refused = whip::post(&server.whip("red"), None, &viewer.offer().replace("a=recvonly", "a=sendonly"));
    assert_eq!(refused.err().map(|refused| refused.status), Some(500));
    let told = server.wait_state("red", "failed");
    assert!(told.contains("another webrtcegress of this session"), "{}", told);
}

#[test]
fn an_offer_that_only_receives_is_refused_where_nothing_is_sent() {
    let server = BridgeServer::start(&[("session", "webrtcingest ! fakesink")]);
    let viewer = Viewer::new(Wants::default());
    let (status, why) = exchange(&server, viewer.offer()).expect_err("no answer");
    assert_eq!(status, 422, "{why}");
    assert!(why.contains("sends neither audio nor video"), "{why}");
}

#[test]
fn an_echo_answers_an_offer_of_both_directions_with_both() {
    let server = BridgeServer::start(&[("session", "webrtcingest : webrtcegress")]);
    let viewer = Viewer::new(Wants::default());
    let answer = exchange(&server, &viewer.offer().replace("a=recvonly", "a=sendrecv")).expect("an answer");
    assert_eq!(answer.matches("a=sendrecv\r\n").count(), 2, "{answer}");
    assert!(answer.contains(" H264/90000") && !answer.contains(" VP8/90000"), "one codec, both ways: {answer}");
}

/// The channel's name is in the session's messages, for who runs the server.
#[test]
fn what_came_in_one_request_is_told_to_nobody_and_watched_by_nobody() {
    let server = BridgeServer::start(&[("session", "webrtcingest : webrtcegress")]);
    let viewer = Viewer::new(Wants::default());
    exchange(&server, &viewer.offer().replace("a=recvonly", "a=sendrecv")).expect("an answer");
    let sessions = server.stats().get::<gst::Array>("sessions").expect("sessions");
    let channel: String = sessions[0].get::<gst::Structure>().unwrap().get("channel").expect("a channel");
    let list = http().get(format!("{}/api/v1/channels", server.url())).call().expect("the list");
    assert_eq!(list.into_body().read_to_string().expect("text"), r#"{"channels":[]}"#);
    let refused = whip::post(&format!("{}/whep/{channel}", server.url()), None, Viewer::new(Wants::default()).offer());
    assert_eq!(refused.err().map(|refused| refused.status), Some(404));
}

#[test]
fn an_effect_between_is_sent_back_in_the_codec_that_came_in() {
    let session = "webrtcingest name=in webrtcegress name=out in.video_0 ! decodebin ! videoflip method=vertical-flip ! out.video_0";
    let server = BridgeServer::start(&[("session", session)]);
    let viewer = Viewer::new(Wants::default());
    let answer = exchange(&server, &viewer.offer().replace("a=recvonly", "a=sendrecv")).expect("an answer");
    let video = answer.split("m=video").nth(1).expect("video");
    assert!(video.contains("a=sendrecv\r\n") && video.contains(" H264/90000"), "{answer}");
}
