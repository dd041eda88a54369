//! Chromium plays what is forwarded: the browser offers to receive, pictures and sound arrive and are decoded.

use std::{sync::Arc, time::Duration};

use crate::common::{browser::Browser, media::Media, peer::Script, publisher::Video};
use gstwebrtcbridge::{forward::Source, session::Sends};
use serde_json::json;

#[test]
fn chromium_plays_what_is_forwarded() {
    for video in [Video::H264, Video::Vp8] {
        let media = Media::start();
        let source = Arc::new(Source::new(&media.runtime));
        let (_peer, _session) = media.publish(&source, Script { video: Some(video), ..Script::default() });
        let browser = Browser::start();
        browser.open("about:blank");
        let offer = browser.eval_async(
            "document.body.innerHTML = '<video id=v autoplay playsinline muted></video>';
             const pc = window.pc = new RTCPeerConnection();
             pc.addTransceiver('audio', { direction: 'recvonly' });
             pc.addTransceiver('video', { direction: 'recvonly' });
             pc.ontrack = e => { v.srcObject = e.streams[0]; };
             await pc.setLocalDescription();
             return pc.localDescription.sdp;",
        );
        let offer = offer.as_str().expect("an offer");
        let joining = source.join();
        let sends = Sends { tracks: joining.tracks().to_vec(), events: joining.events(), receives: false };
        let answered = media.exchange(offer, sends).expect("an answer");
        let _watching = joining.begin(&answered).expect("something to watch");
        browser
            .eval_async(&format!("await pc.setRemoteDescription({{ type: 'answer', sdp: {} }});", json!(answered.sdp)));
        browser.wait_for("return v.videoWidth === 640 && v.currentTime > 2", Duration::from_secs(20));
        let stats = browser.eval_async(
            "const all = [...(await pc.getStats()).values()].filter(s => s.type === 'inbound-rtp');
             const of = kind => all.find(s => s.kind === kind) || {};
             return { frames: of('video').framesDecoded, lost: of('video').packetsLost, sounds: of('audio').packetsReceived,
                      streams: v.srcObject.getTracks().length };",
        );
        let number = |name: &str| stats[name].as_f64().unwrap_or(-1.0);
        assert!(number("frames") > 40.0 && number("sounds") > 60.0 && number("lost") == 0.0, "{video:?} {stats}");
        assert_eq!(stats["streams"], 2, "one stream of both tracks");
        let estimate = *answered.outlet.as_ref().expect("an outlet").estimate().borrow();
        assert!(estimate.is_some_and(|estimate| estimate > 500_000), "{estimate:?}");
    }
}
