//! Publishers that send several layers: all are accepted, the best goes to the pad, whole pictures at every change.

use std::time::Duration;

use crate::common::{
    SOON,
    peer::{Layer, Peer, Script},
    publisher::Video,
    wait_until,
    watched::Watched,
};

const H264: &str = "avdec_h264";
const VP8: &str = "vp8dec";

/// Between two changes; long enough for the policy to find a layer steady.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn every_layer_of_the_offer_is_in_the_answer() {
    let watched = Watched::start("", H264);
    let obs = Script {
        layers: (0..4).map(|i| Layer { rid: ["0", "1", "2", "3"][i], size: (160 + 160 * i as u32, 90) }).collect(),
        ..Script::obs()
    };
    let peer = Peer::start(&watched.ingest.url(), obs);
    let answer = peer.answer_sdp();
    for rid in 0..4 {
        assert!(answer.contains(&format!("a=rid:{rid} recv\r\n")), "{answer}");
    }
    assert!(answer.contains("a=simulcast:recv 0;1;2;3\r\n"), "{answer}");
    wait_until("the largest layer", SOON, || (watched.width() == Some(640)).then_some(()));
}

#[test]
fn the_best_h264_layer_that_is_sent_goes_to_the_pad() {
    the_best_layer_goes_to_the_pad(Script::default().with_layers(), H264);
}

#[test]
fn the_best_vp8_layer_that_is_sent_goes_to_the_pad() {
    the_best_layer_goes_to_the_pad(Script { video: Some(Video::Vp8), ..Script::default() }.with_layers(), VP8);
}

#[test]
fn layers_change_without_sender_reports_as_well() {
    the_best_layer_goes_to_the_pad(Script { reports: None, ..Script::default() }.with_layers(), H264);
}

fn the_best_layer_goes_to_the_pad(script: Script, decoder: &str) {
    let is_h264 = script.video == Some(Video::H264);
    let watched = Watched::start("", decoder);
    let peer = Peer::start(&watched.ingest.url(), script);
    wait_until("the largest layer", SOON, || (watched.seen().pictures.len() > 60).then_some(()));
    assert_eq!(watched.seen().widths, [640], "from the first picture on");
    for (rid, width) in [("f", 320), ("h", 160)] {
        peer.set_layer(rid, false);
        wait_until("the next layer", PATIENCE, || (watched.width() == Some(width)).then_some(()));
        assert!(peer.heard().plis.iter().any(|(_, ssrc)| *ssrc == peer.ssrc(if width == 320 { "h" } else { "q" })));
    }
    peer.set_layer("f", true);
    wait_until("the largest layer again", PATIENCE, || (watched.width() == Some(640)).then_some(()));
    let before = watched.seen().pictures.len();
    wait_until("its pictures", PATIENCE, || (watched.seen().pictures.len() > before + 60).then_some(()));

    assert_eq!(watched.seen().widths, [640, 320, 160, 640]);
    watched.assert_clean();
    assert_eq!(watched.figure("lost"), 0);
    assert_eq!(watched.figure("layer-switches"), 3);
    let lost: u64 = watched.ingest.stats().get("lost-packets").expect("a figure");
    assert_eq!(lost, 0, "the jitter buffer has seen one stream without gaps");
    let layers: Vec<(String, bool, bool)> = watched
        .layers()
        .iter()
        .map(|l| (l.get("rid").expect("rid"), l.get("active").expect("active"), l.get("live").expect("live")))
        .collect();
    let expected = [("f", true, true), ("h", false, false), ("q", false, true)];
    assert_eq!(layers, expected.map(|(rid, active, live)| (rid.to_owned(), active, live)));
    if is_h264 {
        let sent: Vec<u64> = ["q", "h", "f"].into_iter().flat_map(|rid| peer.sent(rid)).collect();
        let damaged = watched.seen().pictures.iter().filter(|(_, hash)| !sent.contains(hash)).count();
        assert_eq!(damaged, 0, "pictures that were not sent");
    }
    peer.delete();
}

#[test]
fn made_up_streams_are_bounded_and_harm_nobody() {
    let watched = Watched::start("", H264);
    let peer = Peer::start(&watched.ingest.url(), Script::default().with_layers());
    wait_until("pictures", SOON, || (watched.seen().pictures.len() > 30).then_some(()));
    for number in 0..2000_u32 {
        let header = rtc::rtp::Header {
            version: 2,
            payload_type: [102, 103, 111][number as usize % 3],
            ssrc: 0x4000_0000 + number,
            ..Default::default()
        };
        peer.send(rtc::rtp::Packet { header, payload: vec![0x67, 0, 0, 0].into() });
    }
    let before = watched.seen().pictures.len();
    wait_until("pictures afterwards", SOON, || (watched.seen().pictures.len() > before + 60).then_some(()));
    watched.assert_clean();
    assert_eq!(watched.seen().widths, [640]);
    let dropped = |name| watched.ingest.stats().get::<u64>(name).expect("a figure");
    assert!(dropped("udp-dropped-forged") > 1500, "most do not even reach the stack: {:?}", watched.ingest.stats());
    assert!(dropped("ignored-packets") > 20, "and of the rest most find no place");
    assert!(watched.layers().len() <= 11, "{} layers are counted", watched.layers().len());
}
