//! What is done for each packet or frame, alone: `cargo bench --bench hot_paths`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use gstwebrtcbridge::{
    channel::{ChannelLimits, Claim, Credential, MemoryRegistry, Registry as _},
    codec::Codec,
    flv,
    forward::measured::OneViewer,
    session::RtpPacket,
};

/// A picture of 2 Mbit/s at 30 a second, and an AAC frame of 128 kbit/s.
const PICTURE: usize = 8333;
const SOUND: usize = 341;
/// As many as a server has unless told.
const CHANNELS: usize = 100;

fn tags(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flv");
    let picture = Bytes::from(vec![0x55; PICTURE]);
    group.bench_function("a picture's tag", |bencher| {
        bencher.iter(|| flv::avc_access_unit(black_box(4711), 0, false, &picture));
    });
    let sound = Bytes::from(vec![0x55; SOUND]);
    group.bench_function("an AAC frame's tag", |bencher| bencher.iter(|| flv::aac_raw(black_box(4711), &sound)));
    group.finish();
}

/// A server's registry that is as full as it may be, asked as each POST and each list asks it.
fn registry(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let limits = ChannelLimits { max_channels: CHANNELS, ttl: Duration::from_secs(3600) };
    let registry = MemoryRegistry::new(limits, runtime.handle());
    let claim = || Claim {
        credential: Credential::of("a token"),
        last_media: Arc::new(|| Some(Instant::now())),
        is_private: false,
    };
    let id = |number: usize| format!("channel-{number}").parse().expect("a name");
    let _live: Vec<_> =
        (1..CHANNELS).map(|number| runtime.block_on(registry.publish(&id(number), claim())).expect("room")).collect();
    let mut group = criterion.benchmark_group("registry");
    let one = id(0);
    group.bench_function("publishing and leaving", |bencher| {
        bencher.iter(|| runtime.block_on(registry.publish(&one, claim())).expect("room"));
    });
    group.bench_function("the list", |bencher| bencher.iter(|| runtime.block_on(registry.list())));
    group.finish();
}

/// A packet of a picture in eight, to one viewer.
fn forwarding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let payload = Bytes::from([&[0x7c, 0x05][..], &[0x55; 1100]].concat());
    let begin = Instant::now();
    for codec in [Codec::H264, Codec::Vp8] {
        let (mut viewer, mut number) = (OneViewer::new(codec), 0_u32);
        group.bench_function(format!("a packet of {codec}"), |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(1);
                viewer.forward(RtpPacket {
                    marker: number % 8 == 7,
                    payload_type: 102,
                    sequence_number: number as u16,
                    timestamp: number / 8 * 3000,
                    ssrc: 1,
                    payload: payload.clone(),
                    arrival: begin + Duration::from_micros(500) * number,
                    dependencies: None,
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tags, registry, forwarding);
criterion_main!(benches);
