//! A camera in Chromium reaches an RTMP server through the plain line of the README.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::common::{
    SOON, bridge::Bridge, browser::Browser, flv::FlvFile, http, ingest::Ingest, lossy::LossyPath, nginx::Nginx,
    recording::Recording, wait_until,
};
use gst::prelude::*;
use serde_json::json;

#[test]
fn chromium_publishing_h264_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=h264");
}

#[test]
fn chromium_publishing_vp8_and_pcmu_arrives_as_h264_and_aac() {
    chromium_publishes_to("?codec=vp8", "audio-codecs=<PCMU>");
}

#[test]
fn chromium_publishing_vp9_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=vp9");
}

#[test]
fn chromium_publishing_av1_arrives_as_h264_and_aac() {
    chromium_publishes("?codec=av1");
}

#[test]
fn chromium_with_the_page_as_it_is_arrives_as_h264_and_aac() {
    chromium_publishes("");
}

#[test]
fn the_page_has_one_button_to_start_and_says_when_the_server_has_gone() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page(""));
    browser.wait_state("idle", SOON);
    let visible = "[...document.querySelectorAll('button')].filter(b => b.offsetParent !== null && !b.disabled).length";
    assert_eq!(browser.eval(&format!("return {visible}")), 1, "one button to start");
    browser.click("#start");
    browser.wait_state("live", SOON);
    browser.wait_for("return document.querySelector('#preview').videoWidth > 0", SOON);
    drop(bridge);
    browser.wait_for("return ['ended', 'failed'].includes(document.body.dataset.state)", Duration::from_secs(40));
}

#[test]
fn a_page_whose_session_is_deleted_by_somebody_else_notices_at_once() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page("?codec=vp8"));
    browser.wait_state("idle", SOON);
    browser.eval(
        "const fetched = window.fetch; window.fetch = async (url, options) => { const response = await fetched(url, options); \
           window.resource ??= response.headers.get('Location'); return response; }; \
         const set = RTCPeerConnection.prototype.setRemoteDescription; \
         RTCPeerConnection.prototype.setRemoteDescription = function (answer) { window.pc = this; return set.call(this, answer); };",
    );
    browser.click("#start");
    browser.wait_state("live", SOON);
    browser.eval("return fetch(window.resource, { method: 'DELETE' })");
    // Left to itself a browser finds out after 5 s (disconnected) to 30 s (consent expired).
    let start = std::time::Instant::now();
    browser.wait_for("return window.pc.connectionState !== 'connected'", Duration::from_secs(4));
    browser.wait_for("return document.body.dataset.state === 'failed'", SOON);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn the_page_restarts_ice_when_the_network_changes_and_the_show_goes_on() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let browser = Browser::start();
    browser.open(&bridge.page("?codec=h264"));
    browser.wait_state("idle", SOON);
    // What the page tells the server, and what it makes of the answer.
    browser.eval(
        "window.patches = []; const fetched = window.fetch; \
         window.fetch = async (url, options) => { const response = await fetched(url, options); \
           if (options?.method === 'PATCH') window.patches.push(response.ok ? response.status : await response.text() + options.body); return response; }; \
         const set = RTCPeerConnection.prototype.setRemoteDescription; window.answers = []; \
         RTCPeerConnection.prototype.setRemoteDescription = function (answer) { \
           window.pc = this; window.answers.push(answer.sdp.match(/a=ice-ufrag:(.*)/)[1]); return set.call(this, answer); };",
    );
    browser.click("#start");
    browser.wait_state("live", SOON);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(2, 2));
    browser.eval("window.dispatchEvent(new Event('online'))");
    browser.wait_for("return window.patches.length > 0", SOON);
    assert_eq!(browser.eval("return window.patches"), serde_json::json!([200]));
    browser.wait_for("return window.answers.length === 2 && window.answers[0] !== window.answers[1]", SOON);
    // Only what comes over the restarted connection counts.
    browser.wait_for("return window.pc.connectionState === 'connected'", SOON);
    let newest = |flv: &FlvFile| flv.pictures().last().map_or(0, |tag| tag.timestamp);
    let so_far = FlvFile::read(&nginx.recordings("key").pop().expect("a recording"));
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| newest(flv) > newest(&so_far) + 4000);
    assert_eq!(browser.state(), "live");
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    bridge.launch.end_cleanly();
    assert_eq!(nginx.publishes("key"), 1, "one connection for the whole stream");
    // What is lost while ICE starts anew is asked for again; a busy machine may need a keyframe.
    let recording = Recording::probe(&nginx.recordings("key").pop().expect("a recording"));
    recording.assert_starts_with_keyframe();
    recording.assert_decodes();
}

#[test]
fn audio_that_got_lost_on_the_way_from_chromium_is_taken_from_the_next_packet() {
    let ingest = Ingest::start("");
    let path = LossyPath::percent(10);
    let microphone = "await navigator.mediaDevices.getUserMedia({ audio: true })";
    let _browser = publish_audio(&ingest, microphone, |answer| path.reroute(answer));
    let recovered = || ingest.stats().get::<u64>("recovered-by-red").unwrap_or(0);
    wait_until("packets that were recovered", SOON, || (recovered() >= 10).then_some(()));
    let stats = ingest.stats();
    let lost = stats.get::<u64>("lost-packets").expect("a count");
    assert!(lost < recovered(), "one in ten of those lost has its successor lost, too, and probes are lost: {stats}");
    assert_eq!(stats.get::<u64>("malformed-red"), Ok(0));
    path.stop();
}

#[test]
fn what_chromium_has_in_stereo_it_sends_in_stereo() {
    let ingest = Ingest::start("");
    let left_only = "(() => {
        const context = new AudioContext({ sampleRate: 48000 });
        const [tone, panner, out] = [context.createOscillator(), context.createStereoPanner(), context.createMediaStreamDestination()];
        panner.pan.value = -1;
        tone.connect(panner).connect(out);
        tone.start();
        return out.stream;
    })()";
    let _browser = publish_audio(&ingest, left_only, str::to_owned);
    let pad = wait_until("the pad", SOON, || ingest.pipeline.by_name("in")?.static_pad("audio_0"));
    let stereo = Arc::new(AtomicUsize::new(0));
    let count = stereo.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        // The s bit of an Opus packet's first byte (RFC 6716 section 3.1).
        let first = info.buffer().and_then(|buffer| buffer.map_readable().ok()?.first().copied());
        if first.is_some_and(|toc| toc & 0b100 != 0) {
            count.fetch_add(1, SeqCst);
        }
        gst::PadProbeReturn::Ok
    });
    wait_until("packets in stereo", SOON, || (stereo.load(SeqCst) >= 20).then_some(()));
}

/// Publishes a stream, given as a JavaScript expression, from the page's own origin; `reroute` may change the answer.
fn publish_audio(ingest: &Ingest, stream: &str, reroute: impl FnOnce(&str) -> String) -> Browser {
    let browser = Browser::start();
    browser.open(&ingest.url().replace("/whip/live", "/"));
    let offer = browser.eval_async(&format!(
        "const stream = {stream};
        window.pc = new RTCPeerConnection();
        window.pc.addTransceiver(stream.getAudioTracks()[0], {{ direction: 'sendonly', streams: [stream] }});
        await window.pc.setLocalDescription();
        return window.pc.localDescription.sdp;"
    ));
    let offer = offer.as_str().expect("SDP");
    let mut response =
        http().post(ingest.url()).header("Content-Type", "application/sdp").send(offer).expect("an answer");
    let answer = response.body_mut().read_to_string().expect("SDP");
    assert_eq!(response.status().as_u16(), 201, "{answer}");
    let answer = json!({ "type": "answer", "sdp": reroute(&answer) });
    browser.eval_async(&format!("await window.pc.setRemoteDescription({answer});"));
    browser
}

fn chromium_publishes(query: &str) {
    chromium_publishes_to(query, "");
}

fn chromium_publishes_to(query: &str, ingest: &str) {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", ingest, "");
    let browser = Browser::start();
    browser.open(&bridge.page(query));
    browser.wait_state("idle", SOON);
    browser.click("#start");
    browser.wait_state("live", SOON);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(5, 5));
    browser.click("#stop");
    browser.wait_state("ended", SOON);
    bridge.launch.end_cleanly();
    assert_eq!(nginx.publishes("key"), 1, "one connection for the whole stream");
    let recording = Recording::probe(&nginx.recordings("key").pop().expect("a recording"));
    recording.assert_good();
    let (width, height) = recording.size();
    assert!(width >= 320 && height >= 180, "{width}x{height}");
}
