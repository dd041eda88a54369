//! A bad network between publisher and bridge: a UDP relay that loses, doubles and delays what it is told to, and that
//! may get another address as behind a NAT that forgets.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    IsLost,
    ArrivesTwice,
    /// After the two that follow it.
    ArrivesLate,
}

/// Decides for each datagram by its direction; repeatable, so that a failure can be looked into.
type Decides = Box<dyn FnMut(Direction, &[u8]) -> Fate + Send>;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToBridge,
    ToPublisher,
}

/// A relay on this machine. The publisher is led to it by the candidate in the answer.
#[derive(Clone)]
pub struct LossyPath {
    shared: Arc<Shared>,
    ipv6: bool,
}

struct Shared {
    decides: Mutex<Decides>,
    lost: AtomicU64,
    disturbed: AtomicU64,
    stopped: AtomicBool,
    /// How often relaying was begun: the last one goes on alone.
    relays: AtomicU64,
    /// The relay's side towards the bridge, and which one it is.
    back: Mutex<Option<Arc<Back>>>,
}

struct Back {
    socket: UdpSocket,
    bridge: SocketAddr,
}

impl LossyPath {
    pub fn new(mut loses: impl FnMut(Direction, &[u8]) -> bool + Send + 'static) -> Self {
        Self::deciding(move |direction, datagram| if loses(direction, datagram) { Fate::IsLost } else { Fate::Arrives })
    }

    pub fn deciding(decides: impl FnMut(Direction, &[u8]) -> Fate + Send + 'static) -> Self {
        let shared = Shared {
            decides: Mutex::new(Box::new(decides)),
            lost: AtomicU64::new(0),
            disturbed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            relays: AtomicU64::new(0),
            back: Mutex::new(None),
        };
        Self { shared: Arc::new(shared), ipv6: false }
    }

    /// Loses `percent` of everything, both ways; each seed other ones.
    pub fn percent_seeded(percent: u64, seed: u64) -> Self {
        let mut random = dice(seed);
        Self::new(move |_, _| random() % 100 < percent)
    }

    /// Lets so many bits a second pass from the bridge, with room for a quarter of a second; everything the other way.
    pub fn limited(bits_per_second: Arc<AtomicU64>) -> Self {
        let (mut room, mut last) = (0.0_f64, Instant::now());
        Self::new(move |direction, datagram| {
            if direction == Direction::ToBridge {
                return false;
            }
            let rate = bits_per_second.load(SeqCst) as f64 / 8.0;
            room = (room + rate * last.elapsed().as_secs_f64()).min(rate / 4.0);
            last = Instant::now();
            let passes = room >= datagram.len() as f64;
            if passes {
                room -= datagram.len() as f64;
            }
            !passes
        })
    }

    /// Loses `percent` of everything, both ways.
    pub fn percent(percent: u64) -> Self {
        Self::percent_seeded(percent, 0)
    }

    /// Loses nothing, but doubles `doubled` and delays `delayed` percent of everything, both ways.
    pub fn disorderly(doubled: u64, delayed: u64) -> Self {
        let mut random = dice(0);
        Self::deciding(move |_, _| match random() % 100 {
            n if n < doubled => Fate::ArrivesTwice,
            n if n < doubled + delayed => Fate::ArrivesLate,
            _ => Fate::Arrives,
        })
    }

    /// Takes the answer's IPv6 candidate instead of its first IPv4 one.
    pub fn over_ipv6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    /// Datagrams lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(SeqCst)
    }

    /// Datagrams that were doubled or came late so far.
    pub fn disturbed(&self) -> u64 {
        self.shared.disturbed.load(SeqCst)
    }

    /// The address that the bridge sees.
    pub fn back_address(&self) -> SocketAddr {
        self.back().socket.local_addr().expect("its address")
    }

    /// Sends the bridge something of the test's own from the address that the bridge sees, as who forges that does.
    pub fn forge(&self, datagram: &[u8]) {
        let _ = self.back().socket.send(datagram);
    }

    /// Goes on from another port towards the bridge; what comes to the old one is not relayed any more.
    pub fn rebind(&self) {
        let bridge = self.back().bridge;
        *self.shared.back.lock().expect("lock") = Some(Arc::new(Back::new(bridge)));
    }

    /// Starts relaying to the answer's first candidate of the family, and puts the relay in its place.
    pub fn reroute(&self, answer: &str) -> String {
        // Not loopback where there is anything else: libnice never sends there.
        let address = |line: &str| -> Option<SocketAddr> {
            let mut fields = line.strip_prefix("a=candidate:")?.split(' ').skip(4);
            Some(SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let wanted = |line: &&str| address(line).is_some_and(|address| address.is_ipv6() == self.ipv6);
        let candidate = answer.lines().find(wanted).expect("a candidate of the family").to_owned();
        let bridge = address(&candidate).expect("its address");
        let front = UdpSocket::bind((bridge.ip(), 0)).expect("a socket");
        let front_port = front.local_addr().expect("its address").port();
        let relayed = candidate.replace(&format!(" {} ", bridge.port()), &format!(" {front_port} "));
        *self.shared.back.lock().expect("lock") = Some(Arc::new(Back::new(bridge)));
        self.relay(&front);
        let keeps = |line: &&str| !line.starts_with("a=candidate:") || *line == candidate;
        answer.lines().filter(keeps).map(|line| line.replace(&candidate, &relayed) + "\r\n").collect()
    }

    /// Starts relaying to the bridge's media port at this address; returns where publishers are to send to.
    pub fn before(&self, bridge: SocketAddr) -> SocketAddr {
        let front = UdpSocket::bind((bridge.ip(), 0)).expect("a socket");
        *self.shared.back.lock().expect("lock") = Some(Arc::new(Back::new(bridge)));
        self.relay(&front);
        front.local_addr().expect("its address")
    }

    fn relay(&self, front: &UdpSocket) {
        let publisher: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let number = self.shared.relays.fetch_add(1, SeqCst) + 1;
        front.set_read_timeout(Some(TICK)).expect("a timeout");
        for direction in [Direction::ToBridge, Direction::ToPublisher] {
            let (path, publisher, front) = (self.clone(), publisher.clone(), front.try_clone().expect("socket"));
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                let mut late: Option<(Vec<u8>, u8)> = None;
                while !path.shared.stopped.load(SeqCst) && path.shared.relays.load(SeqCst) == number {
                    let back = path.back();
                    let from = if direction == Direction::ToBridge { &front } else { &back.socket };
                    let Ok((length, address)) = from.recv_from(&mut buffer) else { continue };
                    let datagram = &buffer[..length];
                    if direction == Direction::ToBridge {
                        *publisher.lock().expect("lock") = Some(address);
                    } else if !Arc::ptr_eq(&back, &path.back()) {
                        continue; // it came to the old port
                    }
                    let deliver = |datagram: &[u8]| {
                        let _ = match (direction, *publisher.lock().expect("lock")) {
                            (Direction::ToBridge, _) => path.back().socket.send(datagram),
                            (Direction::ToPublisher, Some(publisher)) => front.send_to(datagram, publisher),
                            (Direction::ToPublisher, None) => Ok(0),
                        };
                    };
                    let fate = (path.shared.decides.lock().expect("lock"))(direction, datagram);
                    if matches!(fate, Fate::ArrivesTwice | Fate::ArrivesLate) {
                        path.shared.disturbed.fetch_add(1, SeqCst);
                    }
                    match fate {
                        Fate::IsLost => _ = path.shared.lost.fetch_add(1, SeqCst),
                        Fate::ArrivesLate if late.is_none() => {
                            late = Some((datagram.to_vec(), 2));
                            continue;
                        }
                        Fate::Arrives | Fate::ArrivesLate => deliver(datagram),
                        Fate::ArrivesTwice => {
                            deliver(datagram);
                            deliver(datagram);
                        }
                    }
                    if let Some((_, after)) = &mut late {
                        *after -= 1;
                    }
                    if let Some((datagram, _)) = late.take_if(|(_, after)| *after == 0) {
                        deliver(&datagram);
                    }
                }
            });
        }
    }

    fn back(&self) -> Arc<Back> {
        self.shared.back.lock().expect("lock").clone().expect("a path that is used")
    }

    /// Ends the relaying.
    pub fn stop(&self) {
        self.shared.stopped.store(true, SeqCst);
    }
}

/// How long a thread takes to notice that it is over, or that there is another socket.
const TICK: Duration = Duration::from_millis(100);

impl Back {
    fn new(bridge: SocketAddr) -> Self {
        let host: IpAddr = bridge.ip();
        let socket = UdpSocket::bind((host, 0)).expect("a socket");
        socket.connect(bridge).expect("the bridge's port");
        socket.set_read_timeout(Some(TICK)).expect("a timeout");
        Self { socket, bridge }
    }
}

/// xorshift64*: the same numbers for the same seed.
fn dice(seed: u64) -> impl FnMut() -> u64 + Send {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ seed.wrapping_mul(0xD134_2543_DE82_EF95);
    move || {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }
}

impl std::fmt::Debug for LossyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LossyPath({} lost)", self.lost())
    }
}
