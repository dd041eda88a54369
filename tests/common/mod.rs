//! What the end-to-end tests share: RTMP server, gst-launch-1.0, publishers, and a look at what was recorded.
//!
//! Everything is on loopback, on ports that are free, and ends when its value is dropped. Waiting is always for
//! an event, with a deadline. The tests themselves say what should happen; nothing here does.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part of it

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

pub mod av1;
pub mod bin_peer;
pub mod bridge;
pub mod browser;
pub mod caller;
pub mod clip;
pub mod countered;
pub mod crossing;
pub mod cycles;
pub mod data;
pub mod egress;
pub mod example;
pub mod flv;
pub mod framed;
pub mod half_open;
pub mod ingest;
pub mod launch;
pub mod lossy;
pub mod media;
pub mod nat;
pub mod nginx;
pub mod painted;
pub mod peer;
pub mod player;
pub mod publisher;
pub mod recording;
pub mod server;
pub mod soak;
pub mod stand;
pub mod standstills;
pub mod turn;
pub mod viewer;
pub mod watched;
pub mod whep_server;
pub mod whip;
pub mod whip_front;

/// Long enough for anything that should happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer; panics with `what` after `deadline`.
pub fn wait_until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What GLib calls critical ends a test's process (tests/run), but not one with a webrtcbin in it: GStreamer 1.22's RTP session
/// walks a hash table that another of its threads changes (`g_hash_table_foreach: assertion 'version == hash_table->version'`).
pub fn webrtcbin_may_complain() {
    gst::glib::log_set_always_fatal(gst::glib::LogLevels::LEVEL_ERROR);
}

/// Where tests take ports from that somebody will listen on later, or again: below those that the kernel gives to connections
/// (net.ipv4.ip_local_port_range), of which one may have it meanwhile, or connect to itself; above 10080, which browsers refuse.
const PORTS: std::ops::Range<u16> = 10_081..32_768;

/// A TCP port that nobody listens on.
pub fn free_port() -> u16 {
    some_port(|port| TcpListener::bind(("0.0.0.0", port)).is_ok())
}

/// A UDP port that nobody is bound to.
pub fn free_udp_port() -> u16 {
    some_port(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok())
}

fn some_port(is_free: impl Fn(u16) -> bool) -> u16 {
    let picked = std::iter::repeat_with(|| rand::random_range(PORTS)).take(1000).find(|port| is_free(*port));
    picked.expect("a free port")
}

/// Whether somebody listens on the port.
pub fn accepts(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// Waits until the child listens on the port; panics when it exits instead.
pub fn wait_listening(name: &str, child: &mut Child, port: u16) {
    wait_until(&format!("{name} to listen on port {port}"), SOON, || {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            panic!("{name} ended before it listened: {status}");
        }
        accepts(port).then_some(())
    });
}

/// Waits for the child's end.
pub fn wait_exit(name: &str, child: &mut Child, deadline: Duration) -> ExitStatus {
    wait_until(&format!("{name} to end"), deadline, || child.try_wait().expect("wait for a child"))
}

/// Sends a signal by its name (INT, TERM, KILL, STOP …).
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().expect("kill");
    assert!(status.success(), "signal {name} could not be sent");
}

/// The folder of this build's profile, which holds the plugin.
pub fn plugin_dir() -> PathBuf {
    let test = std::env::current_exe().expect("path of the test");
    let dir = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/test").to_path_buf();
    assert!(dir.join("libgstwebrtcbridge.so").exists(), "no plugin in {}: cargo build first", dir.display());
    dir
}

/// A folder for what outlives one test: the registry, screenshots.
pub fn target_tmp() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// An HTTP client that hands back 4xx and 5xx as responses, and trusts any certificate.
pub fn http() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(SOON))
        .max_idle_connections(0)
        .tls_config(ureq::tls::TlsConfig::builder().disable_verification(true).build())
        .build()
        .into()
}
