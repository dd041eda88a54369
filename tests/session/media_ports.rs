//! Where media is received: over both families, on the first free port of a range.

use std::net::{IpAddr, UdpSocket};

use crate::common::{
    SOON, half_open,
    ingest::Ingest,
    lossy::LossyPath,
    publisher::{Options, Publisher},
    wait_until,
};
use gst::prelude::*;
use gstwebrtcbridge::session::local_addresses;

#[test]
fn media_is_received_over_ipv6() {
    // libnice never sends to loopback: a machine that has no other IPv6 address has no path to try.
    if !local_addresses().iter().any(|address| address.is_ipv6() && !address.is_loopback()) {
        return;
    }
    let ingest = Ingest::start("");
    let path = LossyPath::percent(0).over_ipv6();
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));
    assert!(path.back_address().is_ipv6());
    publisher.assert_unharmed();
    publisher.delete();
    path.stop();
}

#[test]
fn an_ipv6_address_can_be_announced() {
    let ingest = Ingest::start("public-addresses=\"<(string)2001:db8::7,(string)203.0.113.7>\"");
    let answer = half_open::post(&ingest.url(), &[]);
    let port: u32 = ingest.stats().get("udp-port").expect("a port");
    for address in ["2001:db8::7", "203.0.113.7"] {
        assert!(answer.contains(&format!(" {address} {port} typ host")), "{answer}");
    }
}

#[test]
fn elements_with_one_range_share_its_first_free_port() {
    let (_taken, from) = taken_port();
    let to = from + 3;
    let range = format!("ice-udp-port-range={from}-{to}");
    let (first, second) = (Ingest::start(&range), Ingest::start(&range));
    let port = |ingest: &Ingest| ingest.stats().get::<u32>("udp-port").expect("a port");
    assert!((u32::from(from) + 1..=u32::from(to)).contains(&port(&first)), "{} of {range}", port(&first));
    assert_eq!(port(&first), port(&second));
    let (one, other) = (Publisher::start(&first.url()), Publisher::start(&second.url()));
    for ingest in [&first, &second] {
        wait_until("frames", SOON, || (ingest.frames() > 10).then_some(()));
    }
    one.delete();
    other.delete();
}

#[test]
fn a_range_without_a_free_port_is_an_error_that_names_it() {
    let (_taken, port) = taken_port();
    let message = refusal(&format!("ice-udp-port-range={port}-{port}"));
    assert!(message.contains(&format!("{port}-{port}")) && message.contains("ice-udp-port-range"), "{message}");
}

#[test]
fn a_port_and_a_range_exclude_each_other() {
    let message = refusal("ice-udp-port=50000 ice-udp-port-range=50000-50001");
    assert!(message.contains("both set"), "{message}");
}

fn taken_port() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).expect("a port");
    let port = socket.local_addr().expect("its address").port();
    (socket, port)
}

/// The error that the element ends with at once.
fn refusal(properties: &str) -> String {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let element = gst::parse::launch(&format!("webrtcingest uri=whip://127.0.0.1:0/whip/live {properties}"));
    let element = element.expect("the element");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err(), "{properties} was accepted");
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error");
    let _ = element.set_state(gst::State::Null);
    match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        other => panic!("{other:?}"),
    }
}
