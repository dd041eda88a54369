//! A bridge server's page in Chromium: one broadcasts, others watch directly from him, and all chat.

use std::time::{Duration, Instant};

use crate::common::{SOON, browser::Browser, http, painted, server::BridgeServer};
use serde_json::{Value, json};

/// What a machine with two cores may take for several encoders and decoders.
const PATIENCE: Duration = Duration::from_secs(40);

/// Starts a broadcast in the window that is spoken to; the link for viewers.
fn broadcast(browser: &Browser, server: &BridgeServer, title: &str) -> String {
    broadcast_in(browser, server, title, (320, 240))
}

fn broadcast_in(browser: &Browser, server: &BridgeServer, title: &str, (width, height): (u32, u32)) -> String {
    browser.open(&format!("{}/?broadcaster=true&codec=vp8", server.url()));
    browser.wait_state("idle", SOON);
    // Each viewer costs an encoder and a decoder.
    browser.eval(&format!(
        "const devices = navigator.mediaDevices; const open = devices.getUserMedia.bind(devices); \
         devices.getUserMedia = ({{ audio }}) => open({{ audio, video: {{ width: {width}, height: {height}, frameRate: 15 }} }});"
    ));
    browser.fill("#title", title);
    browser.click("#start");
    browser.wait_state("live", PATIENCE);
    text(browser, "document.querySelector('#link').value")
}

fn text(browser: &Browser, expression: &str) -> String {
    browser.eval(&format!("return {expression}")).as_str().unwrap_or_default().to_owned()
}

fn wait_watching(browser: &Browser) {
    browser.wait_state("live", PATIENCE);
    // A name that the next look can be compared with.
    browser.wait_for("return document.querySelector('#player').videoWidth > 0", SOON);
    browser.eval("window.seen = document.querySelector('#player').currentTime");
    browser.wait_for("return document.querySelector('#player').currentTime > window.seen + 1", SOON);
}

/// The fake microphone beeps once a second.
fn wait_sound(browser: &Browser) {
    browser.eval(
        "const context = new AudioContext(); window.analyser = context.createAnalyser(); \
         context.createMediaStreamSource(document.querySelector('#player').srcObject).connect(window.analyser); \
         window.samples = new Float32Array(window.analyser.fftSize);",
    );
    let is_heard = "window.analyser.getFloatTimeDomainData(window.samples); return window.samples.some((sample) => Math.abs(sample) > 0.01)";
    browser.wait_for(is_heard, SOON);
}

fn say(browser: &Browser, words: &str) {
    browser.fill("#text", words);
    browser.click("#send");
    browser.wait_for("return document.querySelector('#text').value === ''", SOON);
}

fn call_oneself(browser: &Browser, name: &str) {
    browser.fill("#name", name);
    browser.click("#name-form button");
    browser.wait_for("return !document.querySelector('#text').disabled", SOON);
}

fn wait_heard(browser: &Browser, what: &str) {
    browser.wait_for(&format!("return document.querySelector('#messages').innerText.includes({})", json!(what)), SOON);
}

fn wait_viewers(browser: &Browser, count: u32) {
    browser.wait_for(&format!("return document.querySelector('#viewer-count').textContent === '{count}'"), SOON);
}

fn wait_peers(browser: &Browser, count: u32) {
    browser.wait_for(&format!("return document.body.dataset.peers === '{count}'"), SOON);
}

/// What the server has sent by UDP, in datagrams.
fn sent_by_server(server: &BridgeServer) -> f64 {
    let mut response = http().get(format!("{}/metrics", server.url())).call().expect("an answer");
    let metrics = response.body_mut().read_to_string().expect("text");
    let mut lines = metrics.lines().filter(|line| line.starts_with("webrtcbridge_udp_sent_datagrams_total"));
    let line = lines.next().unwrap_or_else(|| panic!("no such number in {metrics}"));
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn viewers_watch_directly_and_the_server_sends_them_nothing() {
    let server = BridgeServer::start(&[("p2p-viewers", "5")]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    let link = broadcast(&browser, &server, "Cats <b>live</b>");
    assert!(link.contains("?viewer=true&channel="), "{link}");
    let viewers: Vec<String> = (0..5).map(|_| browser.open_window(&link)).collect();
    for viewer in &viewers {
        browser.switch_to(viewer);
        wait_watching(&browser);
        assert_eq!(text(&browser, "document.body.dataset.way"), "p2p");
        assert_eq!(text(&browser, "document.querySelector('#now').textContent"), "Cats <b>live</b>");
        wait_sound(&browser);
        wait_viewers(&browser, 5);
    }
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 5);
    wait_viewers(&browser, 5);

    // Reports and checks to the publisher are all that it sends; each viewer gets some 100 datagrams a second or more.
    let (before, since) = (sent_by_server(&server), Instant::now());
    browser.switch_to(&viewers[0]);
    browser.eval("window.seen = document.querySelector('#player').currentTime");
    browser.wait_for("return document.querySelector('#player').currentTime > window.seen + 3", SOON);
    let rate = (sent_by_server(&server) - before) / since.elapsed().as_secs_f64();
    assert!(rate < 60.0, "{rate} datagrams a second");
    browser.screenshot("viewer");

    browser.close_window();
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 4);
    wait_viewers(&browser, 4);
    browser.switch_to(&viewers[1]);
    browser.click("#leave");
    assert_eq!(browser.state(), "idle");
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 3);
    browser.screenshot("broadcaster");

    browser.click("#stop");
    browser.wait_state("ended", SOON);
    wait_peers(&browser, 0);
    for viewer in &viewers[2..] {
        browser.switch_to(viewer);
        browser.wait_state("ended", SOON);
        assert!(text(&browser, "document.querySelector('#status').textContent").contains("ended"));
        assert_eq!(browser.eval("return document.querySelector('#player').srcObject"), Value::Null);
    }
}

#[test]
fn broadcaster_and_viewers_chat_by_name_and_nothing_said_becomes_markup() {
    let server = BridgeServer::start(&[("p2p-viewers", "3")]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    let link = broadcast(&browser, &server, "Talk");
    let viewer = browser.open_window(&link);
    browser.wait_for("return document.querySelector('#chat-note').innerText.includes('display name')", SOON);
    assert_eq!(browser.eval("return document.querySelector('#send').disabled"), true, "a name comes first");
    call_oneself(&browser, "Ann");
    say(&browser, "<img src=x onerror=window.pwned=1> hello");
    browser.switch_to(&broadcaster);
    wait_heard(&browser, "Ann is here");
    wait_heard(&browser, "<img src=x onerror=window.pwned=1> hello");
    assert_eq!(browser.eval("return document.querySelectorAll('#messages img').length + (window.pwned ?? 0)"), 0);
    call_oneself(&browser, "Bob");
    say(&browser, "welcome");
    browser.switch_to(&viewer);
    wait_heard(&browser, "Bob broadcaster");
    wait_heard(&browser, "welcome");
    call_oneself(&browser, "Anna");
    browser.eval("const field = document.querySelector('#text'); field.removeAttribute('maxlength');");
    browser.fill("#text", &"x".repeat(501));
    browser.click("#send");
    browser.wait_for("return document.querySelector('#chat-error').innerText.includes('500 characters')", SOON);
    say(&browser, "still here");
    browser.eval(
        "for (let count = 0; count < 40; count += 1) { \
           document.querySelector('#text').value = `flood ${count}`; document.querySelector('#chat-form').requestSubmit(); }",
    );
    browser.wait_for("return document.querySelector('#chat-error').innerText.includes('Too many messages')", SOON);
    browser.click("#leave");
    browser.switch_to(&broadcaster);
    wait_heard(&browser, "Ann is now Anna");
    wait_heard(&browser, "still here");
    wait_heard(&browser, "Anna has left");
}

#[test]
fn the_list_follows_what_is_live_and_who_waits_for_a_channel_is_there_when_it_begins() {
    let server = BridgeServer::start(&[("p2p-viewers", "3")]);
    let browser = Browser::start();
    let lobby = browser.window();
    browser.open(&format!("{}/", server.url()));
    let entries = "[...document.querySelectorAll('#channels button')].map((entry) => entry.innerText).join()";
    browser.wait_for("return !document.querySelector('#no-channels').hidden", SOON);
    let waiting = browser.open_window(&format!("{}/?viewer=true&channel=my_show", server.url()));
    browser.wait_state("ended", SOON);
    assert_eq!(text(&browser, "document.body.dataset.error"), "channel-gone");

    let broadcaster = browser.open_window(&format!("{}/?broadcaster=true&channel=my_show&codec=vp8", server.url()));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("live", PATIENCE);
    browser.switch_to(&waiting);
    wait_watching(&browser);
    browser.switch_to(&lobby);
    browser.wait_for(&format!("return {entries}.includes('my_show') && {entries}.includes('1 watching')"), SOON);
    browser.switch_to(&broadcaster);
    browser.click("#stop");
    browser.switch_to(&lobby);
    browser.wait_for(&format!("return {entries} === ''"), SOON);
    browser.switch_to(&waiting);
    browser.wait_state("ended", SOON);
    browser.switch_to(&broadcaster);
    browser.click("#start");
    browser.wait_state("live", PATIENCE);
    browser.switch_to(&waiting);
    wait_watching(&browser);
}

#[test]
fn who_finds_no_room_with_the_broadcaster_watches_through_the_server_in_the_size_of_his_choice() {
    let server = BridgeServer::start(&[("p2p-viewers", "1")]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    let link = broadcast_in(&browser, &server, "Small", (640, 360));
    let viewers: Vec<String> = (0..5).map(|_| browser.open_window(&link)).collect();
    for (viewer, way) in viewers.iter().zip(["p2p", "forward", "forward", "forward", "forward"]) {
        browser.switch_to(viewer);
        wait_watching(&browser);
        assert_eq!(text(&browser, "document.body.dataset.way"), way);
        wait_sound(&browser);
        wait_viewers(&browser, 5);
    }
    assert!(text(&browser, "document.querySelector('#status').textContent").contains("through the server"));
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 1);

    browser.switch_to(&viewers[4]);
    let sizes = "[...document.querySelectorAll('#quality option')].map((option) => option.textContent)";
    browser.wait_for(&format!("return {sizes}.join() === 'Automatic,180p,360p'"), PATIENCE);
    browser.screenshot("forwarded");
    let width = |wanted: u32| {
        browser.wait_for(&format!("return document.querySelector('#player').videoWidth === {wanted}"), PATIENCE);
    };
    choose(&browser, 1);
    width(320);
    choose(&browser, 0);
    width(640);
    call_oneself(&browser, "Eve");
    say(&browser, "hello from afar");
    browser.switch_to(&viewers[0]);
    wait_heard(&browser, "hello from afar");

    browser.switch_to(&broadcaster);
    browser.click("#stop");
    for viewer in &viewers {
        browser.switch_to(viewer);
        browser.wait_state("ended", SOON);
    }
}

/// Chooses from the menu of sizes.
fn choose(browser: &Browser, index: u32) {
    browser.eval(&format!(
        "const menu = document.querySelector('#quality'); menu.selectedIndex = {index}; menu.dispatchEvent(new Event('change'));"
    ));
}

#[test]
fn who_cannot_be_reached_directly_watches_through_the_server_after_five_seconds() {
    let server = BridgeServer::start(&[("p2p-viewers", "3")]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    let link = broadcast(&browser, &server, "Behind walls");
    browser.open_window(&format!("{}/", server.url()));
    browser.wait_state("idle", SOON);
    // No answer ever gets to the broadcaster, and the server's is heard.
    browser.eval(
        "const { prototype } = RTCPeerConnection; const real = prototype.setRemoteDescription; \
         prototype.setRemoteDescription = function (description) { \
           return description.type === 'offer' ? new Promise(() => {}) : real.call(this, description); };",
    );
    browser.fill("#watch-channel", link.rsplit('=').next().unwrap_or_default());
    let since = Instant::now();
    browser.click("#watch-form button");
    browser.wait_for("return document.body.dataset.way === 'p2p'", SOON);
    browser.wait_for("return document.body.dataset.way === 'forward'", SOON);
    assert!(since.elapsed() > Duration::from_secs(4), "{:?}", since.elapsed());
    wait_watching(&browser);
    assert!(text(&browser, "document.querySelector('#status').textContent").contains("through the server"));
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 0);
}

#[test]
fn the_page_says_in_words_what_is_wrong() {
    let server = BridgeServer::start(&[("view-token", "s3cret"), ("p2p-viewers", "1"), ("max-channels", "1")]);
    let browser = Browser::start();
    let page = |query: &str| format!("{}/{query}", server.url());
    let wait_error = |code: &str, words: &str| {
        browser.wait_for(&format!("return document.body.dataset.error === '{code}'"), SOON);
        let said = text(&browser, "document.querySelector('#error').innerText");
        assert!(said.contains(words), "{code}: {said}");
    };
    browser.open(&page(""));
    wait_error("unauthorized", "token");
    browser.fill("#token", "s3cret");
    browser.click("#token-form button");
    browser.wait_for("return document.querySelector('#token-form').hidden", SOON);
    browser.fill("#watch-channel", "nowhere");
    browser.click("#watch-form button");
    wait_error("channel-gone", "not there");
    browser.open(&page("?viewer=true&channel=a%20b#token=s3cret"));
    wait_error("bad-channel", "\"a b\"");

    let refused = |name: &str| {
        browser.open(&page("?broadcaster=true"));
        browser.wait_state("idle", SOON);
        browser.eval(&format!(
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}'));"
        ));
        browser.click("#start");
    };
    refused("NotAllowedError");
    wait_error("permission", "Allow both");
    refused("NotFoundError");
    wait_error("no-camera", "No camera");
    assert_eq!(browser.state(), "failed");
    let visible =
        "[...document.querySelectorAll('#start, #stop')].filter((button) => button.offsetParent !== null).length";
    assert_eq!(browser.eval(&format!("return {visible}")), 1);

    broadcast(&browser, &server, "The one that there is room for");
    browser.open_window(&page("?broadcaster=true"));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    wait_error("server-full", "no room");
}

#[test]
fn a_lost_websocket_is_made_again_on_both_sides_and_the_picture_goes_on() {
    let server = BridgeServer::start(&[("p2p-viewers", "3")]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    let link = broadcast(&browser, &server, "Shaky");
    let viewer = browser.open_window(&link);
    wait_watching(&browser);
    // What a page hears when there is another network: it does not wait for the old connection's end.
    let lose = "window.dispatchEvent(new Event('online'))";
    browser.switch_to(&broadcaster);
    browser.eval(lose);
    let late = browser.open_window(&link);
    wait_watching(&browser);
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 2);
    assert_eq!(browser.state(), "live");
    browser.switch_to(&viewer);
    wait_watching(&browser);
    browser.eval(lose);
    wait_watching(&browser);
    wait_viewers(&browser, 2);
    browser.switch_to(&late);
    wait_watching(&browser);
    browser.switch_to(&broadcaster);
    wait_peers(&browser, 2);
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is of interest")]
fn what_is_shown_to_a_viewer_is_fresh() {
    let server = BridgeServer::start(&[("p2p-viewers", "1")]);
    let browser = Browser::start();
    browser.open(&format!("{}/?broadcaster=true&channel=clock&codec=vp8", server.url()));
    browser.wait_state("idle", SOON);
    painted::send(&browser, 440.0);
    browser.click("#start");
    browser.wait_state("live", PATIENCE);
    for way in ["p2p", "forward"] {
        browser.open_window(&format!("{}/?viewer=true&channel=clock", server.url()));
        wait_watching(&browser);
        assert_eq!(text(&browser, "document.body.dataset.way"), way);
        println!("{way}: {} ms", painted::wait_fresh(&browser, "#player").median());
    }
}

#[test]
fn who_watches_directly_does_not_need_the_servers_media() {
    let server = BridgeServer::start(&[("p2p-viewers", "3")]);
    let browser = Browser::start();
    let broadcaster = browser.window();
    browser.open(&format!("{}/?broadcaster=true&channel=alone", server.url()));
    browser.wait_state("idle", SOON);
    browser.eval("window.fetch = () => Promise.reject(new TypeError('no way there'));");
    browser.click("#start");
    browser.wait_for("return document.body.dataset.error === 'retrying'", SOON);
    browser.open_window(&format!("{}/?viewer=true&channel=alone", server.url()));
    wait_watching(&browser);
    assert_eq!(server.sessions(), 0);
    browser.switch_to(&broadcaster);
    browser.wait_state("live", SOON);
    assert!(text(&browser, "document.querySelector('#status').textContent").contains("server"), "it is told");
}

/// The page's side of forwarding, against a peer connection that stands in for the server.
#[test]
fn a_reception_offers_to_the_server_and_shows_what_it_sends() {
    let server = BridgeServer::start(&[]);
    let browser = Browser::start();
    browser.open(&server.url());
    let way = browser.eval_async(
        "const { Reception } = await import('/page/reception.js'); \
         const canvas = document.createElement('canvas'); canvas.getContext('2d'); \
         const far = new RTCPeerConnection(); const sent = []; let shown; \
         const states = []; \
         const connected = new Promise((resolve) => { \
           window.reception = new Reception({ \
             send: (message) => { sent.push(message); if (message.candidate) far.addIceCandidate(message); }, \
             onchange: (state) => { states.push(state); if (state === 'connected') resolve(); }, \
             onstream: (stream) => shown = stream }); }); \
         far.onicecandidate = ({ candidate }) => candidate && window.reception.candidate({ ...candidate.toJSON() }); \
         await window.reception.offer(async (message) => { \
           await far.setRemoteDescription(message); \
           far.addTrack(canvas.captureStream(5).getTracks()[0]); \
           await far.setLocalDescription(); return far.localDescription; }); \
         await connected; \
         return { kinds: shown.getTracks().map((track) => track.kind), to: sent.filter((message) => 'to' in message).length, states };",
    );
    assert_eq!(way, json!({ "kinds": ["video"], "to": 0, "states": ["connected"] }));
}

#[test]
fn addresses_and_numbers_are_read() {
    let server = BridgeServer::start(&[]);
    let browser = Browser::start();
    browser.open(&server.url());
    let read = browser.eval_async(
        "const { readAddress, linkFor, socketAddress } = await import('/page/address.js'); \
         const modes = ['', '?viewer=true', '?broadcaster=true', '?broadcaster=false', '?channel=a', '?playback=http://x/', '?echo=true'] \
           .map((search) => readAddress(search).mode[0]).join(''); \
         const { channel, badChannel } = readAddress('?channel=a%20b'); \
         return [modes, channel, badChannel, linkFor('a', 'https://h:1/x/?broadcaster=true#token=t'), \
           socketAddress('https://h/x/?a#b', 't&'), socketAddress('http://h/', '')];",
    );
    let expected =
        json!(["vvbvvbe", null, "a b", "https://h:1/x/?viewer=true&channel=a", "wss://h/x/ws?token=t%26", "ws://h/ws"]);
    assert_eq!(read, expected);
    let numbers = browser.eval_async(
        "const { received } = await import('/page/numbers.js'); \
         const at = (bytes, packets, lost) => new Map([ \
           ['v', { type: 'inbound-rtp', kind: 'video', id: 'v', codecId: 'c', bytesReceived: bytes, packetsReceived: packets, \
             packetsLost: lost, frameWidth: 640, frameHeight: 480, framesPerSecond: 30 }], \
           ['c', { type: 'codec', id: 'c', mimeType: 'video/VP8' }], \
           ['p', { type: 'candidate-pair', id: 'p', nominated: true, currentRoundTripTime: 0.02 }]]); \
         const first = received(at(1000, 10, 5), null, 0); \
         const { rate, loss, width, codec, rtt } = received(at(126000, 100, 15), first, 1000); \
         return [first.rate ?? null, rate, loss, width, codec, rtt];",
    );
    assert_eq!(numbers, json!([null, 1_000_000, 0.1, 640, "VP8", 0.02]));
    let pings = browser.eval_async(
        "const { Pings } = await import('/page/pings.js'); const pings = new Pings(); \
         const [text, bytes, third] = [pings.next(0), pings.next(0), pings.next(10)]; \
         const spoilt = bytes.slice(); spoilt[9] ^= 1; \
         const heard = [pings.hear(text, 4), pings.hear(text, 5), pings.hear(spoilt.buffer, 6), \
           pings.hear(bytes.buffer, 8), pings.hear('something else', 9)]; \
         pings.next(5010); \
         return [heard, typeof text, bytes.length, pings.summary(), pings.hear(third, 5011)];",
    );
    let summary = json!({ "returned": 2, "lost": 1, "median": 8 });
    assert_eq!(pings, json!([[true, false, false, true, false], "string", 64, summary, false]));
}
