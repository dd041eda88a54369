//! Connecting through a network that loses packets: every time, whichever side opens the DTLS handshake.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use std::time::{Duration, Instant};

use crate::common::{
    ingest::Ingest,
    lossy::LossyPath,
    publisher::{Options, Publisher, Video},
    wait_until,
};

/// A publisher's own retransmissions wait 1, 2, 4 s (OpenSSL); several may get lost in a row.
const PATIENCE: Duration = Duration::from_secs(25);
const WORKERS: u64 = 5;
const CONNECTS_EACH: u64 = 10;

#[test]
fn fifty_connects_at_8_percent_loss_as_dtls_server() {
    all_connect("active");
}

#[test]
fn fifty_connects_at_8_percent_loss_as_dtls_client() {
    all_connect("passive");
}

/// `setup`: the publisher's DTLS role.
fn all_connect(setup: &'static str) {
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            std::thread::spawn(move || {
                let ingest = Ingest::start("connect-timeout=30000");
                let connect = |round| connect(&ingest, setup, worker * CONNECTS_EACH + round);
                (0..CONNECTS_EACH).map(connect).collect::<Vec<Duration>>()
            })
        })
        .collect();
    let mut times: Vec<Duration> = workers.into_iter().flat_map(|w| w.join().expect("all connects")).collect();
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("{} connects: {median:?} (median), {longest:?} (longest)", times.len());
}

/// Connects once, until media has arrived; returns how long that took.
fn connect(ingest: &Ingest, setup: &'static str, seed: u64) -> Duration {
    let path = LossyPath::percent_seeded(8, seed);
    let options = Options {
        video: Some(Video::H264),
        audio: false,
        candidates: false,
        setup: Some(setup),
        path: Some(path.clone()),
        ..Options::default()
    };
    let frames = ingest.frames();
    let start = Instant::now();
    let publisher = Publisher::offer(&ingest.url(), options).expect("an answer");
    publisher.wait_connected(PATIENCE);
    wait_until("a frame", PATIENCE, || (ingest.frames() > frames).then_some(()));
    let took = start.elapsed();
    publisher.delete();
    path.stop();
    took
}
