//! What happens to one destination is nobody else's business: its server dies, freezes, refuses or is slow, and the
//! recordings of the others have no gap.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    rtmp_support::{KEY, Pipeline, Server, check_gaps_end_at_keyframes, check_recording, check_without_gap, wait_for},
    stage::{STREAM, Stage, TROUBLED},
};

#[test]
fn server_killed_and_restarted() {
    let mut troubled = Server::start();
    let stage = Stage::start(&troubled.url(), "");
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    troubled.kill();
    stage.pipeline.wait_until_is(TROUBLED, "retrying");
    stage.others_go_on();
    troubled.restart();
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    stage.assert_others_unharmed();
    check_without_gap(&troubled.recording());
}

#[test]
fn server_stopped_and_continued() {
    let troubled = Server::start();
    let stage = Stage::start_at(12_000, &troubled.url(), "stall-timeout=1000 max-queue-time=1000");
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    troubled.freeze(true);
    // What the sockets hold has to be full first.
    stage.pipeline.wait_until_is(TROUBLED, "retrying");
    stage.others_go_on();
    troubled.freeze(false);
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    stage.assert_others_unharmed();
}

#[test]
fn server_that_says_403() {
    let hook = forbidding_hook();
    let troubled = Server::start_with(&format!("on_publish {hook};"));
    let mut stage = Stage::start(&troubled.url(), "");
    stage.pipeline.wait_until_is(TROUBLED, "retrying");
    stage.others_go_on();
    let warnings = stage.pipeline.messages("warning").join("\n");
    assert!(warnings.contains("closed the connection") && warnings.contains("check the application"), "{warnings}");
    stage.assert_others_unharmed();
}

#[test]
fn server_that_refuses_the_stream() {
    let troubled = Server::start();
    let holder = Pipeline::start(&format!("{STREAM} rtmpbridgesink name=sink location={}", troubled.url()));
    holder.wait_until_is(0, "live");
    let mut stage = Stage::start(&troubled.url(), "");
    stage.pipeline.wait_until_is(TROUBLED, "refused");
    stage.others_go_on();
    let warnings = stage.pipeline.messages("warning").join("\n");
    assert!(warnings.contains("gave up on") && warnings.contains("check the stream key"), "{warnings}");
    assert!(!warnings.contains(KEY), "{warnings}");
    stage.assert_others_unharmed();
}

#[test]
fn server_that_is_not_there() {
    let stage = Stage::start(&Server::stopped().url(), "");
    stage.pipeline.wait_until_is(TROUBLED, "retrying");
    stage.others_go_on();
    stage.assert_others_unharmed();
}

#[test]
fn server_that_never_answers() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let stage = Stage::start(&format!("rtmp://{}/live/{KEY}", mute.local_addr().unwrap()), "connect-timeout=1000");
    stage.others_go_on();
    stage.pipeline.wait_until_is(TROUBLED, "retrying");
    stage.others_go_on();
    stage.assert_others_unharmed();
}

#[test]
fn server_that_reads_a_quarter_of_the_stream() {
    let troubled = Server::start();
    let speed = Arc::new(AtomicU64::new(1_000_000 / 8));
    let slow = slow_relay(troubled.port(), speed.clone());
    let stage = Stage::start(&format!("rtmp://127.0.0.1:{slow}/live/{KEY}"), "max-queue-time=1000");
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    let count = |name| stage.pipeline.destination_at(TROUBLED).unwrap().get::<u64>(name).unwrap();
    let dropped = count("dropped");
    wait_for("the backlog to be cut", || count("dropped") > dropped + 10);
    stage.others_go_on();
    assert_eq!(stage.pipeline.destination_at(TROUBLED).unwrap().get::<u32>("reconnects"), Ok(0), "slow is not dead");
    // The kernel holds half a minute of this by now: let it arrive, and what is sent from then on.
    speed.store(u64::MAX, Ordering::Relaxed);
    stage.pipeline.wait_for_frames(TROUBLED, 80);
    stage.assert_others_unharmed();
    wait_for("the slow one to hear the end", || troubled.saw_goodbye());
    check_recording(&troubled.recording());
    assert!(check_gaps_end_at_keyframes(&troubled.recording()) > 0);
}

/// An HTTP server that answers 403 to everything, as a key check does that knows no such key. Returns its URL.
fn forbidding_hook() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    url
}

/// Relays to a server no more than so many bytes a second, with little room on the way. Returns its port.
fn slow_relay(server: u16, bytes_per_second: Arc<AtomicU64>) -> u16 {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(16 << 10).unwrap(); // accepted sockets have it from here
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(8).unwrap();
    let listener = TcpListener::from(listener);
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut answers, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            let bytes_per_second = bytes_per_second.clone();
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    if upstream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                    let takes = count as u64 * 1_000_000 / bytes_per_second.load(Ordering::Relaxed);
                    std::thread::sleep(Duration::from_micros(takes));
                }
                let _ = upstream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    port
}
