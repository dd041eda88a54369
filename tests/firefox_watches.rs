//! Firefox watches what Chromium broadcasts, directly, and chats with it.

mod common;

use std::time::Duration;

use common::{SOON, browser::Browser, server::BridgeServer};

#[test]
fn firefox_watches_directly_what_chromium_broadcasts() {
    let server = BridgeServer::start(&[("p2p-viewers", "2")]);
    let broadcaster = Browser::start();
    broadcaster.open(&format!("{}/?broadcaster=true&channel=show&codec=vp8", server.url()));
    broadcaster.wait_state("idle", SOON);
    broadcaster.click("#start");
    broadcaster.wait_state("live", Duration::from_secs(40));
    let viewer = Browser::start_firefox();
    viewer.open(&format!("{}/?viewer=true&channel=show", server.url()));
    viewer.wait_state("live", Duration::from_secs(40));
    viewer.wait_for("return document.querySelector('#player').videoWidth > 0", SOON);
    viewer.eval("window.seen = document.querySelector('#player').currentTime");
    viewer.wait_for("return document.querySelector('#player').currentTime > window.seen + 1", SOON);
    assert_eq!(viewer.eval("return document.body.dataset.way"), "p2p");
    assert_eq!(viewer.eval("return document.querySelector('#player').srcObject.getAudioTracks().length"), 1);
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
    broadcaster.click("#stop");
    viewer.wait_state("ended", SOON);
}
