//! OBS Studio, as its source has it: an offer without candidates and never a PATCH, NACK without RTX, deaf to PLI, layers all
//! or none, and the same key at once after a drop.

use std::time::{Duration, Instant};

use crate::common::{
    SOON,
    bridge::Bridge,
    flv::FlvFile,
    lossy::LossyPath,
    nginx::Nginx,
    peer::{Layer, Peer, Repairs, Script},
    recording::Recording,
};

/// Its time limit for the POST.
const POST: Duration = Duration::from_secs(8);

fn obs(path: &LossyPath) -> Script {
    let layers = vec![Layer { rid: "0", size: (640, 360) }, Layer { rid: "1", size: (320, 180) }];
    Script { layers, token: Some("key".to_owned()), path: Some(path.clone()), ..Script::obs() }
}

#[test]
fn obs_arrives_whole_and_comes_back_at_once_after_a_drop() {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", "auth-token=key", "");
    let path = LossyPath::percent(2);
    let posted = Instant::now();
    let first = Peer::start(&bridge.url(), obs(&path));
    assert!(posted.elapsed() < POST);
    let script = obs(&path);
    assert!(!script.candidates && script.repairs == Repairs::Plain && !first.offer_sdp().contains("candidate:"));
    assert!(!first.offer_sdp().contains("rtx"), "{}", first.offer_sdp());
    assert!(first.answer_sdp().contains("a=candidate:"), "what it can reach us by");
    for rid in ["0", "1"] {
        assert!(first.answer_sdp().contains(&format!("a=rid:{rid} recv\r\n")), "{}", first.answer_sdp());
    }
    let file = nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.has_seconds(4, 4));
    let mut sent = first.sent("0");
    assert!(!first.heard().nacks.is_empty(), "losses were asked for");
    first.vanish();

    let before = FlvFile::read(&file).pictures().count();
    let posted = Instant::now();
    let path = LossyPath::percent(2);
    let second = Peer::start(&bridge.url(), obs(&path));
    assert!(posted.elapsed() < POST);
    nginx.wait_recorded("key", Duration::from_secs(40), |flv| flv.pictures().count() > before + 90);
    sent.extend(second.sent("0"));
    second.delete();
    bridge.launch.end_cleanly();
    path.stop();

    assert_eq!(nginx.publishes("key"), 1, "the RTMP connection outlives the drop");
    let recording = Recording::probe(&file);
    recording.assert_starts_with_keyframe();
    recording.assert_decodes();
    assert_eq!(recording.size(), (640, 360), "the largest layer");
    let damaged = FlvFile::read(&file).pictures().filter(|tag| !sent.contains(&tag.slices())).count();
    assert_eq!(damaged, 0, "every picture is one that was sent");
}

#[test]
fn the_key_of_a_live_obs_is_refused_to_others_and_not_to_itself() {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", "auth-token=key", "");
    let script = |token: &str| Script { token: Some(token.to_owned()), ..Script::obs() };
    let _first = Peer::start(&bridge.url(), script("key"));
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    let refused = Peer::offer(&bridge.url(), script("another")).err().expect("refused");
    assert_eq!(refused.status, 401, "{}", refused.body);
    let _again = Peer::start(&bridge.url(), script("key"));
}
