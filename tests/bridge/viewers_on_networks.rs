//! Viewers of a whole server on bad networks: each gets what his own carries, and nobody notices the others.
#![allow(clippy::print_stdout)] // the figures are of interest

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{
    common::{
        SOON,
        lossy::LossyPath,
        peer::{Peer, Script},
        server::BridgeServer,
        viewer::{Viewer, Wants, pictures},
        wait_until,
    },
    viewers::{H264, Socket, wait_media, watch},
};

/// On an idle machine it takes 3 s to go down and 10 s to come back at most; others may have the cores meanwhile.
const DOWN: Duration = Duration::from_secs(10);
const UP: Duration = Duration::from_secs(30);

/// Which layer the newest pictures are of.
fn layer(viewer: &Viewer, peer: &Peer) -> Option<&'static str> {
    let seen = pictures(&viewer.stream(H264));
    let newest = *seen.get(seen.len().checked_sub(4)?)?;
    ["q", "h", "f"].into_iter().find(|rid| peer.sent(rid).contains(&newest))
}

#[test]
fn each_viewer_gets_the_layer_that_his_network_carries_and_a_lossy_one_disturbs_nobody() {
    let server = BridgeServer::start(&[("session", "")]);
    let peer = Peer::start(&server.whip("red"), Script::default().with_layers());
    let limit = Arc::new(AtomicU64::new(u64::MAX));
    let (narrow, lossy) = (LossyPath::limited(limit.clone()), LossyPath::percent_seeded(3, 7));
    let on = |path: &LossyPath| Wants { path: Some(path.clone()), ..Wants::default() };
    let (throttled, _first) = watch(&server, "red", on(&narrow)).expect("an answer");
    let (losing, _second) = watch(&server, "red", on(&lossy)).expect("an answer");
    let (clean, _third) = watch(&server, "red", Wants::default()).expect("an answer");
    let socket = Socket::watch(&server, "red");
    let all = [&throttled, &losing, &clean, &socket.viewer];
    for viewer in all {
        wait_until("the largest layer", UP, || (layer(viewer, &peer) == Some("f")).then_some(()));
    }

    limit.store(400_000, SeqCst);
    let since = Instant::now();
    wait_until("a smaller layer", DOWN, || matches!(layer(&throttled, &peer), Some("q" | "h")).then_some(()));
    println!("down after {:?}", since.elapsed());
    wait_media(&throttled, H264, 30);
    for viewer in [&clean, &socket.viewer] {
        assert_eq!(layer(viewer, &peer), Some("f"), "his network is as it was");
    }
    limit.store(u64::MAX, SeqCst);
    let since = Instant::now();
    wait_until("the largest layer again", UP, || (layer(&throttled, &peer) == Some("f")).then_some(()));
    println!("up after {:?}", since.elapsed());

    for viewer in [&clean, &socket.viewer] {
        let stream = viewer.stream(H264);
        assert_eq!((stream.missing().len(), stream.repaired), (0, 0), "nothing was ever missing");
    }
    assert!(lossy.lost() > 10, "{}", lossy.lost());
    wait_until("what was lost", SOON, || losing.stream(H264).missing().is_empty().then_some(()));
    assert!(losing.stream(H264).repaired > 3);
    narrow.stop();
    lossy.stop();
}
