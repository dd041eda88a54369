//! What a packet costs on its way out to viewers, on the media thread alone: `cargo bench --bench sending`.
//!
//! The floor is what cannot be left out: encrypting and handing to the kernel.

#![allow(clippy::print_stdout)]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::{
    net::UdpSocket,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    SOON,
    viewer::{Viewer, Wants},
    wait_until,
};
use gstwebrtcbridge::{
    codec::Codec,
    session::{
        CodecPreferences, ConnectionState, EndReason, History, Mux, Outgoing, OutgoingPacket, Outlet, PacketSink,
        RtpPacket, SendEvents, SenderReport, Sends, Session, SessionConfig, UdpPorts,
    },
};
use rtc::{
    rtp,
    shared::marshal::Marshal,
    srtp::{context::Context, protection_profile::ProtectionProfile},
};

const VIEWERS: usize = 20;
const PAYLOAD: usize = 1100;

struct Nowhere;

impl PacketSink for Nowhere {
    fn rtp(&self, _: usize, _: RtpPacket) {}
    fn sender_report(&self, _: usize, _: SenderReport) {}
    fn state_changed(&self, _: ConnectionState) {}
    fn ended(&self, _: EndReason) {}
    fn resumed(&self) {}
}

impl SendEvents for Nowhere {
    fn ready(&self) {}
    fn keyframe_wanted(&self, _: usize) {}
}

/// CPU time of the calling thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"))
}

fn main() {
    floor();
    through_the_outlet();
}

fn floor() {
    let crypto = rtc::crypto::default_provider().expect("a provider");
    let profile = ProtectionProfile::AeadAes128Gcm;
    let mut context = Context::new(&[1; 16], &[2; 12], profile, None, None, crypto.crypto()).expect("a context");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let target = other.local_addr().expect("an address");
    let payload = Bytes::from(vec![7; PAYLOAD]);
    let count = 50_000_u32;
    let start = cpu();
    let mut encrypted = 0;
    for number in 0..count {
        let header =
            rtp::Header { version: 2, sequence_number: number as u16, payload_type: 96, ssrc: 5, ..Default::default() };
        let packet = rtp::Packet { header, payload: payload.clone() }.marshal().expect("a packet");
        encrypted += context.encrypt_rtp(&packet).expect("encrypted").len();
    }
    let encrypting = (cpu() - start) / count;
    let datagram = vec![0; PAYLOAD + 40];
    let start = cpu();
    for _ in 0..count {
        let _ = socket.send_to(&datagram, target);
    }
    println!("floor: encrypting {encrypting:?}, sending {:?} a packet ({encrypted})", (cpu() - start) / count);
}

fn through_the_outlet() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let mux = Mux::shared(&handle, UdpPorts::Any).expect("a port");
    let config = SessionConfig {
        mux,
        codecs: CodecPreferences::default(),
        public_addresses: Vec::new(),
        connect_timeout: SOON,
        max_bitrate: 0,
        reach: None,
    };
    let history = Arc::<History>::default();
    let mut kept = Vec::new();
    let mut outlets: Vec<Outlet> = Vec::new();
    for _ in 0..VIEWERS {
        let viewer = Viewer::new(Wants::default());
        let (config, offer) = (config.clone(), viewer.offer().to_owned());
        let sends = Sends { tracks: vec![Outgoing::of(Codec::Vp8, "")], events: Arc::new(Nowhere), receives: false };
        let (done, answered) = mpsc::channel();
        handle.spawn(async move {
            let answering = Session::exchange(&config, &offer, true, Some(sends), |_| Arc::new(Nowhere), ());
            let _ = done.send(Box::pin(answering).await);
        });
        let answered = answered.recv_timeout(SOON).expect("in time").expect("an answer");
        viewer.answered(&answered.sdp);
        viewer.wait_connected();
        let outlet = answered.outlet.clone().expect("an outlet");
        wait_until("readiness", SOON, || outlet.is_ready().then_some(()));
        outlet.keep_in(0, history.clone());
        outlets.push(outlet);
        kept.push((viewer, answered));
    }
    for (packets, pause) in [(0, 33), (7, 33), (1, 5), (35, 166)] {
        let (done, measured) = mpsc::channel();
        let (outlets, history) = (outlets.clone(), history.clone());
        let sent: u64 = outlets.iter().map(|outlet| outlet.stats().tracks[0].unwrap().packets).sum();
        handle.spawn(async move {
            let payload = Bytes::from([&[0x10][..], &[1; PAYLOAD]].concat());
            let (start, began) = (cpu(), Instant::now());
            static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            let mut interval = tokio::time::interval(Duration::from_millis(pause));
            while began.elapsed() < Duration::from_secs(4) {
                interval.tick().await;
                let batch: Vec<OutgoingPacket> = (0..packets)
                    .map(|index| {
                        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        OutgoingPacket {
                            dependencies: None,
                            number,
                            timestamp: (number - index) as u32,
                            marker: index + 1 == packets,
                            starts_keyframe: index == 0,
                            stored: history.store(payload.clone()),
                            payload: payload.clone(),
                            renumbered: None,
                        }
                    })
                    .collect();
                for outlet in &outlets {
                    outlet.send(0, batch.iter().cloned());
                }
            }
            let _ = done.send((cpu() - start, began.elapsed()));
        });
        let (cpu, time) = measured.recv_timeout(SOON).expect("in time");
        let now: u64 = kept.iter().map(|(_, a)| a.outlet.as_ref().unwrap().stats().tracks[0].unwrap().packets).sum();
        let count = (now - sent).max(1) as u32;
        let got: usize = kept.iter().map(|(viewer, _)| viewer.count(96)).sum();
        println!(
            "{packets} every {pause} ms to {VIEWERS}: {count} packets, {:?} each, {:.1} % of the thread; {got} came in all",
            cpu / count,
            100.0 * cpu.as_secs_f64() / time.as_secs_f64()
        );
    }
}
