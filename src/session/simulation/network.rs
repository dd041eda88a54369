//! A network of two hosts, a client that may be behind a NAT and a server: what is sent is lost, held up, doubled or delivered
//! on the virtual clock, as the scenario has it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{dice::Dice, scenario::Scenario};
use crate::session::{Mux, MuxError, time};

/// What waits at a bottleneck at most, as in a home router.
pub(super) const QUEUE: Duration = Duration::from_millis(200);

pub(super) const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 5000);
pub(super) const CLIENT: ([u8; 4], u16) = ([10, 1, 2, 3], 6000);
const NAT: [u8; 4] = [198, 51, 100, 7];

/// What became of the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// To or from where nobody is (any more).
    pub(crate) astray: u64,
    /// The largest that was sent.
    pub(crate) largest: usize,
}

/// The network, as long as it is [`run`](Self::run).
pub(super) struct Network {
    scenario: Scenario,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    ways: [Way; 2],
    flying: BinaryHeap<Reverse<Flying>>,
    numbered: u64,
    connected: Option<Instant>,
    /// The port that the client has at its NAT, and whom it has written to from there.
    nat: (u16, HashSet<SocketAddr>),
    client: Weak<Mux>,
    server: Weak<Mux>,
    began: Instant,
    /// Of everything that was sent, and when.
    trace: DefaultHasher,
}

impl State {
    /// Notes what is the same each time: when, of which kind, and how much. What the handshake says differs in length, as its
    /// signatures do.
    fn trace(&mut self, now: Instant, up: bool, datagram: &[u8]) {
        let time = now - self.began;
        let first = datagram.first().copied().unwrap_or_default();
        let (kind, length) = match first {
            20..=63 => (0, 0),
            _ => (datagram.get(1).copied().unwrap_or_default(), datagram.len()),
        };
        (time, up, first, kind, length).hash(&mut self.trace);
    }
}

struct Way {
    dice: Dice,
    /// So many more are lost.
    losing: u32,
    /// Until when the bottleneck is busy.
    busy: Option<Instant>,
    /// When the last one that nothing held up arrives.
    last: Option<Instant>,
    carried: Carried,
}

/// By when it arrives, then by when it was sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrives: Instant,
    number: u64,
    up: bool,
    from: SocketAddr,
    to: SocketAddr,
    datagram: Vec<u8>,
}

impl Network {
    pub(super) fn new(scenario: &Scenario) -> Arc<Self> {
        let way = |up: u64| Way {
            dice: Dice::new(scenario.seed ^ (1 + up) << 56),
            losing: 0,
            busy: None,
            last: None,
            carried: Carried::default(),
        };
        let state = State {
            ways: [way(0), way(1)],
            flying: BinaryHeap::new(),
            numbered: 0,
            connected: None,
            nat: (40_000, HashSet::new()),
            client: Weak::new(),
            server: Weak::new(),
            began: time::now(),
            trace: DefaultHasher::new(),
        };
        Arc::new(Self { scenario: scenario.clone(), state: Mutex::new(state), changed: Notify::new() })
    }

    /// The hosts' ports: the client's and the server's.
    pub(super) fn ports(self: &Arc<Self>) -> Result<(Arc<Mux>, Arc<Mux>), MuxError> {
        let mux = |port, up| {
            let network = Arc::downgrade(self);
            Mux::simulated(port, move |to, datagram| {
                if let Some(network) = network.upgrade() {
                    network.send(up, to, datagram);
                }
            })
        };
        let (client, server) = (Arc::new(mux(CLIENT.1, true)?), Arc::new(mux(SERVER.1, false)?));
        let mut state = self.lock();
        (state.client, state.server) = (Arc::downgrade(&client), Arc::downgrade(&server));
        drop(state);
        Ok((client, server))
    }

    /// Times are counted from now.
    pub(super) fn connected(&self) {
        self.lock().connected = Some(time::now());
    }

    /// The NAT gives its client another port.
    pub(super) fn rebind(&self) {
        let mut state = self.lock();
        state.nat = (state.nat.0 + 1, HashSet::new());
    }

    /// What went up and down so far.
    pub(super) fn carried(&self) -> [Carried; 2] {
        let state = self.lock();
        [state.ways[1].carried, state.ways[0].carried]
    }

    /// What tells whether a run was the same as another.
    pub(super) fn trace(&self) -> u64 {
        self.lock().trace.finish()
    }

    /// What is on its way.
    pub(super) fn flying(&self) -> usize {
        self.lock().flying.len()
    }

    fn send(&self, up: bool, to: SocketAddr, datagram: &[u8]) {
        let now = time::now();
        let mut guard = self.lock();
        guard.trace(now, up, datagram);
        let State { ways, flying, numbered, connected, nat, .. } = &mut *guard;
        let conditions = self.scenario.conditions(up, connected.map(|at| now.saturating_duration_since(at)));
        let way = &mut ways[usize::from(up)];
        way.carried.sent += 1;
        way.carried.largest = way.carried.largest.max(datagram.len());
        let from = match (up, self.scenario.behind_nat) {
            (false, _) => SERVER.into(),
            (true, false) => CLIENT.into(),
            (true, true) => {
                nat.1.insert(to);
                (NAT, nat.0).into()
            }
        };
        let dice = &mut way.dice;
        if way.losing == 0 && dice.permille(conditions.lost) {
            way.losing = dice.between(1, 2 * conditions.burst - 1);
        }
        let is_lost = way.losing > 0 || conditions.dead || datagram.len() > conditions.largest;
        way.losing = way.losing.saturating_sub(1);
        let through = conditions.rate.map_or(Some(now), |rate| {
            let start = way.busy.map_or(now, |busy| busy.max(now));
            let takes = Duration::from_secs(1).mul_f64((datagram.len() + 28) as f64 * 8.0 / f64::from(rate));
            (start - now < QUEUE).then(|| *way.busy.insert(start + takes))
        });
        let (false, Some(through)) = (is_lost, through) else {
            way.carried.lost += 1;
            return;
        };
        let jitter = Duration::from_micros(dice.between(0, conditions.jitter.as_micros() as u32).into());
        let mut arrives = through + conditions.delay + jitter;
        // Behind those before it, even where these were held up more than it is.
        arrives = way.last.map_or(arrives, |last| last.max(arrives));
        if dice.permille(conditions.overtaken.0) {
            arrives += Duration::from_micros(dice.between(0, conditions.overtaken.1.as_micros() as u32).into());
        } else {
            way.last = Some(arrives);
        }
        let copies = if dice.permille(conditions.twice) { 2 } else { 1 };
        way.carried.doubled += copies - 1;
        for copy in 0..copies {
            *numbered += 1;
            let arrives = arrives + Duration::from_millis(copy * 3);
            let datagram = datagram.to_vec();
            flying.push(Reverse(Flying { arrives, number: *numbered, up, from, to, datagram }));
        }
        drop(guard);
        self.changed.notify_one();
    }

    /// Delivers, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let due = self.lock().flying.peek().map(|Reverse(next)| next.arrives);
            match due {
                Some(due) if due <= time::now() => self.arrive(),
                Some(due) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// The next datagram arrives, if anybody is there.
    fn arrive(&self) {
        let mut state = self.lock();
        let Some(Reverse(Flying { up, from, to, datagram, .. })) = state.flying.pop() else { return };
        let at_nat = SocketAddr::from((NAT, state.nat.0));
        let host = match (up, self.scenario.behind_nat) {
            (true, _) if to == SocketAddr::from(SERVER) => state.server.upgrade(),
            (false, false) if to == SocketAddr::from(CLIENT) => state.client.upgrade(),
            (false, true) if to == at_nat && state.nat.1.contains(&from) => state.client.upgrade(),
            _ => None,
        };
        let carried = &mut state.ways[usize::from(up)].carried;
        match &host {
            Some(_) => carried.delivered += 1,
            None => carried.astray += 1,
        }
        drop(state);
        if let Some(host) = host {
            host.deliver(from, &datagram);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
