//! A publisher's media forwarded to viewers: every picture arrives as it was sent, whoever joins when, whatever is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    lossy::LossyPath,
    media::Media,
    peer::{Peer, Script},
    viewer::{Viewer, Wants, pictures},
    wait_until,
};
use gstwebrtcbridge::forward::{Source, ViewerChange};

const H264: u8 = 102;
const OPUS: u8 = 111;

/// Waits until so many pictures are there without a gap; all but the last one.
fn wait_pictures(viewer: &Viewer, count: usize) -> Vec<u64> {
    wait_until("pictures without a gap", SOON, || {
        let stream = viewer.stream(H264);
        let mut pictures = stream.missing().is_empty().then(|| pictures(&stream))?;
        pictures.pop();
        (pictures.len() >= count).then_some(pictures)
    })
}

/// Asserts that these are pictures that were sent, one after the other, bit for bit.
fn assert_run(pictures: &[u64], sent: &[u64]) {
    // One picture may have been sent several times: the clip begins anew at each keyframe that is asked for.
    assert!(sent.windows(pictures.len()).any(|run| run == pictures), "{pictures:?} is no part of {sent:?}");
}

/// Waits until the last pictures that a viewer has are so many of those that were sent, one after the other. What a machine
/// that is too busy had it lose or leave out before is no matter.
fn wait_run(viewer: &Viewer, peer: &Peer, count: usize) {
    wait_until("pictures one after the other", SOON, || {
        let mut stream = viewer.stream(H264);
        if let Some(gap) = stream.missing().last() {
            stream.packets = stream.packets.split_off(gap);
        }
        let (seen, sent) = (pictures(&stream), peer.sent(""));
        // The last one may not be whole yet.
        let whole = seen.get(..seen.len().checked_sub(1)?)?;
        let last = whole.get(whole.len().checked_sub(count)?..)?;
        sent.windows(count).any(|run| run == last).then_some(())
    });
}

fn room() -> (Media, Arc<Source>) {
    let media = Media::start();
    let source = Arc::new(Source::new(&media.runtime));
    (media, source)
}

#[test]
fn viewers_that_join_get_every_picture_from_one_requested_keyframe_on() {
    let (media, source) = room();
    // No keyframe comes by itself but the first.
    let (peer, _session) = media.publish(&source, Script { sparse: true, ..Script::default() });
    let mut watched = Vec::new();
    for _ in 0..3 {
        let asked = peer.heard().plis.len();
        let joined = Instant::now();
        let viewer = media.view(&source, Wants::default());
        let seen = wait_pictures(&viewer.viewer, 10);
        assert_run(&seen, &peer.sent(""));
        let plis = peer.heard().plis.len() - asked;
        assert!(plis <= 2, "{plis} requests, {:?} after joining", joined.elapsed());
        watched.push(viewer);
    }
    for viewer in &watched {
        let count = pictures(&viewer.viewer.stream(H264)).len();
        assert_run(&wait_pictures(&viewer.viewer, count + 30), &peer.sent(""));
        wait_until("sound", SOON, || (viewer.viewer.count(OPUS) > 50).then_some(()));
        assert!(viewer.viewer.stream(OPUS).missing().is_empty());
    }
    assert_eq!(source.stats().viewers, 3);
    watched.clear();
    assert_eq!(source.stats().viewers, 0);
}

#[test]
fn a_viewer_with_loss_gets_everything_and_disturbs_nobody() {
    let (media, source) = room();
    let (peer, _session) = media.publish(&source, Script::default());
    let path = LossyPath::percent_seeded(3, 5);
    let lossy = media.view(&source, Wants { path: Some(path.clone()), ..Wants::default() });
    let clean = media.view(&source, Wants::default());
    wait_until("both", SOON, || (clean.viewer.count(H264) > 300 && lossy.viewer.count(H264) > 300).then_some(()));
    assert_run(&wait_pictures(&clean.viewer, 60), &peer.sent(""));
    assert_run(&wait_pictures(&lossy.viewer, 60), &peer.sent(""));
    assert!(path.lost() > 10 && lossy.viewer.stream(H264).repaired > 3, "{} lost", path.lost());
    let stats = clean.answered.outlet.as_ref().expect("an outlet").stats();
    let repeated: u64 = stats.tracks.iter().flatten().map(|track| track.retransmitted).sum();
    assert_eq!(repeated, 0, "{stats:?}");
    path.stop();
}

#[test]
fn viewers_stay_when_the_publisher_is_another_one() {
    let (media, source) = room();
    let (first, _session) = media.publish(&source, Script::default());
    let viewer = media.view(&source, Wants::default());
    wait_pictures(&viewer.viewer, 20);
    first.vanish();
    let before = viewer.viewer.count(H264);
    let (second, _session) = media.publish(&source, Script { sparse: true, ..Script::default() });
    wait_until("the second publisher", SOON, || (viewer.viewer.count(H264) > before + 100).then_some(()));
    let stream = viewer.viewer.stream(H264);
    assert!(stream.missing().len() <= 2, "{:?}", stream.missing());
    let seen = pictures(&stream);
    assert_run(&seen[seen.len() - 11..seen.len() - 1], &second.sent(""));
    let times: Vec<u32> = stream.packets.values().map(|packet| packet.timestamp).collect();
    assert!(times.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) < 10 * 90_000), "time goes on");
    assert_eq!(*viewer.watching.changes().borrow(), ViewerChange::None);
}

/// Which layer the newest pictures are of.
fn layer(viewer: &Viewer, peer: &Peer) -> Option<&'static str> {
    let seen = pictures(&viewer.stream(H264));
    let newest = *seen.get(seen.len().checked_sub(4)?)?;
    ["q", "h", "f"].into_iter().find(|rid| peer.sent(rid).contains(&newest))
}

#[test]
fn a_viewer_gets_the_layer_that_its_network_carries_and_the_larger_one_back() {
    let (media, source) = room();
    let (peer, _session) = media.publish(&source, Script::default().with_layers());
    let limit = Arc::new(AtomicU64::new(u64::MAX));
    let path = LossyPath::limited(limit.clone());
    let viewer = media.view(&source, Wants { path: Some(path.clone()), ..Wants::default() });
    wait_until("the largest layer", SOON, || (layer(&viewer.viewer, &peer) == Some("f")).then_some(()));
    limit.store(400_000, SeqCst);
    let throttled = Instant::now();
    wait_until("a smaller layer", SOON, || matches!(layer(&viewer.viewer, &peer), Some("q" | "h")).then_some(()));
    assert!(throttled.elapsed() < Duration::from_secs(5), "{:?}", throttled.elapsed());
    limit.store(u64::MAX, SeqCst);
    let free = Instant::now();
    wait_until("the largest layer again", SOON, || (layer(&viewer.viewer, &peer) == Some("f")).then_some(()));
    assert!(free.elapsed() < Duration::from_secs(10), "{:?}", free.elapsed());
    path.stop();
}

#[test]
fn fifty_viewers_get_everything_and_ask_the_publisher_seldom() {
    let (media, source) = room();
    let (peer, _session) = media.publish(&source, Script { sparse: true, ..Script::default() });
    let viewers: Vec<_> = (0..50).map(|_| media.view(&source, Wants::default())).collect();
    for viewer in &viewers {
        wait_run(&viewer.viewer, &peer, 30);
    }
    // How far apart they are sent; a machine that is busy hands them over in heaps.
    let plis = peer.heard().plis;
    // None, where all are there in time for the first keyframe.
    let took = plis.last().zip(plis.first()).map(|(last, first)| last.0 - first.0).unwrap_or_default();
    let most = took.as_millis() / 300 + 3;
    assert!(plis.len() as u128 <= most, "{plis:?}");
    assert_eq!(source.stats().overflowed, 0);
}
