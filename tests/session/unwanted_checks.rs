//! What offers that nobody stands behind can make us send to others.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use crate::common::{SOON, half_open, ingest::Ingest, publisher::Publisher, wait_until};
use gstwebrtcbridge::session::local_addresses;

/// As many candidates as are checked, of addresses of this machine that nobody answers at.
fn silent_candidates() -> (Vec<UdpSocket>, Vec<String>) {
    let host = local_addresses().into_iter().find(std::net::IpAddr::is_ipv4).expect("an address");
    let sockets: Vec<UdpSocket> = (0..20).map(|_| UdpSocket::bind((host, 0)).expect("a port")).collect();
    let candidates = sockets
        .iter()
        .map(|socket| {
            format!("1 1 udp 2130706431 {host} {} typ host", socket.local_addr().expect("its address").port())
        })
        .collect();
    (sockets, candidates)
}

#[test]
fn a_hundred_half_open_offers_aim_few_checks_at_others_and_keep_nobody_out() {
    let ingests: Vec<Ingest> = (0..100).map(|_| Ingest::start("connect-timeout=20000")).collect();
    let (sockets, candidates) = silent_candidates();
    let wanted = Ingest::start("");
    let start = Instant::now();
    for ingest in &ingests {
        half_open::post(&ingest.url(), &candidates);
    }
    let posted = start.elapsed();
    // A publisher that reaches us does not wait for what the others use up.
    let publisher = Publisher::start(&wanted.url());
    wait_until("frames", SOON, || (wanted.frames() > 10).then_some(()));
    publisher.delete();
    wait_until("the end of what the stack tries", SOON, || (start.elapsed() > Duration::from_secs(4)).then_some(()));
    let got: usize = sockets.iter().map(received).sum();
    let held: u64 = ingests[0].stats().get("udp-checks-held").expect("a figure");
    eprintln!("{got} datagrams in {:?} ({posted:?} to post), {held} held back", start.elapsed());
    assert!(got > 0, "candidates are checked");
    // 500 at once and 500 a second is what a port allows.
    assert!(got <= 3000, "{got} datagrams");
    assert!(held > 0);
}

fn received(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).expect("a socket");
    std::iter::from_fn(|| socket.recv(&mut [0; 2048]).ok()).count()
}

#[test]
fn candidates_of_no_peer_get_nothing() {
    let ingest = Ingest::start("");
    let multicast: Vec<String> = ["224.0.0.251 5353", "255.255.255.255 5000", "0.0.0.0 5000", "169.254.169.254 5000"]
        .iter()
        .map(|address| format!("1 1 udp 2130706431 {address} typ host"))
        .collect();
    let sent = || ingest.stats().get::<u64>("udp-sent").expect("a figure");
    half_open::post(&ingest.url(), &multicast);
    let host = local_addresses().into_iter().find(std::net::IpAddr::is_ipv4).expect("an address");
    let reached = UdpSocket::bind((host, 0)).expect("a port");
    let port = reached.local_addr().expect("its address").port();
    assert_eq!(sent(), 0);
    // A session with a proper candidate shows that time enough has gone by.
    let other = Ingest::start("");
    half_open::post(&other.url(), &[format!("1 1 udp 2130706431 {host} {port} typ host")]);
    reached.set_read_timeout(Some(SOON)).expect("a socket");
    let mut checks = 0;
    while checks < 4 {
        reached.recv(&mut [0; 2048]).expect("a check");
        checks += 1;
    }
    let strays = sent() - checks;
    assert!(strays <= 3, "{strays} more than the {checks} that were wanted");
}
