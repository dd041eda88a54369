//! Chromium sends a stream with layers of its own (SVC), and another connection of it watches: which layers it gets is the
//! server's doing, and no decoder notices what is left out.

use std::time::Duration;

use crate::common::{SOON, browser::Browser, server::BridgeServer, wait_until};
use serde_json::{Value, json};

/// It has to find out that its network carries all layers, on a machine that is busy encoding.
const PATIENCE: Duration = Duration::from_secs(40);

/// Publishes and watches, in one page.
const BOTH_ENDS: &str = r#"
    const post = async (url, pc) => {
        await pc.setLocalDescription();
        const response = await fetch(url, { method: 'POST', body: pc.localDescription.sdp,
            headers: { 'Content-Type': 'application/sdp' } });
        if (!response.ok) throw new Error(response.status + ' ' + await response.text());
        await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
        return response.headers.get('Location');
    };
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 30 } });
    const out = window.out = new RTCPeerConnection();
    const video = out.addTransceiver(media.getVideoTracks()[0], { direction: 'sendonly',
        sendEncodings: [{ scalabilityMode: 'MODE', maxBitrate: 800000 }] });
    const codecs = RTCRtpSender.getCapabilities('video').codecs;
    video.setCodecPreferences(codecs.filter(c => c.mimeType === 'video/rtx'
        || (c.mimeType === 'video/CODEC' && !/profile-id=[123]|profile=[12]/.test(c.sdpFmtpLine || ''))));
    await post('/whip/show', out);
    await new Promise(resolve => {
        const look = () => out.connectionState === 'connected' ? resolve() : setTimeout(look, 20);
        look();
    });
    window.mode = video.sender.getParameters().encodings[0].scalabilityMode;
    const seen = window.seen = new RTCPeerConnection();
    const receives = seen.addTransceiver('video', { direction: 'recvonly' });
    if (DESCRIBED) {
        const extensions = receives.getHeaderExtensionsToNegotiate();
        extensions.find(e => e.uri.endsWith('#dependency-descriptor-rtp-header-extension')).direction = 'sendrecv';
        receives.setHeaderExtensionsToNegotiate(extensions);
    }
    document.body.innerHTML = '<video id=v autoplay playsinline muted></video>';
    seen.ontrack = e => { v.srcObject = new MediaStream([e.track]); };
    window.resource = await post('/whep/show', seen);
    window.figures = async () => {
        const stats = async pc => [...(await pc.getStats()).values()];
        const sent = (await stats(out)).find(s => s.type === 'outbound-rtp');
        const got = (await stats(seen)).find(s => s.type === 'inbound-rtp') || {};
        return { sent: sent.framesEncoded, mode: sent.scalabilityMode, implementation: sent.encoderImplementation,
            got: got.framesDecoded || 0, dropped: got.framesDropped || 0, nacks: got.nackCount || 0, plis: got.pliCount || 0,
            lost: got.packetsLost || 0, received: got.framesReceived || 0, bytes: got.bytesReceived || 0,
            width: v.videoWidth };
    };
"#;

struct Page {
    browser: Browser,
    _server: BridgeServer,
}

impl Page {
    fn start(codec: &str, mode: &str) -> Self {
        Self::start_with(codec, mode, false)
    }

    /// `is_described`: the viewer takes dependency descriptors as well, which Chromium does not unless it is told to.
    fn start_with(codec: &str, mode: &str, is_described: bool) -> Self {
        let server = BridgeServer::start(&[("session", "")]);
        let browser = Browser::start();
        browser.open(&format!("{}/?viewer=true", server.url()));
        browser.eval_async(
            &BOTH_ENDS
                .replace("CODEC", codec)
                .replace("MODE", mode)
                .replace("DESCRIBED", if is_described { "true" } else { "false" }),
        );
        assert_eq!(browser.eval("return window.mode"), mode);
        let told = browser
            .eval("return [out, seen].map(pc => pc.currentRemoteDescription.sdp.includes('#dependency-descriptor-'))");
        assert_eq!(told, json!([codec == "AV1", is_described]), "whose payloads do not tell of layers");
        let page = Self { browser, _server: server };
        wait_until("pictures", PATIENCE, || (page.figure(&page.figures(), "got") > 30.0).then_some(()));
        page
    }

    fn figures(&self) -> Value {
        self.browser.eval_async("return window.figures()")
    }

    fn figure(&self, figures: &Value, name: &str) -> f64 {
        figures[name].as_f64().unwrap_or_else(|| panic!("{name} of {figures}"))
    }

    fn limit(&self, layers: Value) {
        let status = self.browser.eval_async(&format!(
            "return (await fetch(window.resource + '/layer', {{ method: 'POST', body: JSON.stringify({layers}),
                headers: {{ 'Content-Type': 'application/json' }} }})).status"
        ));
        assert!(status.as_u64().is_some_and(|status| (200..300).contains(&status)), "{status}");
    }

    fn wait_width(&self, wanted: u32) {
        wait_until(&format!("pictures {wanted} wide"), PATIENCE, || (self.figures()["width"] == wanted).then_some(()));
    }

    /// How many of the pictures that are sent are shown, over so many of them.
    fn share(&self, count: f64) -> f64 {
        let before = self.figures();
        let later = wait_until("pictures sent", SOON, || {
            let now = self.figures();
            (self.figure(&now, "sent") >= self.figure(&before, "sent") + count).then_some(now)
        });
        let more = |name: &str| self.figure(&later, name) - self.figure(&before, name);
        more("got") / more("sent")
    }

    fn wait_share(&self, what: &str, range: std::ops::Range<f64>) {
        let mut shares = Vec::new();
        wait_until(what, PATIENCE, || {
            shares.push(self.share(40.0));
            assert!(shares.len() < 20, "{what}: {shares:?}");
            shares.last().is_some_and(|share| range.contains(share)).then_some(())
        });
    }

    /// Nothing was missed, nothing had to be asked for.
    fn assert_clean(&self, since: &Value) {
        let now = self.figures();
        for name in ["nacks", "plis", "lost"] {
            assert_eq!(now[name], since[name], "{name}: {since} {now}");
        }
    }
}

fn layers_in_time(codec: &str, mode: &str) {
    thinned_to_a_quarter_and_back(&Page::start(codec, mode));
}

fn thinned_to_a_quarter_and_back(page: &Page) {
    page.wait_share("all pictures", 0.85..1.2);
    let before = page.figures();
    page.limit(json!({"maxTemporalLayerId": 0}));
    page.wait_share("a quarter of them", 0.15..0.35);
    page.limit(json!({"maxTemporalLayerId": 1}));
    page.wait_share("half of them", 0.4..0.65);
    page.limit(json!({}));
    page.wait_share("all pictures again", 0.85..1.2);
    page.assert_clean(&before);
}

#[test]
fn vp8_in_three_layers_is_thinned_and_comes_back_without_a_keyframe() {
    layers_in_time("VP8", "L1T3");
}

#[test]
fn vp9_in_three_layers_is_thinned_and_comes_back_without_a_keyframe() {
    layers_in_time("VP9", "L1T3");
}

#[test]
fn av1_in_two_layers_is_thinned_and_comes_back_without_a_keyframe() {
    let page = Page::start("AV1", "L1T2");
    page.wait_share("all pictures", 0.85..1.2);
    let before = page.figures();
    page.limit(json!({"maxTemporalLayerId": 0}));
    page.wait_share("half of them", 0.4..0.65);
    page.limit(json!({}));
    page.wait_share("all pictures again", 0.85..1.2);
    page.assert_clean(&before);
}

#[test]
fn av1_in_three_layers_is_thinned_and_comes_back_without_a_keyframe() {
    layers_in_time("AV1", "L1T3");
}

#[test]
fn av1_is_thinned_for_a_viewer_that_reads_what_is_told_of_its_layers() {
    thinned_to_a_quarter_and_back(&Page::start_with("AV1", "L1T3", true));
}

#[test]
fn av1_in_two_sizes_is_shown_in_the_size_that_is_wanted() {
    // Chromium shows nothing of such a stream without being told of its layers.
    let page = Page::start_with("AV1", "L2T1", true);
    page.wait_width(640);
    page.limit(json!({"maxSpatialLayerId": 0}));
    page.wait_width(320);
    page.limit(json!({}));
    page.wait_width(640);
}

#[test]
fn vp9_in_two_sizes_is_shown_in_the_size_that_is_wanted() {
    let page = Page::start("VP9", "L2T3_KEY");
    // A picture of two sizes is counted twice where it is sent.
    page.wait_width(640);
    page.wait_share("all pictures", 0.42..0.6);
    let before = page.figures();
    page.limit(json!({"maxSpatialLayerId": 0}));
    page.wait_width(320);
    page.wait_share("all pictures, smaller", 0.42..0.6);
    page.limit(json!({"maxSpatialLayerId": 0, "maxTemporalLayerId": 0}));
    page.wait_share("a quarter of them", 0.06..0.18);
    page.limit(json!({}));
    page.wait_width(640);
    page.wait_share("all pictures again", 0.42..0.6);
    page.assert_clean(&before);
}
