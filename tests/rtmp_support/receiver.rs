//! The RTMP receiver of examples/, which understands enhanced RTMP: nginx drops such video.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::rtmp_support::{Tag, wait_for};

/// A running receiver.
pub(crate) struct Receiver {
    child: Child,
    rtmp: String,
    http: String,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let deps = std::env::current_exe().unwrap();
        let binary = deps.parent().and_then(Path::parent).unwrap().join("rtmp-receiver");
        // tests/run has built it, with the features of the whole workspace; alone it has others.
        if !binary.exists() {
            let build = ["build", "--locked", "--quiet", "--package", "rtmp-receiver"];
            let built = Command::new(env!("CARGO")).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(built.unwrap().success(), "cargo builds the receiver");
        }
        let mut child = Command::new(binary)
            .args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().skip(1).map(str::to_owned);
        let (rtmp, http) = (words.next().unwrap(), words.next().unwrap());
        Self { child, rtmp, http }
    }

    pub(crate) fn url(&self, key: &str) -> String {
        format!("{}live/{key}", self.rtmp)
    }

    /// Plays a stream that is being published until its end.
    pub(crate) fn play(&self, key: &str) -> Vec<Tag> {
        let url = format!("{}live/{key}.flv", self.http);
        let mut response = None;
        wait_for("the stream to be published", || {
            response = ureq::get(&url).call().ok();
            response.is_some()
        });
        let mut bytes = Vec::new();
        response.unwrap().into_body().into_reader().read_to_end(&mut bytes).unwrap();
        super::rtmp_support::read_tags(&bytes)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
