//! A gst-launch-1.0 that knows the plugin of this build.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{plugin_dir, signal, target_tmp, wait_exit, wait_listening};

/// A running `gst-launch-1.0 -e`; killed when dropped.
pub struct Launch {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Launch {
    /// Starts a description, as it would stand on a command line: split at white space, nothing quoted.
    pub fn start(description: &str) -> Self {
        Self::start_words(&description.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts a description whose words hold white space.
    pub fn start_words(words: &[&str]) -> Self {
        Self::start_words_with(words, &[])
    }

    /// The same with more in its environment.
    pub fn start_words_with(words: &[&str], environment: &[(&str, &str)]) -> Self {
        // One registry for all tests saves each a scan of the system's plugins; GStreamer replaces it atomically.
        let mut child = Command::new("gst-launch-1.0")
            .arg("-e")
            .args(words)
            .env("GST_PLUGIN_PATH", plugin_dir())
            .env("GST_REGISTRY", target_tmp().join("gst-registry.bin"))
            .env("NO_COLOR", "1")
            // Without tests/run as well: what GLib calls critical is a mistake.
            .env("G_DEBUG", "fatal-criticals")
            .env("GST_DEBUG_NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gst-launch-1.0 starts");
        let output = Arc::new(Output::default());
        let readers = vec![
            output.clone().follow(child.stdout.take().expect("stdout")),
            output.clone().follow(child.stderr.take().expect("stderr")),
        ];
        Self { child, output, readers }
    }

    /// Waits until the pipeline's HTTP server accepts.
    pub fn wait_listening(&mut self, port: u16) {
        wait_listening("gst-launch-1.0", &mut self.child, port);
    }

    /// Waits for a line that holds `text`, and returns it.
    pub fn wait_for_line(&self, text: &str, deadline: Duration) -> String {
        let end = Instant::now() + deadline;
        let mut lines = self.output.lines.lock().expect("lines");
        loop {
            if let Some(line) = lines.iter().find(|l| l.contains(text)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line with {text:?} within {deadline:?}; all there is:\n{}", lines.join("\n"));
            lines = self.output.grown.wait_timeout(lines, left).expect("lines").0;
        }
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.lines.lock().expect("lines").join("\n")
    }

    /// Lines that report an error.
    pub fn errors(&self) -> Vec<String> {
        let lines = self.output.lines.lock().expect("lines");
        lines.iter().filter(|l| l.starts_with("ERROR") || l.contains("panicked at")).cloned().collect()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for gst-launch-1.0").is_none()
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        signal(&self.child, "INT");
    }

    /// Waits for its end; from then on all that it has said is in the output.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        while Instant::now() < end && self.is_running() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!self.is_running(), "gst-launch-1.0 still runs after {deadline:?}; its output:\n{}", self.output());
        for reader in self.readers.drain(..) {
            reader.join().expect("a thread that reads");
        }
        wait_exit("gst-launch-1.0", &mut self.child, Duration::ZERO)
    }

    /// Ctrl-C, and then all that a clean end takes: within 3 s, exit code 0, no error.
    pub fn end_cleanly(mut self) {
        // It listens before it has a handler for the signal.
        self.wait_for_line("Setting pipeline to PLAYING", super::SOON);
        self.interrupt();
        let status = self.wait_exit(Duration::from_secs(3));
        assert!(status.success(), "{status}; output:\n{}", self.output());
        assert!(self.errors().is_empty(), "{}", self.output());
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Shown by the test runner with the failure.
            let text = self.output();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("gst-launch-1.0:\n{text}\n").as_bytes());
        }
    }
}

impl Output {
    fn follow(self: Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                self.lines.lock().expect("lines").push(String::from_utf8_lossy(&line).into_owned());
                self.grown.notify_all();
            }
        })
    }
}
