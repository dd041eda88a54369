//! A publisher whose address changes while it publishes, as a NAT that forgets or another network makes it.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::LossyPath,
    publisher::{Options, Publisher},
    wait_until,
};
use gst::prelude::*;

/// As far apart are those of the publisher's clip.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

#[test]
fn a_publisher_whose_address_changes_goes_on_without_a_gap() {
    let ingest = Ingest::start_with("", "fakesink name=video sync=false async=false");
    let pictures = count_pictures(&ingest);
    let (publisher, path) = start(&ingest);
    for round in 1..=2_u64 {
        let before = path.back_address();
        path.rebind();
        assert_ne!(path.back_address(), before);
        let gap = longest_gap(&pictures, Duration::from_secs(5), || rebinds(&ingest) == round);
        eprintln!("change {round}: no picture for {gap:?} at most");
        assert!(gap < KEYFRAME_INTERVAL, "no picture for {gap:?} after change {round}");
    }
    assert_eq!(ingest.state(), "connected");
    assert_eq!(ingest.has_ended(), None);
    publisher.assert_unharmed();
    publisher.delete();
    path.stop();
}

#[test]
fn eight_publishers_on_one_port_go_on_when_the_address_of_one_changes() {
    let ingests: Vec<Ingest> = (0..8).map(|_| Ingest::start("")).collect();
    let publishers: Vec<(Publisher, LossyPath)> = ingests.iter().map(start).collect();
    let port = |ingest: &Ingest| ingest.stats().get::<u32>("udp-port").expect("a port");
    assert!(ingests.iter().all(|ingest| port(ingest) == port(&ingests[0])));
    publishers[3].1.rebind();
    wait_until("the change", SOON, || (rebinds(&ingests[0]) == 1).then_some(()));
    let before: Vec<u64> = ingests.iter().map(Ingest::frames).collect();
    for ((ingest, before), (publisher, _)) in ingests.iter().zip(before).zip(&publishers) {
        // 30 pictures and 50 packets of sound a second.
        wait_until("three more seconds of frames", SOON, || (ingest.frames() > before + 3 * 80).then_some(()));
        publisher.assert_unharmed();
        assert_eq!((ingest.state().as_str(), ingest.has_ended()), ("connected", None));
    }
    for (publisher, path) in publishers {
        publisher.delete();
        path.stop();
    }
}

fn start(ingest: &Ingest) -> (Publisher, LossyPath) {
    let path = LossyPath::percent(0);
    let options = Options { candidates: false, path: Some(path.clone()), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));
    (publisher, path)
}

fn count_pictures(ingest: &Ingest) -> Arc<AtomicU64> {
    let pictures = Arc::new(AtomicU64::new(0));
    let counted = pictures.clone();
    let sink = ingest.pipeline.by_name("video").and_then(|sink| sink.static_pad("sink")).expect("the sink");
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, SeqCst);
        gst::PadProbeReturn::Ok
    });
    pictures
}

fn rebinds(ingest: &Ingest) -> u64 {
    ingest.stats().get("udp-rebinds").expect("a figure")
}

/// Longest time without a picture, from now for at least this long, and until then.
fn longest_gap(pictures: &AtomicU64, at_least: Duration, until: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    let (mut seen, mut since, mut longest) = (pictures.load(SeqCst), start, Duration::ZERO);
    wait_until("the change", at_least + SOON, || {
        let now = pictures.load(SeqCst);
        longest = longest.max(since.elapsed());
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        (start.elapsed() >= at_least && until()).then_some(())
    });
    longest
}
