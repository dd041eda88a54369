//! A source under threads of their own: one publisher's packets, viewers that come and go, those who look on, and the next
//! publisher.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tokio::{runtime::Handle, task::yield_now};

use super::*;
use crate::codec::Codec;

const PACKETS: u16 = 2000;
/// With those that come and go no crowd, whose sound waits.
const STAYING: usize = 3;
const GUESTS: usize = 60;

fn sound() -> Track {
    Track {
        index: 0,
        mid: None,
        codec: Codec::Opus,
        payload_type: 96,
        channels: 2,
        fmtp: String::new(),
        rtx: None,
        red: None,
        ssrcs: Vec::new(),
        feedback: Vec::new(),
    }
}

fn packet(number: u16) -> RtpPacket {
    RtpPacket {
        dependencies: None,
        marker: false,
        payload_type: 96,
        sequence_number: number,
        timestamp: u32::from(number) * 960,
        ssrc: 1,
        payload: Bytes::from_static(&[1; 50]),
        arrival: Instant::now(),
    }
}

/// A viewer whose session is there at once.
fn view(source: &Source) -> (Viewer, Outlet) {
    let joining = source.join();
    let outlet = Outlet::waiting(joining.events());
    (joining.begin_with(Some(&outlet), &[sound()]).unwrap(), outlet)
}

/// What has been handed over to it, whether it waits still or not.
fn came(outlet: &Outlet) -> u64 {
    let stats = outlet.stats();
    stats.waiting as u64 + stats.tracks.iter().flatten().map(|track| track.dropped).sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_stays_gets_every_packet_while_others_come_and_go_on_threads_of_their_own() {
    let source = Arc::new(Source::new(&Handle::current()));
    let publication = source.publish(&[sound()], None);
    let stay: Vec<_> = (0..STAYING).map(|_| view(&source)).collect();
    let over = Arc::new(AtomicBool::new(false));

    let publishes = tokio::task::spawn_blocking(move || {
        for number in 0..PACKETS {
            publication.rtp(0, packet(number));
            if number % 16 == 0 {
                std::thread::yield_now();
            }
        }
        publication
    });
    let guests: Vec<_> = (0..2)
        .map(|_| {
            let source = source.clone();
            tokio::task::spawn_blocking(move || {
                for _ in 0..GUESTS {
                    let (viewer, outlet) = view(&source);
                    viewer.limit_layers(LayerLimits::default());
                    outlet.limit_estimate(1_000_000);
                    std::thread::yield_now();
                    drop(viewer);
                }
            })
        })
        .collect();
    let looks_on = tokio::task::spawn_blocking({
        let (source, over) = (source.clone(), over.clone());
        move || {
            while !over.load(Relaxed) {
                assert!(source.stats().viewers >= STAYING && source.program().borrow().is_live);
                let _ = (source.estimates(), source.bounds(Instant::now()));
                source.set_useful(1_000_000);
                std::thread::yield_now();
            }
        }
    });
    let publication = publishes.await.unwrap();
    for guest in guests {
        guest.await.unwrap();
    }
    over.store(true, Relaxed);
    looks_on.await.unwrap();

    for (_, outlet) in &stay {
        while came(outlet) < u64::from(PACKETS) {
            yield_now().await;
        }
        assert_eq!(came(outlet), u64::from(PACKETS), "none comes twice");
    }
    assert_eq!(source.stats(), SourceStats { viewers: STAYING, overflowed: 0 });
    assert_eq!(lock(&source.inner.outlets).len(), STAYING, "who has gone left something behind");

    let next = source.publish(&[Track { codec: Codec::Pcmu, ..sound() }], None);
    drop(publication);
    assert!(source.program().borrow().is_live, "the end of the one before is none of the next one's");
    for (viewer, _) in &stay {
        assert_eq!(*viewer.changes().borrow(), ViewerChange::Renegotiate);
    }
    drop((next, stay));
    assert!(!source.program().borrow().is_live && lock(&source.inner.outlets).is_empty());
}
