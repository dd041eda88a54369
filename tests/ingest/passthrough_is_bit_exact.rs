//! H.264 passes through untouched: every picture that arrives is, bit for bit, one that was sent, and in order.

use std::time::Duration;

use crate::common::{
    SOON,
    bridge::Bridge,
    clip,
    flv::FlvFile,
    nginx::Nginx,
    publisher::{Options, Publisher, Video},
    recording::Recording,
};

#[test]
fn every_picture_sent_arrives_bit_for_bit_and_in_order() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start(&bridge.url());
    let path = nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.has_seconds(6, 6));
    let arrived: Vec<u64> = FlvFile::read(&path).pictures().map(|tag| tag.slices()).collect();
    let sent = publisher.sent();
    publisher.assert_unharmed();
    let first = sent.iter().position(|s| *s == arrived[0]).expect("the first picture was sent");
    assert_eq!(arrived, sent[first..first + arrived.len()], "nothing lost, changed or swapped after the first picture");

    publisher.delete();
    bridge.launch.end_cleanly();
    let recording = Recording::probe(&path);
    recording.assert_good();
    assert_eq!(recording.size(), (u64::from(clip::WIDTH), u64::from(clip::HEIGHT)));
}

#[test]
fn vp8_is_transcoded_at_its_own_size() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let options = Options { video: Some(Video::Vp8), ..Options::default() };
    let publisher = Publisher::start_with(&bridge.url(), options);
    let path = nginx.wait_recorded("key", Duration::from_secs(30), |flv| flv.has_seconds(4, 4));
    publisher.assert_unharmed();
    publisher.delete();
    bridge.launch.end_cleanly();
    let recording = Recording::probe(&path);
    recording.assert_good();
    assert_eq!(recording.size(), (u64::from(clip::WIDTH), u64::from(clip::HEIGHT)));
}

#[test]
fn an_offer_without_candidates_connects() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let publisher = Publisher::start_with(&bridge.url(), Options { candidates: false, ..Options::default() });
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    publisher.assert_unharmed();
}
