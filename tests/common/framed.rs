//! A network that lets TCP through and nothing else: what a publisher sends by UDP goes on in the frames of RFC 4571.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

/// A connection to the passive candidate of an answer.
pub struct FramedPath {
    stream: TcpStream,
    carried: Arc<AtomicU64>,
}

/// The answer's passive TCP candidates.
pub fn passive_candidates(answer: &str) -> Vec<&str> {
    let is_one = |line: &&str| line.starts_with("a=candidate:") && line.contains(" tcp ");
    answer.lines().filter(is_one).collect()
}

/// An answer with these candidates only.
pub fn with_candidates(answer: &str, keeps: impl Fn(&str) -> bool) -> String {
    let kept = answer.lines().filter(|line| !line.starts_with("a=candidate:") || keeps(line));
    kept.map(|line| format!("{line}\r\n")).collect()
}

pub fn address(candidate: &str) -> SocketAddr {
    let mut fields = candidate.split(' ').skip(4);
    let (address, port) = (fields.next().expect("an address"), fields.next().expect("a port"));
    SocketAddr::new(address.parse().expect("an address"), port.parse().expect("a port"))
}

impl FramedPath {
    /// Connects, and leads the publisher there in place of all that the answer names.
    pub fn reroute(answer: &str) -> (Self, String) {
        let candidate = passive_candidates(answer).into_iter().find(|line| address(line).is_ipv4());
        let candidate = candidate.expect("a passive TCP candidate").to_owned();
        let bridge = address(&candidate);
        let stream = TcpStream::connect(bridge).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let front = UdpSocket::bind((bridge.ip(), 0)).expect("a socket");
        let port = front.local_addr().expect("its address").port();
        let publisher: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let carried = Arc::<AtomicU64>::default();
        let (mut to, socket, known, count) =
            (stream.try_clone().expect("it"), front.try_clone().expect("it"), publisher.clone(), carried.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                *known.lock().expect("lock") = Some(from);
                let frame = [&(length as u16).to_be_bytes()[..], &buffer[..length]].concat();
                if to.write_all(&frame).is_err() {
                    return;
                }
                count.fetch_add(1, SeqCst);
            }
        });
        let mut from = stream.try_clone().expect("it");
        std::thread::spawn(move || {
            let mut length = [0; 2];
            while from.read_exact(&mut length).is_ok() {
                let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
                if from.read_exact(&mut datagram).is_err() {
                    return;
                }
                if let Some(publisher) = *publisher.lock().expect("lock") {
                    let _ = front.send_to(&datagram, publisher);
                }
            }
        });
        let led = format!("a=candidate:1 1 udp 2130706431 {} {port} typ host", bridge.ip());
        let text: String = with_candidates(answer, |line| line == candidate).replace(&candidate, &led);
        (Self { stream, carried }, text)
    }

    /// Datagrams that went to the bridge by it.
    pub fn carried(&self) -> u64 {
        self.carried.load(SeqCst)
    }
}

impl Drop for FramedPath {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
