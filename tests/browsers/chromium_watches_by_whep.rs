//! Chromium as a WHEP viewer of `webrtcegress`, with a page that is not ours: an offer, a POST, the answer.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use crate::common::{SOON, browser::Browser, egress::Egress, wait_until};
use serde_json::json;

const SOURCES: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=30/1 \
    ! out.video_0 audiotestsrc is-live=true ! out.audio_0";

/// What any WHEP player does.
const PLAY: &str = "
    const pc = window.pc = new RTCPeerConnection();
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.ontrack = (event) => { document.querySelector('#v').srcObject = event.streams[0]; };
    await pc.setLocalDescription();
    const response = await fetch(URL_, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp });
    if (response.status !== 201) return `${response.status}: ${await response.text()}`;
    window.session = new URL(response.headers.get('Location'), URL_).href;
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    return 'answered';";

/// A page of another origin; its URL.
fn serve_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        let page = "<!DOCTYPE html><title>a player</title><video id=v autoplay playsinline muted></video>";
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                page.len()
            );
            let _ = stream.write_all((head + page).as_bytes());
        }
    });
    url
}

#[test]
fn chromium_plays_what_webrtcegress_serves_in_each_codec_that_both_have() {
    let browser = Browser::start();
    let page = serve_page();
    for codec in ["H264", "VP8", "VP9", "AV1"] {
        let egress = Egress::start(&format!("video-codecs=<{codec}>"), SOURCES);
        browser.open(&page);
        let said = browser.eval_async(&PLAY.replace("URL_", &json!(egress.url()).to_string()));
        assert_eq!(said, "answered", "{codec}");
        let plays = "const v = document.querySelector('#v'); return v.videoWidth === 640 && v.videoHeight === 360 && v.currentTime > 2";
        browser.wait_for(plays, Duration::from_secs(40));
        let got = browser.eval_async(
            "const all = [...(await pc.getStats()).values()];
             const of = (kind) => all.find((s) => s.type === 'inbound-rtp' && s.kind === kind) || {};
             return { frames: of('video').framesDecoded, sounds: of('audio').packetsReceived, concealed: of('audio').concealedSamples,
                      mime: (all.find((s) => s.id === of('video').codecId) || {}).mimeType };",
        );
        assert_eq!(got["mime"], format!("video/{codec}"), "{got}");
        let number = |name: &str| got[name].as_f64().unwrap_or(-1.0);
        assert!(number("frames") > 20.0 && number("sounds") > 50.0, "{codec}: {got}");
        browser.eval_async("await fetch(window.session, { method: 'DELETE' }); pc.close();");
        wait_until("nobody", SOON, || (egress.state() == "new").then_some(()));
        assert_eq!(egress.error(), None, "{codec}");
    }
}
