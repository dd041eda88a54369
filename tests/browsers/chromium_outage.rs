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
