//! A program of examples/, run as a user runs it, and what it prints.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use super::{SOON, plugin_dir, target_tmp, wait_exit};

/// A running example; killed when dropped.
pub struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Self::command(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; cargo build --examples first"));
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    /// The program, for who wants to run it in another way.
    pub fn command(name: &str) -> Command {
        let mut command = Command::new(plugin_dir().join("examples").join(name));
        command.env("GST_REGISTRY", target_tmp().join("gst-registry-examples.bin"));
        command
    }

    /// Reads up to a line that begins so; returns the rest of it. The test's own time limit is the deadline.
    pub fn wait_for(&mut self, start: &str) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
            seen.push(line);
        }
        panic!("no line that begins with {start:?}: {seen:#?}");
    }

    /// Everything that it still prints, until it ends by itself, and how it ended.
    pub fn finish(mut self) -> (Vec<String>, ExitStatus) {
        let lines = self.lines.by_ref().map_while(Result::ok).collect();
        (lines, wait_exit("the example", &mut self.child, SOON))
    }

    /// Enter: it brings what runs to its end.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        self.wait_for("ended");
        assert!(wait_exit("the example", &mut self.child, SOON).success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
