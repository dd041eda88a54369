//! The bridge in a process of its own, and what the kernel says of it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
};

use gst::prelude::*;

use crate::common::{free_port, wait_listening};

/// Ticks of /proc/PID/stat: the kernel's USER_HZ.
const TICKS: f64 = 100.0;

/// A running one, with an element for each stream.
pub(crate) struct Bridge {
    child: Child,
    /// Closed, it ends.
    _stdin: ChildStdin,
    port: u16,
}

impl Bridge {
    pub(crate) fn start(count: usize, rtmp: u16) -> Self {
        let port = free_port();
        let streams = (0..count).map(|number| {
            format!(
                "webrtcingest uri=whip://127.0.0.1:{port}/whip/s{number} : \
                 rtmpbridgesink location=rtmp://127.0.0.1:{rtmp}/live/s{number} "
            )
        });
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program).arg("--serve").stdin(Stdio::piped()).spawn().expect("the bridge");
        let mut stdin = child.stdin.take().expect("stdin");
        writeln!(stdin, "{}", streams.collect::<String>()).expect("it reads its launch line");
        wait_listening("the bridge", &mut child, port);
        Self { child, _stdin: stdin, port }
    }

    /// Where a stream is published.
    pub(crate) fn url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}/whip/s{number}", self.port)
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.read("stat");
        let after_name = stat.rsplit(')').next().expect("fields").split_ascii_whitespace();
        after_name.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS
    }

    /// Bytes of resident memory.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    pub(crate) fn threads(&self) -> usize {
        self.status("Threads:") as usize
    }

    fn status(&self, name: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
        line.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    fn read(&self, what: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.child.id())).expect("its statistics")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the launch line that comes on stdin, until nobody holds the other end.
pub(crate) fn serve() {
    gst::init().expect("GStreamer");
    gstwebrtcbridge::plugin_register_static().expect("the plugin");
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let description = lines.next().expect("a launch line").expect("text");
    let pipeline = gst::parse::launch(&description).expect("a pipeline");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let _ = lines.next();
    let _ = pipeline.set_state(gst::State::Null);
}
