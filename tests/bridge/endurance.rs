//! Publishers come and go, half of them without a word, and a bridge server holds no more than before.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use crate::common::cycles::{CLOCK, ONE_HEAP, Serving};

/// Publishers in a round.
const ROUND: usize = 100;
/// The heap is as high as it had to be when the most peers were there at once, though hardly anything in it is in use any more
/// (17 of 77 MB after 2,000 publishers). How many were there at once is a matter of the machine's load: with twelve of this test
/// beside each other five rounds raise it, up to what one round alone takes at other times (97 MB). A leak grows in each.
const ROUNDS: usize = 10;

#[test]
fn hundreds_of_publishers_leave_nothing_behind() {
    let serving = Serving::start(&ONE_HEAP);
    let first = serving.holding();
    let threads = first.threads + CLOCK;
    serving.cycle(0, ROUND);
    let mut rounds = vec![serving.settled(threads)];
    let mut grown = f64::INFINITY;
    while grown >= 0.02 && rounds.len() <= ROUNDS {
        let done = ROUND * rounds.len();
        let before = rounds[rounds.len() - 1];
        serving.cycle(done, done + ROUND);
        let after = serving.settled(threads);
        grown = after.rss_kib.saturating_sub(before.rss_kib) as f64 / before.rss_kib as f64;
        rounds.push(after);
    }
    eprintln!("before: {first:?}; after each round: {rounds:?}");
    let end = rounds[rounds.len() - 1];
    assert!(end.threads <= threads, "{first:?} {rounds:?}");
    assert!(end.fds <= first.fds.max(rounds[0].fds), "{first:?} {rounds:?}");
    assert!(grown < 0.02, "grew in every round, by {:.1} % in the last: {rounds:?}", grown * 100.0);
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
