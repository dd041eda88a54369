//! A bad network between publisher and bridge: a UDP relay that loses what it is told to.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// Which datagrams get lost. Called for each with its direction; repeatable, so that a failure can be looked into.
type Loses = Box<dyn FnMut(Direction, &[u8]) -> bool + Send>;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToBridge,
    ToPublisher,
}

/// A relay on this machine. The publisher is led to it by the candidate in the answer.
#[derive(Clone)]
pub struct LossyPath {
    loses: Arc<Mutex<Loses>>,
    lost: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl LossyPath {
    pub fn new(loses: impl FnMut(Direction, &[u8]) -> bool + Send + 'static) -> Self {
        Self { loses: Arc::new(Mutex::new(Box::new(loses))), lost: Arc::default(), stopped: Arc::default() }
    }

    /// Loses `percent` of everything, both ways.
    pub fn percent(percent: u64) -> Self {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        Self::new(move |_, _| {
            // xorshift64*
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % 100 < percent
        })
    }

    /// Datagrams lost so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(SeqCst)
    }

    /// Starts relaying to the answer's first candidate, and puts the relay in its place.
    pub fn reroute(&self, answer: &str) -> String {
        // Not loopback where there is anything else: libnice never sends there.
        let candidate = answer.lines().find(|line| line.starts_with("a=candidate:")).expect("a candidate").to_owned();
        let mut fields = candidate.split(' ').skip(4);
        let host: IpAddr = fields.next().and_then(|host| host.parse().ok()).expect("its address");
        let port: u16 = fields.next().and_then(|port| port.parse().ok()).expect("its port");
        let front = UdpSocket::bind((host, 0)).expect("a socket");
        let back = UdpSocket::bind((host, 0)).expect("a socket");
        back.connect((host, port)).expect("the bridge's port");
        let relayed =
            candidate.replace(&format!(" {port} "), &format!(" {} ", front.local_addr().expect("port").port()));
        self.relay(front, back);
        let keeps = |line: &&str| !line.starts_with("a=candidate:") || *line == candidate;
        answer.lines().filter(keeps).map(|line| line.replace(&candidate, &relayed) + "\r\n").collect()
    }

    fn relay(&self, front: UdpSocket, back: UdpSocket) {
        let publisher: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        for direction in [Direction::ToBridge, Direction::ToPublisher] {
            let (path, publisher) = (self.clone(), publisher.clone());
            let (front, back) = (front.try_clone().expect("socket"), back.try_clone().expect("socket"));
            std::thread::spawn(move || {
                let from = if direction == Direction::ToBridge { &front } else { &back };
                from.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
                let mut buffer = [0; 2048];
                while !path.stopped.load(SeqCst) {
                    let Ok((length, address)) = from.recv_from(&mut buffer) else { continue };
                    let datagram = &buffer[..length];
                    if (path.loses.lock().expect("lock"))(direction, datagram) {
                        path.lost.fetch_add(1, SeqCst);
                        continue;
                    }
                    if direction == Direction::ToBridge {
                        *publisher.lock().expect("lock") = Some(address);
                        let _ = back.send(datagram);
                    } else if let Some(publisher) = *publisher.lock().expect("lock") {
                        let _ = front.send_to(datagram, publisher);
                    }
                }
            });
        }
    }

    /// Ends the relaying.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }
}

impl std::fmt::Debug for LossyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LossyPath({} lost)", self.lost())
    }
}
