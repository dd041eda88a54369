//! How many there may be at a bridge server, and that whoever is in is untouched by those who are not.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::common::{
    SOON, half_open, http,
    publisher::{Options, Publisher},
    server::BridgeServer,
    wait_until,
};
use gst::prelude::*;

const QUIET: &str = "webrtcingest name=in ! fakesink sync=false async=false";

fn audio_only() -> Options {
    Options { video: None, ..Options::default() }
}

fn frames(server: &BridgeServer) -> u64 {
    server.element("good", "in").and_then(|stats| stats.get::<u64>("frames").ok()).unwrap_or(0)
}

#[test]
fn one_more_than_there_may_be_is_told_to_come_back() {
    let server = BridgeServer::start(&[("session", QUIET), ("max-sessions", "2")]);
    let first = Publisher::start_with(&server.whip("one"), audio_only());
    let second = Publisher::start_with(&server.whip("two"), audio_only());
    let request = http().post(server.whip("three")).content_type("application/sdp");
    let response = request.send(half_open::offer(&[])).expect("an answer");
    assert_eq!(response.status().as_u16(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(server.stats().get::<u64>("offers-refused"), Ok(1));
    first.delete();
    let third = wait_until("room", SOON, || Publisher::offer(&server.whip("three"), audio_only()).ok());
    third.wait_connected(SOON);
    drop((second, third));
}

#[test]
fn two_hundred_who_never_connect_are_bounded_and_gone_in_time_and_a_good_one_is_untouched() {
    let server = BridgeServer::start(&[("session", QUIET), ("connect-timeout", "2000")]);
    let good = Publisher::start_with(&server.whip("good"), audio_only());
    wait_until("frames", SOON, || (frames(&server) > 10).then_some(()));
    let (mut answered, mut most) = (0, 0);
    for number in 0..200 {
        let request = http().post(server.whip(&format!("h{number}"))).content_type("application/sdp");
        let response = request.send(half_open::offer(&[])).expect("an answer");
        match response.status().as_u16() {
            201 => answered += 1,
            503 | 429 => assert!(response.headers().contains_key("retry-after")),
            other => panic!("{other}"),
        }
        most = most.max(server.stats().get::<u32>("half-open").expect("a count"));
    }
    assert!(answered >= 32 && most <= 32, "{answered} answered, at most {most} at a time");
    let before = frames(&server);
    wait_until("a second more of the good one", SOON, || (frames(&server) > before + 50).then_some(()));
    let stats = server.element("good", "in").expect("statistics");
    assert_eq!(stats.get::<u64>("dropped-packets"), Ok(0), "{stats}");
    wait_until("those who never connected to be gone", SOON, || (server.sessions() == 1).then_some(()));
    assert_eq!(server.stats().get::<u32>("half-open"), Ok(0));
    let told = server.told("h0");
    assert!(told.iter().any(|told| told.state == "failed" && told.reason == "the peer never connected"), "{told:?}");
    good.assert_unharmed();
    let late = wait_until("a newcomer to get in", SOON, || Publisher::offer(&server.whip("late"), audio_only()).ok());
    late.wait_connected(SOON);
    drop((good, late));
}

#[test]
fn an_application_that_does_not_say_who_may_holds_up_nobody_who_is_known() {
    let (asked, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let (counts, waits) = (asked.clone(), answers.clone());
    let server = BridgeServer::start_with(&[("session", QUIET), ("publish-token", "s3cret")], move |bin| {
        bin.connect("authorize", false, move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
            let (may_go, changed) = &*waits;
            drop(changed.wait_while(may_go.lock().expect("unharmed"), |may_go| !*may_go));
            Some(false.to_value())
        });
    });
    // More than there are threads for everything that may wait.
    let address = server.url().replace("http://", "");
    let strangers: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stranger = TcpStream::connect(&address).expect("a connection");
            write!(stranger, "GET /whip/good HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("a request");
            stranger
        })
        .collect();
    wait_until("the application to be asked", SOON, || (asked.load(Ordering::SeqCst) >= 16).then_some(()));
    let options = Options { token: Some("s3cret".into()), ..audio_only() };
    let good = Publisher::start_with(&server.whip("good"), options);
    wait_until("frames", SOON, || (frames(&server) > 10).then_some(()));
    assert_eq!(asked.load(Ordering::SeqCst), 16, "so many at a time");
    let (may_go, changed) = &*answers;
    *may_go.lock().expect("unharmed") = true;
    changed.notify_all();
    drop((good, strangers));
}
