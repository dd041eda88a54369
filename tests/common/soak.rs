//! Eight streams at a bridge server with churn and faults, for as long as is wanted: one of them stays and must be perfect, the
//! others come and go in every way there is, one of two RTMP servers dies, freezes and comes back, and strangers send what
//! they like. Meanwhile memory, files and threads are watched, and a watchdog shows where all threads stand when nothing moves.
#![allow(clippy::print_stderr)] // the figures that are measured on the way

use std::{
    net::UdpSocket,
    process::Command,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    SOON,
    cycles::{Holding, ONE_HEAP},
    half_open, http,
    lossy::LossyPath,
    peer::{Peer, Script},
    stand::{Show, Stand, value},
    standstills::Standstills,
    wait_until,
};

/// Beside the one that stays.
const GUESTS: u64 = 7;
/// The stay of a guest, at least and at most.
const STAY: [u64; 2] = [4, 20];
/// Between two faults.
const FAULT_EVERY: Duration = Duration::from_secs(5);
/// Nothing moved for so long: a deadlock. A loaded machine has pauses of a few seconds.
const STUCK: Duration = Duration::from_secs(20);
/// A guest is refused while his last session is not over, or while strangers' offers take the places: never for so long.
const LOCKED_OUT: Duration = Duration::from_secs(60);
/// By how much the least of the last third may be above the least of the second, at the same number of sessions.
const MOST_GROWTH: Holding = Holding { threads: 8, fds: 8, rss_kib: 8 << 10 };
/// Samples of a number of sessions that make a least one.
const ENOUGH: usize = 5;

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    came: AtomicUsize,
    left: AtomicUsize,
    vanished: AtomicUsize,
    wandered: AtomicUsize,
    /// Of these.
    given_up: AtomicUsize,
    faults: AtomicUsize,
    refused: AtomicUsize,
}

/// Runs it all, and judges.
pub fn run(length: Duration) {
    let mut stand = Stand::start(&ONE_HEAP);
    let began = Instant::now();
    let before = holding(stand.launch.pid());
    let show = Show::start(&stand.whip("steady"), &stand.nginx, "steady");
    let (over, tally, standstills) = (AtomicBool::new(false), Tally::default(), Standstills::watch());
    let end = began + length;
    let pid = stand.launch.pid();
    let urls: Vec<String> = (0..GUESTS).map(|number| stand.whip(&format!("guest{number}"))).collect();
    let samples = std::thread::scope(|scope| {
        let _over = Over(&over); // also when this panics: nobody else would know
        for (number, url) in urls.iter().enumerate() {
            let (over, tally, standstills) = (&over, &tally, &standstills);
            scope.spawn(move || {
                let _shows = ShowsStacks(pid);
                guest(number as u64, url, over, tally, standstills);
            });
        }
        let (mut samples, mut next_fault, mut moved) = (Vec::new(), Instant::now() + FAULT_EVERY, Moved::default());
        while Instant::now() < end {
            sleep(Duration::from_secs(1)); // it is a watch over time
            let sessions = moved.look(&stand);
            samples.push(Sample { sessions, holding: holding(stand.launch.pid()) });
            if Instant::now() > next_fault {
                fault(tally.faults.fetch_add(1, Relaxed), &mut stand);
                next_fault = Instant::now() + FAULT_EVERY;
            }
            if samples.len() % 60 == 0 {
                eprintln!("after {:.0?}: {:?} {tally:?}", began.elapsed(), samples[samples.len() - 1]);
            }
            forget_recordings(&stand);
        }
        samples
    });
    eprintln!("{tally:?}");
    show.goes_on(&stand.nginx);
    let errors = stand.launch.errors();
    assert!(errors.is_empty(), "{errors:#?}");
    let metrics = stand.metrics();
    show.assert_perfect(&stand);
    show.end();
    let shows = ShowsStacks(pid);
    wait_until("all sessions to be gone", 2 * SOON, || {
        stand.status()["sessions"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    drop(shows);
    let failed = value(&metrics, "webrtcbridge_sessions_ended_total", &["reason=\"failed\""]);
    let thirds = thirds(&samples);
    eprintln!("before {before:?}, by sessions in the second and last third {thirds:#?}, sessions failed {failed:?}");
    stand.launch.end_cleanly();
    assert!(tally.came.load(SeqCst) >= GUESTS as usize && tally.faults.load(SeqCst) > 3, "{tally:?}");
    let (wandered, given_up) = (tally.wandered.load(SeqCst), tally.given_up.load(SeqCst));
    assert!(given_up <= wandered.div_ceil(2), "most who are back in 3 s go on: {tally:?}");
    // How many are there is a matter of chance, and each takes threads and files: what is compared has as many.
    let compared: Vec<_> =
        (1..).zip(thirds).filter_map(|(sessions, [of2, of3])| Some((sessions, of2?, of3?))).collect();
    assert!(!compared.is_empty(), "no number of sessions is in both thirds: {samples:?}");
    for (sessions, second, third) in compared {
        let grown = |of: fn(&Holding) -> usize| of(&third) > of(&second) + of(&MOST_GROWTH);
        let grew = grown(|h| h.rss_kib) || grown(|h| h.fds) || grown(|h| h.threads);
        assert!(!grew, "with {sessions} sessions {second:?} became {third:?}");
    }
}

/// Tells the guests that it is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Shows where all threads of the process stand when what it is in panics: something has waited in vain.
struct ShowsStacks(u32);

impl Drop for ShowsStacks {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", stacks(self.0));
        }
    }
}

/// What was held, and by how many sessions.
#[derive(Clone, Copy, Debug)]
struct Sample {
    sessions: usize,
    holding: Holding,
}

/// The least of the second and of the last third, for each number of sessions from one on; none where there are too few samples.
fn thirds(samples: &[Sample]) -> Vec<[Option<Holding>; 2]> {
    let third = samples.len() / 3;
    let most = samples.iter().map(|sample| sample.sessions).max().unwrap_or(0);
    let least = |number: usize, sessions: usize| {
        let samples = samples[number * third..(number + 1) * third].iter();
        let of: Vec<Holding> = samples.filter(|s| s.sessions == sessions).map(|s| s.holding).collect();
        let least = |what: fn(&Holding) -> usize| of.iter().map(what).min();
        let (threads, fds, rss_kib) = (least(|h| h.threads)?, least(|h| h.fds)?, least(|h| h.rss_kib)?);
        (of.len() >= ENOUGH).then_some(Holding { threads, fds, rss_kib })
    };
    (1..=most).map(|sessions| [1, 2].map(|number| least(number, sessions))).collect()
}

pub fn holding(pid: u32) -> Holding {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).expect(what).count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let rss_kib = rss.trim().trim_end_matches(" kB").parse().expect("a number");
    Holding { threads: count("task"), fds: count("fd"), rss_kib }
}

/// Comes and goes until it is over.
fn guest(seed: u64, url: &str, over: &AtomicBool, tally: &Tally, standstills: &Standstills) {
    let (mut random, mut in_vain_since) = (dice(seed), Instant::now());
    while !over.load(SeqCst) {
        let down = Arc::new(AtomicBool::new(false));
        let loses = down.clone();
        let path = LossyPath::new(move |_, _| loses.load(SeqCst));
        let script = if random().is_multiple_of(3) { Script::obs() } else { Script::default() };
        let script = Script { path: Some(path.clone()), candidates: false, ..script };
        let peer = match Peer::offer(url, script) {
            Ok(peer) => peer,
            // The one before is not given up yet, or offers of strangers take the places.
            Err(refused) if matches!(refused.status, 409 | 429 | 503) => {
                tally.refused.fetch_add(1, Relaxed);
                assert!(in_vain_since.elapsed() < LOCKED_OUT, "{LOCKED_OUT:?} of {} {}", refused.status, refused.body);
                sleep(Duration::from_millis(300));
                continue;
            }
            Err(refused) => panic!("{} {}", refused.status, refused.body),
        };
        let asked = Instant::now();
        if !peer.connects_within(SOON) {
            // A handshake ends when nothing is heard for 8 s.
            let still = standstills.within(asked, Instant::now());
            assert!(
                still > Duration::from_secs(5),
                "no connection in {SOON:?}, of which the machine stood still {still:?}"
            );
            peer.vanish();
            path.stop();
            in_vain_since = Instant::now();
            continue;
        }
        tally.came.fetch_add(1, Relaxed);
        let until = Instant::now() + Duration::from_secs(STAY[0] + random() % (STAY[1] - STAY[0]));
        while Instant::now() < until && !over.load(SeqCst) {
            sleep(Duration::from_millis(200));
        }
        match random() % 4 {
            0 | 1 => {
                tally.left.fetch_add(1, Relaxed);
                peer.delete();
            }
            2 => {
                tally.vanished.fetch_add(1, Relaxed);
                peer.vanish();
            }
            _ => {
                // Its network is gone for 3 s, and it is back on another port.
                tally.wandered.fetch_add(1, Relaxed);
                down.store(true, SeqCst);
                sleep(Duration::from_secs(3));
                path.rebind();
                down.store(false, SeqCst);
                sleep(Duration::from_secs(3));
                // Given up after 7 s, which is no matter of chance but on a machine that stands still meanwhile.
                tally.given_up.fetch_add(usize::from(!peer.delete_if_there()), Relaxed);
            }
        }
        path.stop();
        in_vain_since = Instant::now();
    }
}

/// Faults take turns.
fn fault(number: usize, stand: &mut Stand) {
    match number % 6 {
        0 => stand.troubled.stop(),
        1 => stand.troubled.restart(),
        2 => stand.troubled.freeze(true),
        3 => stand.troubled.freeze(false),
        4 => {
            // Offers that nobody stands behind, and what is none.
            for stranger in 0..10 {
                for body in [half_open::offer(&[]), "v=0\r\nnonsense".repeat(100), "\0".repeat(70_000)] {
                    let url = stand.whip(&format!("stranger{stranger}"));
                    let _ = http().post(url).content_type("application/sdp").send(body);
                }
            }
        }
        _ => {
            let metrics = stand.metrics();
            let ports = metrics.lines().filter_map(|line| line.split_once("udp_received_datagrams_total{port=\""));
            let port: u16 = ports.filter_map(|(_, rest)| rest.split('"').next()?.parse().ok()).next().expect("a port");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let mut random = dice(number as u64);
            for number in 1..=2000 {
                let datagram: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
                let _ = socket.send_to(&datagram, ("127.0.0.1", port));
                // All at once they would fill the kernel's buffer where it is small: that is lost by everybody's word.
                if number % 50 == 0 {
                    sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

/// Notices when nothing moves.
struct Moved {
    frames: u64,
    at: Instant,
}

impl Default for Moved {
    fn default() -> Self {
        Self { frames: 0, at: Instant::now() }
    }
}

impl Moved {
    /// The show's frames have to reach its server, and the API has to answer. Returns how many sessions there are.
    fn look(&mut self, stand: &Stand) -> usize {
        let url = format!("{}/api/v1/status", stand.url());
        let status = http().get(url).call().ok().and_then(|mut answer| answer.body_mut().read_to_string().ok());
        let status: Option<serde_json::Value> = status.and_then(|status| serde_json::from_str(&status).ok());
        let sessions = status.as_ref().and_then(|status| status["sessions"].as_array()).map_or(&[][..], Vec::as_slice);
        let steady = sessions.iter().find(|session| session["channel"] == "steady");
        let frames = steady.and_then(|session| session["destinations"][0]["frames"].as_u64());
        if let Some(frames) = frames.filter(|frames| *frames > self.frames) {
            *self = Self { frames, at: Instant::now() };
        }
        if self.at.elapsed() > STUCK {
            panic!("nothing has moved for {STUCK:?} ({frames:?} frames); all threads:\n{}", stacks(stand.launch.pid()));
        }
        sessions.len()
    }
}

/// Where all threads of a process stand; by the kernel's account where there is no gdb.
pub fn stacks(pid: u32) -> String {
    let gdb = Command::new("gdb").args(["-batch", "-p", &pid.to_string(), "-ex", "thread apply all bt 25"]).output();
    match gdb {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let read = |task: &std::fs::DirEntry, what: &str| {
                std::fs::read_to_string(task.path().join(what)).unwrap_or_default().trim().to_owned()
            };
            tasks
                .map(|task| format!("{} {} {}\n", read(&task, "comm"), read(&task, "wchan"), read(&task, "syscall")))
                .collect()
        }
    }
}

/// Guests' recordings are of no use: an hour of them would fill a disk.
fn forget_recordings(stand: &Stand) {
    for file in stand.nginx.all_recordings() {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("guest")) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// xorshift64*: the same numbers for the same seed.
fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut random = 0x9E37_79B9_7F4A_7C15 ^ (seed + 1).wrapping_mul(0xD134_2543_DE82_EF95);
    move || {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }
}
