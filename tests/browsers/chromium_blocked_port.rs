//! Peer to peer while nothing gets through to or from the server's UDP port: the browsers need it for nothing.
//!
//! Runs in a network of its own, where a firewall disturbs nobody.
#![allow(clippy::print_stdout)] // how long it takes is of interest

use std::time::{Duration, Instant};

use crate::common::{
    SOON,
    browser::Browser,
    http,
    nat::{again_alone, as_root, role},
    server::BridgeServer,
};

const NAME: &str = "chromium_blocked_port::media_flows_directly_while_nothing_gets_through_to_the_server";
const PORT: &str = "40000";
/// Viewers that come one after the other.
const VIEWERS: usize = 5;
/// Chromium gives a connection up after 15 s to 30 s.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// What the server tells of itself.
fn figure(server: &BridgeServer, name: &str) -> f64 {
    let mut response = http().get(format!("{}/metrics", server.url())).call().expect("an answer");
    let metrics = response.body_mut().read_to_string().expect("text");
    let mut lines = metrics.lines().filter(|line| line.starts_with(name));
    let line = lines.next().unwrap_or_else(|| panic!("no {name} in {metrics}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// One address that is not loopback, which Chromium wants, and a port that nothing gets to or comes from.
fn close_the_port() {
    for line in [
        "ip link set lo up",
        "ip link add own0 type veth peer name own1",
        "ip addr add 192.0.2.1/24 dev own0",
        "ip link set own0 up",
        "ip link set own1 up",
        "ip route add default dev own0",
        "nft add table inet own",
        "nft add chain inet own in { type filter hook input priority 0 ; }",
        &format!("nft add rule inet own in udp dport {PORT} drop"),
        &format!("nft add rule inet own in udp sport {PORT} drop"),
    ] {
        as_root(line);
    }
}

#[test]
fn media_flows_directly_while_nothing_gets_through_to_the_server() {
    if role().is_none() {
        assert!(again_alone(NAME, "alone").status().expect("this test").success(), "it failed inside");
        return;
    }
    close_the_port();
    let server = BridgeServer::start(&[("p2p-viewers", "3"), ("ice-udp-port", PORT)]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    browser.open(&format!("{}/?broadcaster=true&codec=vp8", server.url()));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_for("return document.querySelector('#link').value !== ''", SOON);
    let link = browser.eval("return document.querySelector('#link').value").as_str().expect("a link").to_owned();
    let mut waits = Vec::new();
    for number in 1..=VIEWERS {
        let before = Instant::now();
        browser.open_window(&link);
        browser.wait_for("return document.querySelector('#player').videoWidth > 0", SOON);
        waits.push(before.elapsed());
        assert_eq!(browser.eval("return document.body.dataset.way"), "p2p");
        if number < VIEWERS {
            browser.close_window();
            browser.switch_to(&broadcaster);
            browser.wait_for("return document.body.dataset.peers === '0'", SOON);
        }
    }
    waits.sort_unstable();
    println!("peer to peer, from opening the page to its picture: {waits:?}");
    let viewer = browser.window();
    // Its own session never connects, and it says so; who watches is none the worse.
    browser.switch_to(&broadcaster);
    browser.wait_for("return document.body.dataset.error === 'retrying'", GIVEN_UP);
    assert_eq!(browser.state(), "live");
    browser.switch_to(&viewer);
    browser.eval("window.seen = document.querySelector('#player').currentTime");
    browser.wait_for("return document.querySelector('#player').currentTime > window.seen + 5", SOON);
    assert_eq!(browser.eval("return document.body.dataset.way"), "p2p");
    for name in ["webrtcbridge_udp_received_datagrams_total", "webrtcbridge_viewer_sent_packets_total"] {
        assert_eq!(figure(&server, name), 0.0, "{name}");
    }
}
