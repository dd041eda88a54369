//! Forwarded viewers, measured on a whole server: `cargo bench --bench viewers -- [VIEWERS[,VIEWERS…]] [SECONDS] [WHOLE]`.
//! Several numbers of viewers are measured one after the other, and drawn as curves in `target/viewers.svg`.
//!
//! The server is a process of its own, so that its CPU time is its own; publisher and viewers are here. Says what a viewer of
//! 2 Mbit/s costs, how long each took from its offer to its first picture, how long pictures are on their way, and whether
//! any of them missed something. What of that was lost on this machine's way, as nobody read it in time, is told beside it.
//!
//! A viewer that takes in all that it gets costs more than the server spends on it: `WHOLE` of them do (10 unless told), with
//! transport-wide reports and repairs; the others count what comes (see `counting`) and report nothing. Two runs, all of them
//! whole in the one, tell what reports cost.

#![allow(clippy::print_stdout)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod counting;
#[path = "../plot/mod.rs"]
mod plot;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use common::{
    SOON,
    peer::{Layer, Peer, Script},
    viewer::{Stream, Viewer, Wants, pictures},
    wait_until, whip,
};
use counting::{Counting, Counts};
use gstwebrtcbridge::{
    bridge::{ServerConfig, WebRtcServer},
    signaling::ListenAddress,
};
use plot::{Chart, Curve};
use webrtc::runtime::Runtime;

const H264: u8 = 102;
/// The test clip of this size has 2 Mbit/s.
const SIZE: (u32, u32) = (992, 560);
/// Ticks of /proc/PID/stat: the kernel's USER_HZ.
const TICKS: f64 = 100.0;
const PLOT: &str = "target/viewers.svg";

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let first = arguments.next();
    if first.as_deref() == Some("serve") {
        return serve();
    }
    let counts: Vec<usize> = (first.as_deref().unwrap_or("200").split(','))
        .map(|count| count.parse().expect("numbers of viewers"))
        .collect();
    let seconds = arguments.next().map_or(10, |seconds| seconds.parse().expect("a number of seconds"));
    let whole = arguments.next().map_or(10, |whole| whole.parse().expect("a number of whole viewers"));
    let rows: Vec<Row> =
        counts.into_iter().map(|count| measure(count, whole.min(count), Duration::from_secs(seconds))).collect();
    if rows.len() > 1 {
        let path = Path::new(PLOT);
        match plot::draw(path, "viewers", &charts(&rows)) {
            Ok(()) => println!("drawn in {PLOT}"),
            Err(error) => println!("nothing drawn in {PLOT}: {error}"),
        }
    }
}

/// What is drawn of one number of viewers.
struct Row {
    count: usize,
    /// Milliseconds of a core a second.
    each: f64,
    first_picture: Times,
    on_the_way: Times,
}

fn charts(rows: &[Row]) -> [Chart; 3] {
    let times = |of: fn(&Row) -> &Times| {
        let at = |name, share| {
            let of_row = |row: &Row| Some((row.count as f64, of(row).at(share)?.as_secs_f64() * 1e3));
            Curve { name, points: rows.iter().filter_map(of_row).collect() }
        };
        vec![at("median", 0.5), at("p95", 0.95)]
    };
    let cost = Curve { name: "cost", points: rows.iter().map(|row| (row.count as f64, row.each)).collect() };
    [
        Chart { title: "ms of a core a second, each viewer", curves: vec![cost] },
        Chart { title: "offer to first picture, ms", curves: times(|row| &row.first_picture) },
        Chart { title: "pictures on their way, ms", curves: times(|row| &row.on_the_way) },
    ]
}

/// Serves until nobody holds the other end of stdin.
fn serve() {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let listen = ListenAddress { host: "127.0.0.1".into(), port: 0 };
    let server = WebRtcServer::new(ServerConfig { listen, ..ServerConfig::default() }).expect("a server");
    println!("{}", server.handle().url());
    let handle = server.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        handle.shutdown(Duration::ZERO);
    });
    tokio::runtime::Runtime::new().expect("tokio").block_on(server.serve()).expect("served");
}

fn measure(count: usize, whole: usize, time: Duration) -> Row {
    let program = std::env::current_exe().expect("this program");
    let mut server =
        Command::new(program).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server");
    let mut url = String::new();
    BufReader::new(server.stdout.take().expect("stdout")).read_line(&mut url).expect("its URL");
    let url = url.trim_end();
    let layers = vec![Layer { rid: "f", size: SIZE }];
    let publisher = Peer::start(&format!("{url}/whip/show"), Script { layers, sparse: true, ..Script::default() });
    let alone = cpu_per_second(server.id(), time);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    let mut viewers = Vec::new();
    let mut waits = Vec::new();
    for number in 0..count {
        let is_whole = number < whole;
        let counts = Arc::new(Counts::default());
        let own: Arc<dyn Runtime> = Arc::new(Counting { counts: counts.clone(), payload_type: H264 });
        let on = Some((runtime.handle().clone(), own));
        let viewer = Viewer::new(Wants { transport_cc: is_whole, on, ..Wants::default() });
        let asked = Instant::now();
        let (session, answer) =
            whip::post(&format!("{url}/whep/show"), None, viewer.offer()).expect("an answer for each viewer");
        viewer.answered(&answer);
        let first = wait_until("the first picture", SOON, || {
            viewer.stream(H264).packets.values().find(|packet| packet.marker).map(|packet| packet.at)
        });
        waits.push(first.duration_since(asked));
        counts.counts_only.store(!is_whole, Relaxed);
        viewers.push((viewer, counts, session));
    }
    // They are not all there at once: those who came first have asked for keyframes meanwhile.
    std::thread::sleep(time / 4);
    let of_whole = |(viewer, _, _): &(Viewer, Arc<Counts>, whip::Resource)| {
        viewer.stream(H264).packets.values().map(|packet| packet.payload.len() as u64).sum::<u64>()
    };
    let bytes = || {
        let counted: u64 = viewers.iter().map(|(_, counts, _)| counts.video().bytes).sum();
        counted + viewers.iter().take(whole).map(of_whole).sum::<u64>()
    };
    let (before, began, dropped) = (bytes(), Instant::now(), dropped_datagrams());
    let busy = cpu_per_second(server.id(), time);
    let elapsed = began.elapsed().as_secs_f64();
    let bytes = bytes() - before;
    let dropped = dropped_datagrams() - dropped;
    let sent = publisher.sent_when("f");
    let on_the_way: Vec<Duration> =
        viewers.iter().take(whole).flat_map(|(viewer, _, _)| ways(&viewer.stream(H264), &sent, began)).collect();
    let load = std::fs::read_to_string("/proc/loadavg").expect("the load");
    let load = load.split(' ').next().expect("a number");
    let lost: i64 = viewers.iter().map(|(_, counts, _)| counts.video().missing()).sum();
    let missing: usize = viewers.iter().take(whole).map(|(viewer, _, _)| viewer.stream(H264).missing().len()).sum();
    let repaired: usize = viewers.iter().take(whole).map(|(viewer, _, _)| viewer.stream(H264).repaired).sum();
    let (waits, on_the_way) = (Times::new(waits), Times::new(on_the_way));
    println!(
        "{count} viewers, {whole} of them whole, at {:.2} Mbit/s each: {:.2} ms of a core a second each, {:.0} a core; without \
         viewers {:.1} ms; from the offer to the first picture {waits}; pictures on their way {on_the_way}; {lost} packets missing \
         where they are counted, {missing} where they are repaired ({repaired} were); {dropped} datagrams that nobody on \
         this machine read in time; load {load}",
        bytes as f64 * 8.0 / elapsed / count as f64 / 1e6,
        (busy - alone) / count as f64 * 1e3,
        count as f64 / (busy - alone),
        alone * 1e3,
    );
    drop(server.stdin.take());
    let _ = server.wait();
    Row { count, each: (busy - alone) / count as f64 * 1e3, first_picture: waits, on_the_way }
}

/// How long the pictures of a viewer were on their way since then, from the publisher's socket to the last packet's arrival.
fn ways(stream: &Stream, sent: &[(u64, Instant)], since: Instant) -> Vec<Duration> {
    let mut arrivals: Vec<(u32, Instant)> = Vec::new();
    for packet in stream.packets.values().filter(|packet| packet.payload.len() > 2) {
        match arrivals.last_mut().filter(|(timestamp, _)| *timestamp == packet.timestamp) {
            Some((_, at)) => *at = packet.at.max(*at),
            None => arrivals.push((packet.timestamp, packet.at)),
        }
    }
    let pictures = pictures(stream).into_iter().zip(arrivals);
    let measured = pictures.filter(|(_, (_, at))| *at >= since);
    // The clip begins anew now and then: it is the last one that was sent before.
    let way = |(picture, (_, at)): (u64, (u32, Instant))| {
        let of_it = sent.iter().rev().find(|(other, sent)| *other == picture && *sent <= at);
        of_it.map(|(_, sent)| at.duration_since(*sent))
    };
    measured.filter_map(way).collect()
}

/// What is told of many times.
struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that this share of them does not exceed.
    fn at(&self, share: f64) -> Option<Duration> {
        self.0.get((self.0.len().saturating_sub(1) as f64 * share) as usize).copied()
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.at(0.5), self.at(0.95), self.at(1.0)) {
            (Some(median), Some(p95), Some(most)) => {
                write!(f, "{median:.0?} (median), {p95:.0?} (p95), {most:.0?} (most)")
            }
            _ => f.write_str("unknown"),
        }
    }
}

/// Datagrams that the kernel dropped as a socket's buffer was full.
fn dropped_datagrams() -> u64 {
    let snmp = std::fs::read_to_string("/proc/net/snmp").expect("the kernel's counters");
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
    let mut columns = names.split(' ').zip(numbers.split(' '));
    columns.find(|(name, _)| *name == "RcvbufErrors").and_then(|(_, number)| number.parse().ok()).expect("a counter")
}

/// The share of a core that a process takes, over some time.
fn cpu_per_second(process: u32, time: Duration) -> f64 {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("its statistics");
        let after_name = stat.rsplit(')').next().expect("fields").split_ascii_whitespace();
        after_name.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>()
    };
    let (before, began) = (ticks(), Instant::now());
    std::thread::sleep(time); // the measurement itself
    (ticks() - before) / TICKS / began.elapsed().as_secs_f64()
}
