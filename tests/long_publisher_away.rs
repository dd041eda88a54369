//! A publisher whose network is gone for 40 s, longer than consent lasts (RFC 7675), and is back on another port: nothing was
//! sent to where it had been, its place is free, and its neighbour has not noticed. `tests/long publisher_away`.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::sleep,
    time::Duration,
};

use common::{
    SOON,
    lossy::{Direction, LossyPath},
    publisher::{Options, Publisher},
    stand::{Show, Stand},
    wait_until,
};

#[test]
#[ignore = "long: tests/long runs it"]
fn publisher_who_was_gone_for_40_s_publishes_anew_and_nothing_was_sent_meanwhile() {
    let stand = Stand::start(&[("GST_DEBUG", "webrtcbridge:4")]);
    let show = Show::start(&stand.whip("steady"), &stand.nginx, "steady");
    let (down, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let path = LossyPath::new({
        let (down, sent) = (down.clone(), sent.clone());
        move |direction, _| {
            sent.fetch_add(u64::from(direction == Direction::ToPublisher), SeqCst);
            down.load(SeqCst)
        }
    });
    let options = Options { path: Some(path.clone()), candidates: false, ..Options::default() };
    let wanderer = Publisher::start_with(&stand.whip("wanderer"), options);
    stand.nginx.wait_recorded("wanderer", SOON, |flv| flv.has_seconds(1, 1));
    down.store(true, SeqCst);
    stand.launch.wait_for_line("the connection was lost", SOON);
    sleep(Duration::from_secs(35)); // with the time until the loss was noticed more than 40: time is what is tested
    let before = sent.load(SeqCst);
    sleep(Duration::from_secs(5));
    assert_eq!(sent.load(SeqCst), before, "its consent has expired");
    path.rebind();
    down.store(false, SeqCst);
    let again = Publisher::start(&stand.whip("wanderer"));
    wait_until("its destination", SOON, || (stand.destination("wanderer", 0)?["state"] == "live").then_some(()));
    show.goes_on(&stand.nginx);
    show.assert_perfect(&stand);
    again.delete();
    drop(wanderer);
    path.stop();
    show.end();
    stand.launch.end_cleanly();
}
