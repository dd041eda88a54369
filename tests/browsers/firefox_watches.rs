//! Firefox and Chromium watch each other, directly and through the server, and chat.

use std::time::Duration;

use crate::common::{SOON, browser::Browser, server::BridgeServer};

#[test]
fn firefox_watches_what_chromium_broadcasts() {
    let server = BridgeServer::start(&[("p2p-viewers", "1")]);
    let (broadcaster, viewer) = (Browser::start(), Browser::start_firefox());
    broadcast(&server, &broadcaster);
    watch(&server, &viewer, "p2p");
    for (browser, name) in [(&viewer, "Fox"), (&broadcaster, "Chrome")] {
        browser.fill("#name", name);
        browser.click("#name-form button");
        browser.wait_for("return !document.querySelector('#text').disabled", SOON);
        browser.fill("#text", &format!("{name} speaks"));
        browser.click("#send");
    }
    for browser in [&viewer, &broadcaster] {
        let both = "return ['Fox speaks', 'Chrome speaks'].every((words) => document.querySelector('#messages').innerText.includes(words))";
        browser.wait_for(both, SOON);
    }
    viewer.open_window("about:blank");
    watch(&server, &viewer, "forward");
    broadcaster.click("#stop");
    viewer.wait_state("ended", SOON);
}

#[test]
fn chromium_watches_what_firefox_broadcasts() {
    let server = BridgeServer::start(&[("p2p-viewers", "1")]);
    let (broadcaster, viewer) = (Browser::start_firefox(), Browser::start());
    broadcast(&server, &broadcaster);
    let first = viewer.window();
    watch(&server, &viewer, "p2p");
    viewer.open_window("about:blank");
    watch(&server, &viewer, "forward");
    viewer.switch_to(&first);
    viewer.click("#leave");
    broadcaster.wait_for("return document.body.dataset.peers === '0'", SOON);
}

fn broadcast(server: &BridgeServer, browser: &Browser) {
    browser.open(&format!("{}/?broadcaster=true&channel=show&codec=vp8", server.url()));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("live", Duration::from_secs(40));
}

fn watch(server: &BridgeServer, browser: &Browser, way: &str) {
    browser.open(&format!("{}/?viewer=true&channel=show", server.url()));
    browser.wait_state("live", Duration::from_secs(40));
    browser.wait_for("return document.querySelector('#player').videoWidth > 0", SOON);
    browser.eval("window.seen = document.querySelector('#player').currentTime");
    browser.wait_for("return document.querySelector('#player').currentTime > window.seen + 1", SOON);
    assert_eq!(browser.eval("return document.body.dataset.way"), way);
    assert_eq!(browser.eval("return document.querySelector('#player').srcObject.getAudioTracks().length"), 1);
}
