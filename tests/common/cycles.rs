//! Publishers that come and go at a bridge server in a process of its own, and what that process holds meanwhile.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    SOON, free_port, http,
    launch::Launch,
    nginx::Nginx,
    peer::{Peer, Script},
    wait_until,
};

/// A bridge server whose sessions push video as it comes to an RTMP server; sound is taken and dropped: nothing is decoded.
pub struct Serving {
    pub launch: Launch,
    pub nginx: Nginx,
    port: u16,
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub threads: usize,
    pub fds: usize,
    pub rss_kib: usize,
}

/// glibc gives threads heaps of their own, sixteen on two cores, and what is free in one is of no use to the others: with one,
/// what the process holds is what is in use, and growth is a leak.
pub const ONE_HEAP: [(&str, &str); 1] = [("MALLOC_ARENA_MAX", "1")];

/// The thread of GStreamer's system clock, which comes with the first who waits for a time, and stays.
pub const CLOCK: usize = 1;

/// Publishers at the same time.
const WORKERS: usize = 4;

/// A vanished peer is given up after 7 s, and threads that wait for work go after 15 s (GLib's).
const SETTLED: Duration = Duration::from_secs(40);

impl Serving {
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let nginx = Nginx::start_with("record off;");
        let port = free_port();
        let listen = format!("listen=127.0.0.1:{port}");
        let session = format!(
            "session=webrtcingest name=in rtmpbridgesink name=out location={} in.video_0 ! out.video \
             in.audio_0 ! fakesink async=false sync=false",
            nginx.url("{channel}")
        );
        let mut launch = Launch::start_words_with(&["webrtcbridgebin", &listen, &session], environment);
        launch.wait_listening(port);
        // The port is open before all its threads are there.
        launch.wait_for_line("New clock", SOON);
        Self { launch, nginx, port }
    }

    /// What is known of the sessions that there are.
    pub fn sessions(&self) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/status", self.port);
        let mut response = http().get(url).call().expect("an answer");
        let text = response.body_mut().read_to_string().expect("a body");
        let status: Value = serde_json::from_str(&text).expect("JSON");
        status["sessions"].as_array().cloned().unwrap_or_default()
    }

    /// Lets so many publishers come and go, each on a channel of its own, every second one without a word.
    pub fn cycle(&self, first: usize, last: usize) {
        let next = AtomicUsize::new(first);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, SeqCst);
                        if number >= last {
                            break;
                        }
                        self.publish(number);
                    }
                });
            }
        });
    }

    fn publish(&self, number: usize) {
        let channel = format!("c{number}");
        let url = format!("http://127.0.0.1:{}/whip/{channel}", self.port);
        let mut last = String::new();
        let peer = wait_until("a place", SOON, || match Peer::offer(&url, Script::default()) {
            Ok(peer) => Some(peer),
            // Too often for one address, or too many of those who have vanished are still counted.
            Err(refused) if matches!(refused.status, 429 | 503) => {
                last = refused.body;
                None
            }
            Err(refused) => panic!("{} {}", refused.status, refused.body),
        });
        peer.wait_connected(SOON);
        let has_media = || {
            let sessions = self.sessions();
            let session = sessions.iter().find(|session| session["channel"] == channel.as_str())?;
            let video = session["tracks"].as_array()?.iter().find(|track| track["kind"] == "video")?;
            (video["packets"].as_u64()? > 5).then_some(())
        };
        wait_until("media", SOON, has_media);
        if number.is_multiple_of(2) { peer.delete() } else { peer.vanish() }
    }

    /// What the process holds once nobody is there any more and `threads` are no more than these.
    pub fn settled(&self, threads: usize) -> Holding {
        wait_until("all sessions to be gone", SETTLED, || self.sessions().is_empty().then_some(()));
        let end = Instant::now() + SETTLED;
        loop {
            let holding = self.holding();
            if holding.threads <= threads || Instant::now() > end {
                return holding;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn holding(&self) -> Holding {
        let proc = format!("/proc/{}", self.launch.pid());
        let count = |what: &str| std::fs::read_dir(format!("{proc}/{what}")).expect(what).count();
        let status = std::fs::read_to_string(format!("{proc}/status")).expect("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let rss_kib = rss.trim().trim_end_matches(" kB").parse().expect("a number");
        Holding { threads: count("task"), fds: count("fd"), rss_kib }
    }
}
