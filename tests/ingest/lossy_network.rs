//! What a lossy network does to a stream: nothing that can be seen, as long as losses can be made good.

use std::time::Duration;

use crate::common::{
    SOON,
    bridge::Bridge,
    flv::FlvFile,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
    wait_until,
};

/// How long packets wait for one that is missing. That the default is enough is seen on simulated networks (`rtp/networks`): a
/// machine that is busy with other tests may take longer than that to run all who have a part in sending a packet again.
const PATIENT: &str = "latency=1000";

/// First bytes of DTLS handshake and change-cipher-spec records (RFC 9147 section 4).
const HANDSHAKE: std::ops::RangeInclusive<u8> = 20..=22;

#[test]
fn pictures_that_lost_packets_arrive_whole() {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", PATIENT, "");
    let path = LossyPath::percent(5);
    let publisher = Publisher::start_with(
        &bridge.url(),
        Options { candidates: false, path: Some(path.clone()), ..Options::default() },
    );
    let file = nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(10, 10));
    let arrived: Vec<u64> = FlvFile::read(&file).pictures().map(|tag| tag.slices()).collect();
    let sent = publisher.sent();
    publisher.assert_unharmed();
    assert!(path.lost() > 40, "{} datagrams were lost", path.lost());
    // A loss that no retransmission made good leaves a gap up to a keyframe, but never a picture that was not sent.
    let mut rest = sent.iter();
    for picture in &arrived {
        assert!(rest.any(|sent| sent == picture), "a picture arrived that was not sent, or not in this order");
    }
    // Without retransmissions hardly a second goes by without a loss, and most of each waits for a keyframe. The share is of
    // what was sent while the recording ran.
    let place = |picture: &u64| sent.iter().position(|sent| sent == picture).expect("a picture that was sent");
    let span = place(&arrived[arrived.len() - 1]) - place(&arrived[0]) + 1;
    assert!(arrived.len() * 100 >= span * 99, "only {} of {span} pictures arrived", arrived.len());
    publisher.delete();
    bridge.launch.end_cleanly();
    Recording::probe(&file).assert_decodes();
    path.stop();
}

#[test]
fn doubled_and_reordered_packets_change_no_picture() {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", PATIENT, "");
    let path = LossyPath::disorderly(5, 5);
    let publisher = Publisher::start_with(
        &bridge.url(),
        Options { candidates: false, path: Some(path.clone()), ..Options::default() },
    );
    let file = nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(6, 6));
    let arrived: Vec<u64> = FlvFile::read(&file).pictures().map(|tag| tag.slices()).collect();
    let sent = publisher.sent();
    publisher.assert_unharmed();
    assert!(path.disturbed() > 50, "{} datagrams were doubled or late", path.disturbed());
    // Every picture from the first that arrived to the last, bit for bit, none twice.
    let first = sent.iter().position(|sent| *sent == arrived[0]).expect("a picture that was sent");
    assert_eq!(arrived[..], sent[first..][..arrived.len()]);
    publisher.delete();
    bridge.launch.end_cleanly();
    Recording::probe(&file).assert_decodes();
    path.stop();
}

#[test]
fn handshake_flights_that_get_lost_are_sent_again() {
    let ingest = Ingest::start("");
    let mut lost = 0;
    let path = LossyPath::new(move |direction, datagram| {
        let loses = direction == Direction::ToPublisher && HANDSHAKE.contains(&datagram[0]) && lost < 4;
        lost += u32::from(loses);
        loses
    });
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::offer(&ingest.url(), options).expect("an answer");
    publisher.wait_connected(SOON);
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    let repeated: u64 = ingest.stats().get("udp-handshakes-repeated").expect("a figure");
    assert!(repeated > 0, "{} datagrams were lost, none was repeated", path.lost());
    publisher.delete();
    path.stop();
}
