//! A bridge server from its start to its end: its properties, mistakes in its description, draining, EOS.

use std::{
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    SOON, free_port, http,
    launch::Launch,
    nginx::Nginx,
    publisher::{Options, Publisher},
    server::BridgeServer,
    wait_until,
};
use gst::prelude::*;

fn audio_only() -> Options {
    Options { video: None, ..Options::default() }
}

/// What the bin says when it is to start with this description.
fn mistake(session: &str) -> String {
    let server = BridgeServer::ready(&[("session", session)]);
    assert!(server.pipeline.set_state(gst::State::Playing).is_err(), "{session} is taken");
    let others = server.others();
    let error = others.iter().find_map(|other| other.strip_prefix("error: session: "));
    error.unwrap_or_else(|| panic!("{others:?}")).to_owned()
}

#[test]
fn it_is_a_bin_of_the_network_and_source_and_sink_in_one() {
    let server = BridgeServer::ready(&[]);
    let bin = gst::ElementFactory::make("webrtcbridgebin").build().expect("the element");
    let factory = bin.factory().expect("a factory");
    assert_eq!(factory.metadata("klass"), Some("Generic/Bin/Network"));
    assert_eq!(factory.rank(), gst::Rank::NONE);
    let both = gst::ElementFlags::SOURCE | gst::ElementFlags::SINK;
    assert!(bin.element_flags().contains(both));
    assert_eq!(server.pipeline.set_state(gst::State::Paused), Ok(gst::StateChangeSuccess::NoPreroll));
    assert!(bin.element_flags().contains(both), "still");
}

#[test]
fn what_is_secret_is_shown_redacted() {
    let secrets = ["publish-token", "view-token", "admin-token", "jwt-secret"].map(|name| (name, "s3cret"));
    let server = BridgeServer::ready(&secrets);
    server.bin.set_property("auth-url", "http://127.0.0.1/ask?key=s3cret");
    server.bin.set_property("session", "webrtcingest : rtmpbridgesink location=rtmp://h/live/s3cret");
    server.bin.set_property("turn-servers", gst::Array::new(["turn://me:s3cret@127.0.0.1:3478"]));
    server.bin.set_property("jwks-uri", "https://127.0.0.1/keys?key=s3cret");
    assert_eq!(server.bin.property::<String>("jwks-uri"), "https://127.0.0.1/keys?…");
    for property in server.bin.list_properties().iter() {
        let value = server.bin.property_value(property.name());
        let text = value.serialize().map(|text| text.to_string()).unwrap_or_default();
        assert!(!text.contains("s3cret"), "{}: {text}", property.name());
    }
    assert_eq!(server.bin.property::<String>("session"), "webrtcingest : rtmpbridgesink location=…");
    for property in ["jwks-uri", "auth-url"] {
        server.bin.set_property(property, "https://me:s3cret@127.0.0.1/keys");
        let shown = server.bin.property::<String>(property);
        assert!(!shown.contains("s3cret"), "{property}: {shown}");
    }
    server.bin.set_property("session", "webrtcingest ! flvmux ! rtmp://me:s3cret@h/live/s3cret?s3cret");
    assert_eq!(server.bin.property::<String>("session"), "webrtcingest ! flvmux ! rtmp://…");
}

#[test]
fn a_mistake_in_the_description_is_told_at_the_start_with_a_mark_and_without_keys() {
    let sink = "location=rtmp://h/live/s3cret";
    for (session, says, marked) in [
        (format!("webrtcingst : rtmpbridgesink {sink}"), "no element \"webrtcingst\"", "webrtcingst"),
        (format!("webrtcingest : rtmpbridgesink locaton=x {sink}"), "no property \"locaton\"", "locaton"),
        (format!("webrtcingest : rtmpbridgesink {sink} sync=maybe"), "property \"sync\"", "sync"),
        (format!("webrtcingest : rtmpbridgesink {sink}/{{chanel}}"), "{chanel}", "…"),
        ("webrtcingest : rtmpbridgesink location=htp://h/{channel}/s3cret".into(), "rtmp://", "location"),
        ("webrtcingest : rtmpbridgesink location='rtmp://h/live/s3cret me'".into(), "destination 2 of 2", "location"),
        ("webrtcingest : rtmpbridgesink sync=false".into(), "location", "rtmpbridgesink"),
        (format!("audiotestsrc ! videoconvert ! rtmpbridgesink {sink}"), "could not link", "audiotestsrc"),
    ] {
        let mistake = mistake(&session);
        assert!(mistake.contains(says) && !mistake.contains("s3cret"), "{mistake}");
        let lines: Vec<&str> = mistake.lines().collect();
        let column = lines[2].chars().position(|c| c == '^').expect("a mark");
        let at: String = lines[1].chars().skip(column).collect();
        assert!(at.starts_with(marked), "{mistake}");
    }
    let unknown = mistake("webrtcingest ! h264parse ! strange://me:s3cret@h/live/s3cret");
    assert!(unknown.contains("strange://") && !unknown.contains("s3cret"), "{unknown}");
    assert!(mistake(&format!("webrtcingest ! ! {sink}")).starts_with("this is no pipeline description"));
    assert!(mistake("webrtcingest ! fakesink webrtcingest ! fakesink").contains("both want the publisher's media"));
}

#[test]
fn what_is_the_bins_business_is_ignored_in_a_session_with_a_warning() {
    let server = BridgeServer::start(&[("session", "webrtcingest latency=100 video-codecs=<VP8> ! fakesink")]);
    let warnings: Vec<String> = server.others().into_iter().filter(|other| other.starts_with("warning")).collect();
    assert!(matches!(warnings.as_slice(), [one] if one.contains("video-codecs")), "{warnings:?}");
    let publisher = Publisher::offer(&server.whip("red"), Options { audio: false, ..Options::default() });
    publisher.expect("H.264 is answered").vanish();
}

#[test]
fn an_ingest_without_uri_and_without_a_session_says_so() {
    crate::common::server::register();
    let pipeline = gst::parse::launch("webrtcingest ! fakesink").expect("a pipeline");
    assert!(pipeline.set_state(gst::State::Playing).is_err());
    let message = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error])).expect("an error");
    let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
    assert!(error.error().message().contains("uri is not set"), "{error:?}");
    pipeline.set_state(gst::State::Null).expect("null");
}

#[test]
fn draining_lets_nobody_in_and_brings_everybody_to_his_end() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session)]);
    let publisher = Publisher::start(&server.whip("red"));
    nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(1, 1));
    assert!(!nginx.saw_goodbye());
    server.bin.emit_by_name::<()>("drain", &[&5000u32]);
    let mut refused = http().post(server.whip("blue")).content_type("application/sdp").send(OFFER).expect("an answer");
    let body = refused.body_mut().read_to_string().expect("a body");
    assert_eq!(refused.status().as_u16(), 503, "{body}");
    assert!(refused.headers().contains_key("retry-after") && body.contains("going down"), "{body}");
    assert_eq!(http().get(format!("{}/readyz", server.url())).call().expect("an answer").status().as_u16(), 503);
    assert_eq!(server.wait_state("red", "ended"), "shut down");
    nginx.wait_for_log("FCUnpublish", SOON);
    let drained = || server.others().into_iter().find(|other| other.starts_with("webrtcbridge-drained"));
    assert!(wait_until("the end of draining", SOON, drained).contains("sessions=(uint)0"));
    assert!(!server.saw_eos(), "draining is not the end");
    drop(publisher);
}

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";

#[test]
fn a_session_that_does_not_come_to_its_end_is_cut_off_in_time() {
    // An audio mixer that waits for a pad which never ends does not let EOS through.
    let session = "webrtcingest ! fakesink async=false audiotestsrc is-live=true ! identity ! appsink name=never";
    let server = BridgeServer::start_with(&[], |bin| {
        bin.connect("create-session", false, move |_| {
            let pipeline = gst::parse::launch(session).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
            let stubborn = pipeline.by_name("never").and_then(|sink| sink.static_pad("sink")).expect("a pad");
            stubborn.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| match info.event() {
                Some(event) if event.type_() == gst::EventType::Eos => gst::PadProbeReturn::Drop,
                _ => gst::PadProbeReturn::Ok,
            });
            Some(pipeline.to_value())
        });
    });
    let publisher = Publisher::start_with(&server.whip("red"), audio_only());
    server.wait_state("red", "live");
    let start = Instant::now();
    server.bin.emit_by_name::<()>("drain", &[&1000u32]);
    server.wait_state("red", "ended");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(950) && took < Duration::from_secs(3), "{took:?}");
    drop(publisher);
}

#[test]
fn eos_ends_the_sessions_and_then_the_bin_within_3_seconds() {
    let nginx = Nginx::start();
    let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
    let server = BridgeServer::start(&[("session", &session)]);
    let publisher = Publisher::start(&server.whip("red"));
    nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(1, 1));
    let start = Instant::now();
    assert!(server.pipeline.send_event(gst::event::Eos::new()));
    wait_until("EOS", SOON, || server.saw_eos().then_some(()));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(server.states("red"), ["starting", "live", "ending", "ended"]);
    nginx.wait_for_log("FCUnpublish", SOON);
    drop(publisher);
}

#[test]
fn interrupted_it_ends_cleanly_with_and_without_publishers() {
    let nginx = Nginx::start();
    for publishers in [0, 1] {
        let port = free_port();
        let session = format!("webrtcingest : rtmpbridgesink location={}", nginx.url("{channel}"));
        let listen = format!("listen=127.0.0.1:{port}");
        let mut launch = Launch::start_words(&["webrtcbridgebin", &listen, &format!("session={session}")]);
        launch.wait_listening(port);
        let whip = |number: usize| format!("http://127.0.0.1:{port}/whip/c{number}");
        let publishers: Vec<Publisher> = (0..publishers).map(|number| Publisher::start(&whip(number))).collect();
        for number in 0..publishers.len() {
            nginx.wait_recorded(&format!("c{number}"), SOON, |flv| flv.has_seconds(1, 1));
        }
        launch.end_cleanly();
        drop(publishers);
    }
}

#[test]
fn it_can_be_started_again_on_the_same_ports() {
    let (port, udp) = (free_port().to_string(), crate::common::free_udp_port().to_string());
    let listen = format!("127.0.0.1:{port}");
    let server = BridgeServer::start(&[("listen", &listen), ("ice-udp-port", &udp)]);
    for _ in 0..3 {
        let publisher = Publisher::start_with(&server.whip("red"), audio_only());
        server.pipeline.set_state(gst::State::Ready).expect("ready");
        assert_eq!(server.sessions(), 0);
        let playing = server.pipeline.set_state(gst::State::Playing);
        assert!(playing.is_ok(), "on the same ports: {:?}", server.others());
        drop(publisher);
    }
}

#[test]
fn paused_it_takes_no_offers_and_played_on_it_goes_on() {
    let quiet = "webrtcingest name=in ! fakesink sync=false async=false";
    let server = BridgeServer::start(&[("session", quiet)]);
    let publisher = Publisher::start_with(&server.whip("red"), audio_only());
    let frames = || server.element("red", "in").and_then(|stats| stats.get::<u64>("frames").ok()).unwrap_or(0);
    wait_until("frames", SOON, || (frames() > 10).then_some(()));
    assert_eq!(server.pipeline.set_state(gst::State::Paused), Ok(gst::StateChangeSuccess::NoPreroll));
    let refused = Publisher::offer(&server.whip("blue"), audio_only()).err().expect("refused");
    assert_eq!(refused.status, 503, "{}", refused.body);
    let ready = || http().get(format!("{}/readyz", server.url())).call().expect("an answer").status().as_u16();
    assert_eq!(ready(), 503, "nobody is to be sent here");
    server.pipeline.set_state(gst::State::Playing).expect("playing");
    assert_eq!(ready(), 200);
    let before = frames();
    wait_until("more frames", SOON, || (frames() > before + 50).then_some(()));
    publisher.assert_unharmed();
    drop(publisher);
}

#[test]
fn a_pause_that_comes_while_a_session_begins_holds_for_it_too() {
    let (made, is_made) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let server = BridgeServer::start_with(&[], |bin| {
        bin.connect("create-session", false, move |_| {
            let session = gst::parse::launch("webrtcingest ! fakesink sync=false async=false").expect("a pipeline");
            made.send(session.clone()).expect("the test listens");
            may_go_on.lock().expect("unharmed").recv().expect("the test says so");
            Some(session.to_value())
        });
    });
    let whip = server.whip("red");
    let publishing = thread::spawn(move || Publisher::start_with(&whip, audio_only()));
    let session = is_made.recv_timeout(SOON).expect("a session");
    server.pipeline.set_state(gst::State::Paused).expect("paused");
    go_on.send(()).expect("the session waits");
    let publisher = publishing.join().expect("a publisher");
    wait_until("the session to pause", SOON, || (session.current_state() == gst::State::Paused).then_some(()));
    server.pipeline.set_state(gst::State::Playing).expect("playing");
    wait_until("the session to play", SOON, || (session.current_state() == gst::State::Playing).then_some(()));
    drop(publisher);
}
