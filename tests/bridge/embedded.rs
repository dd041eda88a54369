//! The examples run: a bridge server in other programs.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::common::{
    SOON, nginx::Nginx, plugin_dir, publisher::Publisher, recording::Recording, target_tmp, wait_exit,
};

/// A running example; killed when dropped.
struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let program = plugin_dir().join("examples").join(name);
        let mut child = Command::new(&program)
            .args(arguments)
            .env("GST_REGISTRY", target_tmp().join("gst-registry-examples.bin"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    /// Reads up to a line that begins so; returns the rest of it. The test's own time limit is the deadline.
    fn wait_for(&mut self, start: &str) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
            seen.push(line);
        }
        panic!("no line that begins with {start:?}: {seen:#?}");
    }

    fn end(mut self) {
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

#[test]
fn embed_bin_hears_its_publishers_and_ends_them() {
    let mut example = Example::start("embed_bin", &["127.0.0.1:0"]);
    let page = example.wait_for("page: ");
    let publisher = Publisher::start(&format!("{page}whip/red"));
    example.wait_for("red: live");
    // A decoder begins with silence.
    while example.wait_for("red: the loudest sample is ").starts_with("0 ") {}
    publisher.assert_unharmed();
    example.end();
}

#[test]
fn embed_server_pushes_its_publishers_and_ends_them() {
    let nginx = Nginx::start();
    let rtmp = nginx.url("");
    let mut example = Example::start("embed_server", &["127.0.0.1:0", rtmp.trim_end_matches('/')]);
    let page = example.wait_for("page: ");
    let red = Publisher::start(&format!("{page}whip/red"));
    let test = Publisher::start(&format!("{page}whip/test-1"));
    let path = nginx.wait_recorded("red", SOON, |flv| flv.has_seconds(2, 2));
    example.end();
    nginx.wait_for_log("FCUnpublish", SOON);
    Recording::probe(&path).assert_starts_with_keyframe();
    assert!(nginx.recordings("test").is_empty());
    drop((red, test));
}
