//! Publishers come and go, half of them without a word, and a bridge server holds no more than before.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use crate::common::cycles::{CLOCK, ONE_HEAP, Serving};

#[test]
fn two_hundred_publishers_leave_nothing_behind() {
    let serving = Serving::start(&ONE_HEAP);
    let first = serving.holding();
    serving.cycle(0, 100);
    let halfway = serving.settled(usize::MAX);
    serving.cycle(100, 200);
    let end = serving.settled(first.threads + CLOCK);
    eprintln!("before: {first:?}; after 100: {halfway:?}; after 200: {end:?}");
    assert!(end.threads <= first.threads + CLOCK, "{first:?} {end:?}");
    assert!(end.fds <= first.fds.max(halfway.fds), "{first:?} {halfway:?} {end:?}");
    let growth = end.rss_kib.saturating_sub(halfway.rss_kib) as f64 / halfway.rss_kib as f64;
    assert!(growth < 0.02, "grew by {:.1} % from the 100th to the 200th: {halfway:?} {end:?}", growth * 100.0);
    serving.launch.end_cleanly();
}

#[test]
fn gstreamers_leak_tracer_finds_nothing() {
    let serving = Serving::start(&[("GST_TRACERS", "leaks"), ("GST_DEBUG", "GST_TRACER:7")]);
    serving.cycle(0, 6);
    serving.settled(usize::MAX);
    let mut launch = serving.launch;
    launch.interrupt();
    assert!(launch.wait_exit(crate::common::SOON).success());
    let output = launch.output();
    // What is left is told with its type; the format of what may be told has %s in its place.
    let alive = "object-alive, type-name=(string)";
    let leaks: Vec<&str> =
        output.lines().filter(|line| line.contains(alive) && !line.contains(&format!("{alive}%s"))).collect();
    assert!(output.contains("GST_TRACER"), "the tracer was not there: {output}");
    assert!(leaks.is_empty(), "{leaks:#?}");
}
