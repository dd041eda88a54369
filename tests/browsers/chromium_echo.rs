//! The echo view of a bridge server's page: what it sends shows on the left, and comes back on the right.

use std::time::Duration;

use crate::common::{SOON, browser::Browser, painted, server::BridgeServer, wait_until};

const PATIENCE: Duration = Duration::from_secs(40);
const PITCH: f64 = 440.0;

/// Opens the view with a picture that tells its age, and waits until both directions are there.
fn echo(browser: &Browser, server: &BridgeServer, query: &str) {
    browser.open(&format!("{}/?echo=true{query}", server.url()));
    browser.wait_state("idle", SOON);
    painted::send(browser, PITCH);
    browser.eval(
        "const Real = RTCPeerConnection; \
         window.RTCPeerConnection = function (...given) { return (window.connection = new Real(...given)); };",
    );
    browser.click("#start");
    browser.wait_state("live", PATIENCE);
    browser.wait_for("return document.querySelector('#echo').videoWidth === 640", SOON);
}

fn wait_data(browser: &Browser, returned: u32) {
    browser.wait_for("return document.body.dataset.data === 'open'", SOON);
    browser.wait_for(&format!("return Number(document.querySelector('#returned').textContent) >= {returned}"), SOON);
    assert_eq!(browser.eval("return document.querySelector('#lost').textContent"), "0");
}

fn assert_tone(browser: &Browser) {
    let pitch = painted::pitch(browser, "#echo");
    assert!((pitch - PITCH).abs() < 15.0, "{pitch} Hz came back of {PITCH}");
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is of interest")]
fn picture_sound_and_data_come_back_in_chromium() {
    let server = BridgeServer::start(&[("session", "webrtcingest : webrtcegress")]);
    let browser = Browser::start();
    echo(&browser, &server, "");
    println!("echo in Chromium: {} ms", painted::wait_fresh(&browser, "#echo").median());
    assert_tone(&browser);
    wait_data(&browser, 12);
    let round_trip = browser.eval("return parseFloat(document.querySelector('#round-trip').textContent)");
    println!("data in Chromium: {round_trip} ms");
    assert!(round_trip.as_f64().is_some_and(|ms| ms > 0.0), "{round_trip}");

    browser.fill("#data-text", "hello <b>there</b>");
    browser.click("#data-send");
    let both = "return document.querySelector('#data-log').innerText.split('hello <b>there</b>').length === 3";
    browser.wait_for(both, SOON);

    // What a page hears when there is another network: it connects to the server anew.
    browser
        .eval("window.before = document.querySelector('#echo').srcObject; window.dispatchEvent(new Event('online'))");
    browser.wait_for("return ![null, window.before].includes(document.querySelector('#echo').srcObject)", SOON);
    browser.wait_state("live", PATIENCE);
    painted::shown(&browser, "#echo", 10).assert_true();
    wait_data(&browser, 2);
    browser.screenshot("echo");

    browser.click("#stop");
    browser.wait_state("ended", SOON);
    wait_until("the session to end", SOON, || (server.sessions() == 0).then_some(()));
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is of interest")]
fn picture_sound_and_data_come_back_in_firefox() {
    let server = BridgeServer::start(&[("session", "webrtcingest : webrtcegress")]);
    let browser = Browser::start_firefox();
    echo(&browser, &server, "&codec=vp8");
    let shown = painted::shown(&browser, "#echo", 40);
    println!("echo in Firefox: {} ms", shown.median());
    shown.assert_true();
    let energy = browser.eval_async(
        "for (let count = 0; count < 50; count += 1) { \
           const report = [...(await window.connection.getStats()).values()]; \
           const sound = report.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'audio'); \
           if (sound?.totalAudioEnergy > 0) return sound.totalAudioEnergy; \
           await new Promise((resolve) => setTimeout(resolve, 200)); } return 0;",
    );
    assert!(energy.as_f64().is_some_and(|energy| energy > 0.0), "it is silent: {energy}");
    wait_data(&browser, 4);
}

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
