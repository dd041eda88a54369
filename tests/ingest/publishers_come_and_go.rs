//! One publisher after the other on the same endpoint: the pads stay, and the RTMP stream goes on.

use std::time::{Duration, Instant};

use crate::common::{
    SOON,
    bridge::Bridge,
    flv::FlvFile,
    nginx::Nginx,
    publisher::{Options, Publisher},
    recording::Recording,
    wait_until,
};

#[test]
fn the_next_publisher_goes_on_in_the_same_rtmp_stream() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let first = Publisher::start(&bridge.url());
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(2, 2));
    first.delete();
    let before = FlvFile::read(&path).pictures().count();

    let second = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.pictures().count() > before + 60 && flv.has_seconds(4, 4));
    second.assert_unharmed();
    second.delete();
    bridge.launch.end_cleanly();

    assert_eq!(nginx.publishes("key"), 1, "the RTMP connection outlives a publisher");
    let recording = Recording::probe(&path);
    recording.assert_starts_with_keyframe();
    recording.assert_decodes();
    let flv = FlvFile::read(&path);
    let times: Vec<u32> = flv.pictures().map(|t| t.timestamp).collect();
    assert!(times.windows(2).all(|t| t[1] > t[0]), "time goes on: {times:?}");
}

#[test]
fn a_second_publisher_meanwhile_gets_conflict_and_the_first_goes_on() {
    let nginx = Nginx::start();
    let bridge = Bridge::start(&nginx, "key");
    let first = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    let refused = Publisher::offer(&bridge.url(), Options::default()).err().expect("refused");
    assert_eq!(refused.status, 409, "{}", refused.body);
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(3, 3));
    first.assert_unharmed();
    assert_eq!(nginx.publishes("key"), 1);
}

#[test]
fn the_endpoint_is_free_again_after_a_publisher_vanished() {
    let nginx = Nginx::start();
    let mut bridge = Bridge::start(&nginx, "key");
    let first = Publisher::start(&bridge.url());
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    first.vanish();
    let gone = Instant::now();

    let second = wait_until("the endpoint to take the next publisher", Duration::from_secs(15), || {
        match Publisher::offer(&bridge.url(), Options::default()) {
            Ok(publisher) => Some(publisher),
            Err(refused) => {
                assert_eq!(refused.status, 409, "{}", refused.body);
                None
            }
        }
    });
    assert!(gone.elapsed() < Duration::from_secs(12), "free after {:?}", gone.elapsed());
    second.wait_connected(SOON);
    let path = nginx.recordings("key").pop().expect("a recording");
    let before = FlvFile::read(&path).pictures().count();
    nginx.wait_recorded("key", SOON, |flv| flv.pictures().count() > before + 30);
    assert!(bridge.launch.is_running());
    assert!(bridge.launch.errors().is_empty(), "{}", bridge.launch.output());
    second.delete();
    bridge.launch.end_cleanly();
}

#[test]
fn the_token_decides_who_publishes() {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", "auth-token=right", "");
    for token in [None, Some("wrong".to_owned())] {
        let refused = Publisher::offer(&bridge.url(), Options { token, ..Options::default() }).err().expect("refused");
        assert_eq!(refused.status, 401, "{}", refused.body);
    }
    let publisher =
        Publisher::start_with(&bridge.url(), Options { token: Some("right".to_owned()), ..Options::default() });
    nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    publisher.delete();
    bridge.launch.end_cleanly();
}

#[test]
fn with_the_same_token_the_newcomer_takes_over_at_once() {
    let nginx = Nginx::start();
    let bridge = Bridge::start_with(&nginx, "key", "auth-token=right", "");
    let options = || Options { token: Some("right".to_owned()), ..Options::default() };
    let first = Publisher::start_with(&bridge.url(), options());
    let path = nginx.wait_recorded("key", SOON, |flv| flv.has_seconds(1, 1));
    let before = FlvFile::read(&path).pictures().count();
    let second = Publisher::start_with(&bridge.url(), options());
    nginx.wait_recorded("key", SOON, |flv| flv.pictures().count() > before + 60);
    second.assert_unharmed();
    second.delete();
    drop(first);
    bridge.launch.end_cleanly();
    assert_eq!(nginx.publishes("key"), 1, "the RTMP connection outlives a publisher");
    Recording::probe(&path).assert_decodes();
}
