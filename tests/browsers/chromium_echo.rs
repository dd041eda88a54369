//! The echo view of a bridge server's page: what it sends shows on the left, and comes back on the right.

use std::time::Duration;

use crate::common::{SOON, browser::Browser, server::BridgeServer};

const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn who_gets_no_echo_is_told_why() {
    let server = BridgeServer::start(&[]);
    let browser = Browser::start();
    browser.open(&format!("{}/?echo=true", server.url()));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("failed", PATIENCE);
    assert_eq!(browser.eval("return document.body.dataset.error"), "no-echo");
    assert_eq!(browser.eval("return document.querySelector('#preview').srcObject"), serde_json::Value::Null);
    assert_eq!(browser.eval("return document.querySelector('#error').innerText.includes('webrtcegress')"), true);
}
