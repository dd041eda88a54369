//! What happens to one destination is nobody else's business: its server dies, freezes, refuses or is slow, and the
//! recordings of the others have no gap.

#![allow(clippy::unwrap_used)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::rtmp_support::{
    KEY, Pipeline, Server, check_gaps_end_at_keyframes, check_recording, check_without_gap, wait_for,
};
use gst::prelude::*;

/// 4 Mbit/s, with a keyframe every second.
const STREAM: &str = "videotestsrc is-live=true pattern=snow ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max=30 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

/// The index of the troubled one: neither the first nor the last, should those be special.
const TROUBLED: usize = 1;

/// Three destinations: nginx, the troubled one, and ffmpeg.
struct Stage {
    nginx: Server,
    ffmpeg: FfmpegListener,
    pipeline: Pipeline,
    /// The latest that anything came to the sink, in ms: what makes the input wait makes it late.
    latest: Arc<AtomicU64>,
}

/// What a machine that is busy with other tests may take. Servers that hold up their input do so for longer.
const MOST_LATE: u64 = 600;

impl Stage {
    fn start(troubled: &str, more: &str) -> Self {
        Self::start_at(4000, troubled, more)
    }

    /// At so many kbit/s.
    fn start_at(bitrate: u32, troubled: &str, more: &str) -> Self {
        let stream = STREAM.replace("bitrate=4000", &format!("bitrate={bitrate}"));
        let (nginx, ffmpeg) = (Server::start(), FfmpegListener::start());
        let pipeline = Pipeline::parse(&format!(
            "{stream} rtmpbridgesink name=sink location=\"{} {troubled} {}\" reconnect-min=50 reconnect-max=200 {more}",
            nginx.url(),
            ffmpeg.url()
        ));
        let latest = Arc::default();
        for pad in ["video", "audio"] {
            note_lateness(&pipeline.sink().static_pad(pad).unwrap(), &latest);
        }
        pipeline.pipeline.set_state(gst::State::Playing).unwrap();
        pipeline.wait_until_is(0, "live");
        pipeline.wait_until_is(2, "live");
        latest.store(0, Ordering::Relaxed); // starting takes its time
        Self { nginx, ffmpeg, pipeline, latest }
    }

    /// A second goes through to both of the others.
    fn others_go_on(&self) {
        self.pipeline.wait_for_frames(0, 80);
        self.pipeline.wait_for_frames(2, 80);
    }

    /// Ends it, and judges what the others have recorded.
    fn assert_others_unharmed(mut self) {
        assert_eq!(self.pipeline.messages("error"), [""; 0]);
        for index in [0, 2] {
            let destination = self.pipeline.destination_at(index).unwrap();
            assert_eq!(destination.get::<u32>("reconnects"), Ok(0));
            assert!(destination.get::<u32>("lag").unwrap() < 500, "{destination}");
        }
        let latest = self.latest.load(Ordering::Relaxed);
        assert!(latest < MOST_LATE, "the input was held up: {latest} ms late");
        let asked = Instant::now();
        assert!(self.pipeline.pipeline.send_event(gst::event::Eos::new()));
        self.pipeline.wait_for_eos();
        assert!(asked.elapsed() < Duration::from_secs(3), "EOS took {:?}", asked.elapsed());
        assert_eq!(self.nginx.recordings().len(), 1);
        wait_for("nginx to hear the end", || self.nginx.saw_goodbye());
        check_without_gap(&self.nginx.recording());
        check_without_gap(&self.ffmpeg.recording());
    }
}

fn note_lateness(pad: &gst::Pad, latest: &Arc<AtomicU64>) {
    let latest = latest.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let segment = pad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.and_then(|event| event.segment().downcast_ref::<gst::ClockTime>().cloned());
        let due = segment.and_then(|segment| segment.to_running_time(info.buffer()?.pts()?));
        let now = pad.parent_element().and_then(|sink| sink.current_running_time());
        if let Some((now, due)) = now.zip(due) {
            latest.fetch_max(now.saturating_sub(due).mseconds(), Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
}

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

/// ffmpeg as an RTMP server that takes one publisher.
struct FfmpegListener {
    port: u16,
    dir: tempfile::TempDir,
    child: Mutex<Child>,
}

impl FfmpegListener {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("ffmpeg")
            .args(["-v", "error", "-listen", "1", "-i", &format!("rtmp://127.0.0.1:{port}/live/{KEY}")])
            .args(["-c", "copy", "-flush_packets", "1"])
            .arg(dir.path().join("recording.flv"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // It takes one connection only: to try whether it listens would be it.
        wait_for("ffmpeg to listen", || {
            let wanted = format!(":{port:04X} 00000000:0000 0A");
            std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted)
        });
        Self { port, dir, child: Mutex::new(child) }
    }

    fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/{KEY}", self.port)
    }

    /// The recording, once ffmpeg has heard the end of the stream.
    fn recording(&self) -> PathBuf {
        wait_for("ffmpeg to end", || self.child.lock().unwrap().try_wait().unwrap().is_some());
        self.dir.path().join("recording.flv")
    }
}

impl Drop for FfmpegListener {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
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
