//! The shared port under threads of their own: datagrams come while sessions begin, read and end.

use std::{
    future::poll_fn,
    io::IoSliceMut,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};

use tokio::runtime::{Builder, Handle};
use webrtc::runtime::{RecvMeta, Runtime as _};

use super::{IceCredentials, Mux, fuzzing, stun};

const SESSIONS: u32 = 150;
/// Of each kind, which a session reads before it ends.
const READ: usize = 3;
const PEERS: u16 = 2;

fn address(peer: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + peer))
}

/// The name of a peer's present session: the next one has another.
fn fragment(peer: u16, number: u32) -> String {
    format!("peer{peer}session{number:04}")
}

fn request(peer: u16, number: u32) -> Vec<u8> {
    let name = format!("{}:x", fragment(peer, number));
    let mut attributes = [&[0, 6][..], &(name.len() as u16).to_be_bytes(), name.as_bytes()].concat();
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    fuzzing::with_integrity(&attributes).unwrap()
}

fn media(peer: u16) -> Vec<u8> {
    [&[0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0][..], &peer.to_be_bytes()].concat()
}

/// Sessions of one peer, one after the other, each until it has read enough.
async fn sessions(mux: &Mux, peer: u16, present: &AtomicU32) {
    for number in 0..SESSIONS {
        let runtime = mux.runtime();
        let handle = runtime.handle();
        let placeholder = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let socket = runtime.wrap_udp_socket(placeholder).unwrap();
        let password = fuzzing::PASSWORD.to_owned();
        handle.add_credentials(IceCredentials { ufrag: fragment(peer, number), password });
        present.store(number, SeqCst);
        let (mut requests, mut packets) = (0, 0);
        while requests < READ || packets < READ {
            let mut memory = [0; 200];
            let mut meta = [RecvMeta::default()];
            let read = poll_fn(|context| socket.poll_recv(context, &mut [IoSliceMut::new(&mut memory)], &mut meta));
            assert_eq!(read.await.unwrap(), 1);
            let [RecvMeta { addr, len, .. }] = meta;
            assert_eq!(addr, address(peer), "another peer's");
            let datagram = &memory[..len];
            if let Some(named) = stun::local_ufrag(datagram) {
                assert_eq!(named, fragment(peer, number), "another session's");
                requests += 1;
            } else {
                assert_eq!(datagram, media(peer));
                packets += 1;
            }
        }
        // Its sockets and the runtime go on one thread while the reader is in its routes on another.
        drop((socket, runtime));
        handle.add_credentials(IceCredentials { ufrag: "late".into(), password: "late".into() });
    }
}

#[test]
fn sessions_that_come_and_go_on_threads_of_their_own_read_what_is_theirs_and_leave_no_route() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _guard = runtime.enter();
    let answered = Arc::new(AtomicU32::new(0));
    let mux = Mux::simulated(1, {
        let answered = answered.clone();
        move |_, _| _ = answered.fetch_add(1, SeqCst)
    })
    .unwrap();
    let present: [AtomicU32; PEERS as usize] = Default::default();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (peer, present) in (0..).zip(&present) {
            let (mux, over) = (&mux, &over);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    let number = present.load(SeqCst);
                    mux.deliver(address(peer), &request(peer, number));
                    mux.deliver(address(peer), &media(peer));
                    mux.deliver(address(peer), &request(peer, number.saturating_sub(1)));
                    std::thread::yield_now();
                }
            });
        }
        let all: Vec<_> = (0..)
            .zip(&present)
            .map(|(peer, present)| {
                let (mux, handle) = (&mux, Handle::current());
                scope.spawn(move || {
                    let _guard = handle.enter();
                    handle.block_on(sessions(mux, peer, present));
                })
            })
            .collect();
        let results: Vec<_> = all.into_iter().map(|thread| thread.join()).collect();
        over.store(true, SeqCst);
        assert!(results.iter().all(Result::is_ok));
    });
    assert!(mux.is_empty(), "routes are left over");
    assert!(answered.load(SeqCst) > 0, "who asks for a session that is over is told");
}
