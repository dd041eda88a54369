//! A publisher whose audio takes longer than its video: sender reports tell, and the pads' timestamps come together.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::{
    SOON, clip,
    ingest::Ingest,
    publisher::{Options, Publisher},
    wait_until,
};
use gst::prelude::*;

/// Timestamps of the frames that came out of a pad.
type Seen = Arc<Mutex<Vec<gst::ClockTime>>>;

fn watch(ingest: &Ingest) -> [Seen; 2] {
    let seen = [Seen::default(), Seen::default()];
    let [video, audio] = seen.clone();
    let element = ingest.pipeline.by_name("in").expect("the element");
    element.connect_pad_added(move |_, pad| {
        let seen = if pad.name().starts_with("video") { &video } else { &audio }.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            seen.lock().unwrap().push(info.buffer().and_then(|buffer| buffer.pts()).expect("a PTS"));
            gst::PadProbeReturn::Ok
        });
    });
    seen
}

/// By how many ms frames are later than the first of their track was captured and each is of this duration.
fn place(seen: &Seen, interval: f64, frame: impl Fn(usize) -> usize) -> Option<f64> {
    let seen = seen.lock().unwrap();
    let frame = frame(seen.len());
    seen.get(frame).map(|pts| pts.nseconds() as f64 / 1e6 - frame as f64 * interval)
}

#[test]
fn audio_that_is_sent_150_ms_late_is_in_sync_10_s_after_both_reports() {
    let ingest = Ingest::start("");
    let [video, audio] = watch(&ingest);
    let options = Options { audio_delay: Duration::from_millis(150), ..Options::default() };
    let publisher = Publisher::start_with(&ingest.url(), options);
    let frame_time = 1000.0 / clip::FPS as f64;
    let offset = |frame: fn(usize) -> usize| Some(place(&audio, 20.0, frame)? - place(&video, frame_time, frame)?);
    let now = || offset(|count| count.saturating_sub(1));

    let start = wait_until("frames", SOON, || offset(|_| 5));
    assert!((start - 150.0).abs() < 25.0, "at the start {start} ms");
    let told = || ingest.stats().get::<f64>("sync-offset").ok();
    let reported = wait_until("reports of both tracks", SOON, || told().map(|_| Instant::now()));
    let in_sync = wait_until("sync", SOON, || now().filter(|now| now.abs() <= 40.0).map(|_| Instant::now()));
    assert!(in_sync - reported <= Duration::from_secs(10), "took {:?}", in_sync - reported);
    assert!(
        in_sync - reported >= Duration::from_secs(4),
        "faster than 10 ms a second on each: {:?}",
        in_sync - reported
    );
    wait_until("the last of it to be gone", SOON, || {
        let (told, now) = (told()?, now()?);
        (told.abs() < 10.0 && now.abs() < 20.0).then_some(())
    });
    for seen in [&video, &audio] {
        assert!(seen.lock().unwrap().is_sorted());
    }
    let stats = ingest.stats();
    assert_eq!(stats.get::<bool>("in-sync").ok(), Some(true), "{stats}");
    assert_eq!(stats.get::<u64>("sender-reports-rejected").ok(), Some(0), "{stats}");
    publisher.delete();
}
