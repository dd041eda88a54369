//! What a network does to one destination: its counters and warnings say which fault it was, it comes back by itself, and the
//! recordings of the others have no gap.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    rtmp_support::{KEY, Server, check_without_gap, read_flv, wait_for},
    stage::{Stage, TROUBLED},
    tls_front::TlsFront,
};

/// Runs `first` with the first connection and what it is for; all others are passed on as they are. Returns the port.
fn relay(server: u16, first: impl FnOnce(TcpStream, TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut first = Some(first);
        for client in listener.incoming().flatten() {
            let upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            if let Some(first) = first.take() {
                std::thread::spawn(move || first(client, upstream));
                continue;
            }
            pass(&client, &upstream);
            pass(&upstream, &client);
        }
    });
    port
}

/// Passes on everything that one says, in a thread that ends with it.
fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// Whether a condition holds, for threads that wait for it.
#[derive(Clone, Default)]
struct Flag(Arc<(Mutex<bool>, Condvar)>);

impl Flag {
    fn set(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |set| !*set).unwrap());
    }
}

#[test]
fn connection_that_is_reset_in_the_middle_of_a_tag() {
    let troubled = Server::start();
    let cut = Flag::default();
    let port = relay(troubled.port(), {
        let cut = cut.clone();
        move |mut client, mut upstream| {
            pass(&upstream, &client);
            cut.wait_meanwhile(&mut client, &mut upstream);
            // An odd number of bytes more: no tag or chunk ends there.
            let mut some = [0; 1013];
            client.read_exact(&mut some).unwrap();
            upstream.write_all(&some).unwrap();
            for stream in [&client, &upstream] {
                // Closing is a reset then.
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            let _ = upstream.shutdown(std::net::Shutdown::Both);
        }
    });
    let mut stage = Stage::start(&format!("rtmp://127.0.0.1:{port}/live/{KEY}"), "");
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    let before = stage.failures("lost");
    cut.set();
    wait_for("the loss to be noticed", || stage.failures("lost") > before);
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.pipeline.wait_for_frames(TROUBLED, 80);
    stage.others_go_on();
    let warnings = stage.warnings();
    assert!(warnings.contains("closed the connection") && !warnings.contains(KEY), "{warnings}");
    stage.assert_others_unharmed();
    check_without_gap(&troubled.whole_recording());
    // Of the tag that was cut through nothing is there.
    let recordings = troubled.recordings();
    assert_eq!(recordings.len(), 2, "one for each connection");
    assert!(!read_flv(&recordings[0]).is_empty());
}

#[test]
fn connection_that_is_half_open() {
    let troubled = Server::start();
    let (cut, over) = (Flag::default(), Flag::default());
    let port = relay(troubled.port(), {
        let (cut, over) = (cut.clone(), over.clone());
        move |mut client, mut upstream| {
            pass(&upstream, &client);
            cut.wait_meanwhile(&mut client, &mut upstream);
            // The kernel throws away whatever comes for this socket, before TCP sees it: nothing is acknowledged, and
            // nobody is told. BPF: return 0 bytes of each packet.
            let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
            socket2::SockRef::from(&client).attach_filter(&nothing).unwrap();
            over.wait();
            let _ = upstream.shutdown(std::net::Shutdown::Both); // the server's own timeout
        }
    });
    let location = format!("rtmp://127.0.0.1:{port}/live/{KEY}");
    let mut stage = Stage::start_at(12_000, &location, "stall-timeout=1000 max-queue-time=1000");
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    cut.set();
    assert!(stage.wait_for_failure("stalled").contains("stall-timeout"));
    // The server knows of nothing, and holds the stream: it is asked until it lets go.
    assert!(stage.wait_for_failure("refused").contains("refused the stream"));
    stage.others_go_on();
    over.set();
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.pipeline.wait_for_frames(TROUBLED, 80);
    let warnings = stage.warnings();
    assert!(warnings.contains("takes no more data") && warnings.contains("check the uplink"), "{warnings}");
    stage.assert_others_unharmed();
    check_without_gap(&troubled.whole_recording());
}

impl Flag {
    /// Passes on what a client says until the flag is set.
    fn wait_meanwhile(&self, client: &mut TcpStream, upstream: &mut TcpStream) {
        let mut buffer = [0; 16 << 10];
        while !*self.0.0.lock().unwrap() {
            let count = client.read(&mut buffer).unwrap();
            upstream.write_all(&buffer[..count]).unwrap();
        }
    }
}

#[test]
fn certificate_that_has_expired() {
    let troubled = Server::start();
    let front = TlsFront::expired(troubled.port());
    let location = format!("rtmps://localhost:{}/live/{KEY}", front.port());
    // Everything but who has signed it.
    let flags = "tls-validation-flags=bad-identity+not-activated+expired+revoked+insecure+generic-error";
    let mut stage = Stage::start(&location, flags);
    stage.others_go_on();
    let words = stage.wait_for_failure("certificate");
    assert!(words.contains("Expired"), "{words}");
    stage.others_go_on();
    let warnings = stage.warnings();
    assert!(warnings.contains("Expired") && warnings.contains("this machine's clock"), "{warnings}");
    assert_eq!(front.accepted(), 0, "nothing was said to it");
    stage.assert_others_unharmed();
    assert!(troubled.recordings().is_empty());
}

/// With a name server of the test's own, which takes a network and a resolv.conf of the test's own.
#[test]
fn name_server_that_is_gone_and_one_that_is_mute() {
    let dir = tempfile::tempdir().unwrap();
    let (resolv, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    std::fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let script = "ip link set lo up && mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/hosts \
        && shift 2 && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--map-root-user", "sh", "-c", script, "sh"])
        .args([&resolv, &hosts])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "faults_are_told::with_a_name_server_that_fails"])
        .env("DNS_TEST", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// What the name server does.
const ANSWERS: u8 = 0;
const KNOWS_NOTHING: u8 = 1;
const MUTE: u8 = 2;

#[test]
#[ignore = "the part of another test that runs in a network of its own"]
fn with_a_name_server_that_fails() {
    if std::env::var("DNS_TEST").is_err() {
        return;
    }
    let names = name_server();
    let mut troubled = Server::start();
    let location = format!("rtmp://ingest.example:{}/live/{KEY}", troubled.port());
    let mut stage = Stage::start(&location, "connect-timeout=3000");
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.others_go_on();
    assert_eq!(stage.failures("dns"), 0);

    names.store(KNOWS_NOTHING, SeqCst);
    troubled.kill();
    let words = stage.wait_for_failure("dns");
    assert!(words.contains("cannot be resolved"), "{words}");
    stage.others_go_on();

    names.store(MUTE, SeqCst);
    let _ = stage.wait_for_failure("dns"); // one that was asked before may have been answered
    let _ = stage.wait_for_failure("dns");
    stage.others_go_on();

    troubled.restart();
    names.store(ANSWERS, SeqCst);
    stage.pipeline.wait_until_is(TROUBLED, "live");
    stage.pipeline.wait_for_frames(TROUBLED, 80);
    // One outage, one warning, which is of what began it; what has become of it is in the messages of each change.
    let warnings = stage.warnings();
    assert!(warnings.contains("closed the connection"), "{warnings}");
    let told = stage.pipeline.seen.iter().any(|said| said.contains("retrying") && said.contains("cannot be resolved"));
    assert!(told, "{:#?}", stage.pipeline.seen);
    stage.assert_others_unharmed();
    check_without_gap(&troubled.whole_recording());
}

/// Answers every question for an IPv4 address with 127.0.0.1, or does what it is told.
fn name_server() -> Arc<AtomicU8> {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let conduct = Arc::new(AtomicU8::new(ANSWERS));
    std::thread::spawn({
        let conduct = conduct.clone();
        move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let conduct = conduct.load(SeqCst);
                // The name ends with an empty label; type and class follow.
                let name = query[12..length].iter().position(|byte| *byte == 0).unwrap();
                let question = &query[12..12 + name + 5];
                let is_a = question[name + 1..] == [0, 1, 0, 1];
                let (code, answers) = match conduct {
                    MUTE => continue,
                    KNOWS_NOTHING => (3, 0),
                    _ => (0, u8::from(is_a)),
                };
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
                answer.extend(question);
                if answers > 0 {
                    answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
                }
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    conduct
}
