//! Chromium with three layers: the largest that it sends goes to the pad, and changes harm no picture.

use std::time::Duration;

use crate::common::{SOON, browser::Browser, wait_until, watched::Watched};

/// Its bandwidth estimate has to grow before it sends the larger layers, on a machine that is busy encoding.
const PATIENCE: Duration = Duration::from_secs(40);

/// Publishes on the endpoint of the page's own server; `sender` is left in `window` for later.
const PUBLISH: &str = r#"
    window.failed = null;
    (async () => {
        const media = await navigator.mediaDevices.getUserMedia(
            { audio: true, video: { width: 960, height: 540, frameRate: 15 } });
        const pc = window.pc = new RTCPeerConnection();
        pc.addTransceiver(media.getAudioTracks()[0], { direction: 'sendonly' });
        const video = pc.addTransceiver(media.getVideoTracks()[0], { direction: 'sendonly', sendEncodings: [
            { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 80000 },
            { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 200000 },
            { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 500000 } ] });
        const codecs = RTCRtpSender.getCapabilities('video').codecs;
        video.setCodecPreferences(codecs.filter(c => c.mimeType === 'video/CODEC' || c.mimeType === 'video/rtx'));
        window.sender = video.sender;
        await pc.setLocalDescription();
        const response = await fetch('/whip/live', { method: 'POST', body: pc.localDescription.sdp,
            headers: { 'Content-Type': 'application/sdp' } });
        window.answer = await response.text();
        await pc.setRemoteDescription({ type: 'answer', sdp: window.answer });
    })().catch(error => { window.failed = String(error); });
"#;

const SET_ACTIVE: &str = r#"
    const parameters = window.sender.getParameters();
    parameters.encodings.find(encoding => encoding.rid === 'f').active = ACTIVE;
    window.sender.setParameters(parameters).catch(error => { window.failed = String(error); });
"#;

#[test]
fn the_layers_of_chromium_in_h264() {
    layers_follow_what_is_sent("H264", "avdec_h264");
}

#[test]
fn the_layers_of_chromium_in_vp8() {
    layers_follow_what_is_sent("VP8", "vp8dec");
}

fn layers_follow_what_is_sent(codec: &str, decoder: &str) {
    let watched = Watched::start("", decoder);
    let url = watched.ingest.url();
    let page = url.strip_suffix("whip/live").expect("the endpoint");
    let browser = Browser::start();
    browser.open(page);
    browser.wait_state("idle", SOON);
    browser.eval(&PUBLISH.replace("CODEC", codec));
    let width = |wanted: i32| {
        wait_until(&format!("pictures {wanted} wide"), PATIENCE, || {
            let failed = browser.eval("return window.failed");
            assert!(failed.is_null(), "{failed}");
            (watched.width() == Some(wanted)).then_some(())
        });
    };
    width(960);
    let answer = browser.eval("return window.answer").as_str().unwrap_or_default().to_owned();
    for line in ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f"] {
        assert!(answer.contains(line), "{answer}");
    }
    browser.eval(&SET_ACTIVE.replace("ACTIVE", "false"));
    width(480);
    let before = watched.seen().pictures.len();
    wait_until("pictures of the next layer", PATIENCE, || (watched.seen().pictures.len() > before + 30).then_some(()));
    browser.eval(&SET_ACTIVE.replace("ACTIVE", "true"));
    width(960);
    watched.assert_clean();
    let lost: u64 = watched.ingest.stats().get("lost-packets").expect("a figure");
    assert_eq!(lost, 0, "the jitter buffer has seen one stream without gaps");
    let mut names: Vec<String> = watched.layers().iter().map(|layer| layer.get("rid").expect("a name")).collect();
    names.sort();
    assert_eq!(names, ["f", "h", "q"], "{:?}", watched.layers());
}
