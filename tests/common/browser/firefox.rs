//! Firefox, driven by Marionette: the protocol under geckodriver, which Debian 12 does not have. Messages are JSON with
//! their length before them, `length:[0, id, name, parameters]`, answered by `length:[1, id, error, result]`.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::super::{free_port, wait_exit, wait_listening};
use super::Driver;

/// Longer than anything that a page is asked to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Firefox {
    child: Child,
    connection: Mutex<Connection>,
    _profile: tempfile::TempDir,
}

struct Connection {
    stream: TcpStream,
    sent: u64,
}

impl Firefox {
    pub(super) fn start() -> Self {
        let profile = tempfile::tempdir().expect("folder");
        let port = free_port();
        std::fs::write(profile.path().join("user.js"), preferences(port)).expect("user.js");
        let mut child = Command::new(program())
            .args(["--headless", "--marionette", "--no-remote", "--profile"])
            .arg(profile.path())
            // Nothing of it outside of the profile.
            .env("HOME", profile.path())
            .env_remove("G_DEBUG") // GTK's criticals are its own business
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Firefox starts");
        wait_listening("Firefox", &mut child, port);
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("Marionette");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut connection = Connection { stream, sent: 0 };
        let greeting = connection.receive();
        assert_eq!(greeting["marionetteProtocol"], 3, "{greeting}");
        connection.command("WebDriver:NewSession", &json!({}));
        Self { child, connection: Mutex::new(connection), _profile: profile }
    }
}

impl Driver for Firefox {
    fn command(&self, name: &str, parameters: &Value) -> Value {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut result = connection.command(&format!("WebDriver:{name}"), parameters);
        // Some results are objects, the others have a name.
        if result.get("value").is_some() { result["value"].take() } else { result }
    }

    fn console(&self) -> String {
        String::new() // Marionette does not tell
    }
}

impl Connection {
    fn command(&mut self, name: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let message = json!([0, self.sent, name, parameters]).to_string();
        self.stream.write_all(format!("{}:{message}", message.len()).as_bytes()).expect("Marionette takes commands");
        let mut answer = self.receive();
        assert!(answer[1] == self.sent && answer[2].is_null(), "{name} {parameters}: {answer}");
        answer[3].take()
    }

    fn receive(&mut self) -> Value {
        let mut length = 0_usize;
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("Marionette answers");
            match byte[0] {
                b':' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).expect("Marionette's whole answer");
        serde_json::from_slice(&message).expect("Marionette's JSON")
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // Its content processes end with it; killed, it would leave them to find out by themselves.
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        let quit = json!([0, u64::MAX >> 12, "Marionette:Quit", { "flags": ["eForceQuit"] }]).to_string();
        let _ = connection.stream.write_all(format!("{}:{quit}", quit.len()).as_bytes());
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_exit("Firefox", &mut self.child, Duration::from_secs(10));
        }));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Debian's name, and everybody else's.
fn program() -> &'static str {
    if Path::new("/usr/bin/firefox-esr").exists() { "firefox-esr" } else { "firefox" }
}

fn preferences(port: u16) -> String {
    [
        ("marionette.port", json!(port)),
        // A camera and a microphone that are none, and nobody to be asked for them.
        ("media.navigator.streams.fake", json!(true)),
        ("media.navigator.permission.disabled", json!(true)),
        // Loopback is the only network of some machines that test.
        ("media.peerconnection.ice.loopback", json!(true)),
        ("media.peerconnection.ice.obfuscate_host_addresses", json!(false)),
        ("media.autoplay.default", json!(0)),
        ("network.proxy.type", json!(0)),
        // No word to anybody outside, and no page but the test's.
        ("app.update.enabled", json!(false)),
        ("browser.shell.checkDefaultBrowser", json!(false)),
        ("datareporting.policy.dataSubmissionEnabled", json!(false)),
        ("media.gmp-manager.updateEnabled", json!(false)),
        ("network.captive-portal-service.enabled", json!(false)),
        ("network.connectivity-service.enabled", json!(false)),
    ]
    .iter()
    .map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"))
    .collect()
}
