//! Three destinations, of which one is in trouble, and a judgement of what the others got.
#![allow(clippy::unwrap_used)]

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;

use crate::rtmp_support::{KEY, Pipeline, Server, check_without_gap, common::standstills::Standstills, wait_for};

/// 4 Mbit/s, with a keyframe every second.
pub(crate) const STREAM: &str = "videotestsrc is-live=true pattern=snow ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=4000 key-int-max=30 ! sink.video \
    audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! sink.audio";

/// The index of the troubled one: neither the first nor the last, should those be special.
pub(crate) const TROUBLED: usize = 1;

/// Three destinations: nginx, the troubled one, and ffmpeg.
pub(crate) struct Stage {
    nginx: Server,
    ffmpeg: FfmpegListener,
    pub(crate) pipeline: Pipeline,
    /// The latest that anything came to the sink, in ms: what makes the input wait makes it late.
    latest: Arc<AtomicU64>,
    standstills: Standstills,
}

/// What a machine that is busy with other tests may take. Servers that hold up their input do so for longer.
const MOST_LATE: Duration = Duration::from_millis(600);

impl Stage {
    pub(crate) fn start(troubled: &str, more: &str) -> Self {
        Self::start_at(4000, troubled, more)
    }

    /// At so many kbit/s.
    pub(crate) fn start_at(bitrate: u32, troubled: &str, more: &str) -> Self {
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
        Self { nginx, ffmpeg, pipeline, latest, standstills: Standstills::watch() }
    }

    /// A second goes through to both of the others.
    pub(crate) fn others_go_on(&self) {
        self.pipeline.wait_for_frames(0, 80);
        self.pipeline.wait_for_frames(2, 80);
    }

    /// How often the troubled one failed for this reason.
    pub(crate) fn failures(&self, reason: &str) -> u64 {
        let destination = self.pipeline.destination_at(TROUBLED).unwrap();
        let failures: gst::Structure = destination.get("failures").unwrap();
        failures.get(reason).unwrap_or(0)
    }

    /// Waits until the troubled one has failed for this reason, and returns the words for it.
    pub(crate) fn wait_for_failure(&self, reason: &str) -> String {
        let before = self.failures(reason);
        wait_for(&format!("a failure by {reason}, of {:?}", self.pipeline.destination_at(TROUBLED)), || {
            self.failures(reason) > before
        });
        self.pipeline.destination_at(TROUBLED).unwrap().get("last-failure").unwrap()
    }

    /// All warnings so far.
    pub(crate) fn warnings(&mut self) -> String {
        self.pipeline.messages("warning").join("\n")
    }

    /// Ends it, and judges what the others have recorded.
    pub(crate) fn assert_others_unharmed(mut self) {
        assert_eq!(self.pipeline.messages("error"), [""; 0]);
        for index in [0, 2] {
            let destination = self.pipeline.destination_at(index).unwrap();
            assert_eq!(destination.get::<u32>("reconnects"), Ok(0));
            assert!(destination.get::<u32>("lag").unwrap() < 500, "{destination}");
        }
        let (latest, still) = (self.latest.load(Ordering::Relaxed), self.standstills.longest());
        assert!(
            Duration::from_millis(latest) < MOST_LATE + 2 * still.min(Duration::from_secs(1)),
            "the input was held up: {latest} ms late, and the machine stood still for {still:?}"
        );
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
