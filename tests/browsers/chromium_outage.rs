//! A browser loses its network for so long that it is given up, and comes back by itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON, bridge::Bridge, browser::Browser, flv::FlvFile, free_udp_port, lossy::LossyPath, nginx::Nginx,
    server::BridgeServer,
};

/// Longer than consent lasts (30 s, RFC 7675): only an ICE restart leads back.
const OUTAGE: Duration = Duration::from_secs(40);

#[test]
fn a_page_comes_back_after_40_s_without_network_from_another_port() {
    let nginx = Nginx::start();
    let udp_port = free_udp_port();
    let bridge = Bridge::start_with(&nginx, "key", &format!("ice-udp-port={udp_port}"), "");
    let down = Arc::new(AtomicBool::new(false));
    let lost = down.clone();
    let path = LossyPath::new(move |_, _| lost.load(SeqCst));
    let address = gstwebrtcbridge::session::local_addresses()[0];
    let relay = path.before(SocketAddr::new(address, udp_port));

    let browser = Browser::start();
    browser.open(&bridge.page("?codec=h264"));
    browser.wait_state("idle", SOON);
    browser.eval(&only_by_way_of(relay));
    browser.click("#start");
    browser.wait_state("live", SOON);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(2, 2));

    down.store(true, SeqCst);
    let start = Instant::now();
    browser.wait_state("connecting", SOON); // "waiting for the connection to come back"
    browser.wait_for("return window.patches.includes(200)", SOON);
    std::thread::sleep(OUTAGE.saturating_sub(start.elapsed())); // the outage itself, not a wait for something
    path.rebind();
    down.store(false, SeqCst);

    browser.wait_state("live", SOON);
    let newest = |flv: &FlvFile| flv.pictures().last().map_or(0, |tag| tag.timestamp);
    let so_far = FlvFile::read(&nginx.recordings("key").pop().expect("a recording"));
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| newest(flv) > newest(&so_far) + 2000);
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    bridge.launch.end_cleanly();
}

#[test]
fn a_broadcast_and_its_viewer_come_back_by_themselves_when_the_server_is_started_anew() {
    comes_back_after_the_server("");
}

#[test]
fn so_they_do_where_publishing_takes_a_token() {
    comes_back_after_the_server("secret");
}

fn comes_back_after_the_server(token: &str) {
    let listen = format!("127.0.0.1:{}", crate::common::free_port());
    let mut properties = vec![("listen", listen.as_str()), ("session", "")];
    if !token.is_empty() {
        properties.push(("publish-token", token));
    }
    let server = BridgeServer::start(&properties);
    let browser = Browser::start();
    let broadcaster = browser.window();
    browser.open(&format!("{}/?broadcaster=true&codec=vp8#token={token}", server.url()));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("live", SOON);
    let link = browser.eval("return document.querySelector('#link').value");
    let viewer = browser.open_window(link.as_str().expect("a link"));
    let plays = "return document.body.dataset.state === 'live' && document.querySelector('#player').videoWidth > 0";
    browser.wait_for(plays, SOON);

    drop(server);
    browser.wait_for("return document.body.dataset.state !== 'live'", SOON);
    let server = BridgeServer::start(&properties);
    browser.wait_for(plays, SOON * 2);
    browser.eval("window.seen = document.querySelector('#player').currentTime");
    browser.wait_for("return document.querySelector('#player').currentTime > window.seen + 1", SOON);
    browser.switch_to(&broadcaster);
    browser.wait_state("live", SOON);
    assert_eq!(browser.eval("return document.querySelector('#link').value"), link, "the same channel");
    browser.switch_to(&viewer);
    drop(server);
}

/// Makes the page know of the relay only, and the bridge of nothing but what comes from there.
fn only_by_way_of(relay: SocketAddr) -> String {
    let (address, port) = (relay.ip(), relay.port());
    format!(
        "window.patches = []; const fetched = window.fetch; \
         window.fetch = async (url, options) => {{ \
           if (options?.body) options.body = options.body.replace(/^a=candidate:.*\\r?\\n/gm, ''); \
           const response = await fetched(url, options); \
           if (options?.method === 'PATCH') window.patches.push(response.status); return response; }}; \
         const set = RTCPeerConnection.prototype.setRemoteDescription; \
         RTCPeerConnection.prototype.setRemoteDescription = function ({{ type, sdp }}) {{ \
           sdp = sdp.replace(/^a=candidate:.*\\r?\\n/gm, '') \
             .replace(/^a=mid:.*\\r?\\n/m, (mid) => mid + 'a=candidate:1 1 udp 2130706431 {address} {port} typ host\\r\\n'); \
           return set.call(this, {{ type, sdp }}); }};"
    )
}
