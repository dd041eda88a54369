//! Headless Chromium with a fake camera and microphone, driven by WebDriver (W3C) through chromedriver.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{free_port, target_tmp, wait_listening};

/// A browser of its own, with an empty profile; gone when dropped.
pub struct Browser {
    driver: Child,
    session: String,
    _profile: tempfile::TempDir,
    // Held for as long as the browser runs: its encoder takes all the cores there are.
    _turn: fs::File,
}

impl Browser {
    /// Starts Chromium; waits until no other test has one.
    pub fn start() -> Self {
        let turn = fs::File::create(target_tmp().join("browser.lock")).expect("lock file");
        turn.lock().expect("lock");
        let profile = tempfile::tempdir().expect("folder");
        let port = free_port();
        let mut driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        wait_listening("chromedriver", &mut driver, port);
        let mut browser =
            Self { driver, session: format!("http://127.0.0.1:{port}/session"), _profile: profile, _turn: turn };
        let mut options = json!({ "args": arguments(browser._profile.path()) });
        if Path::new("/usr/bin/chromium").exists() {
            options["binary"] = json!("/usr/bin/chromium");
        }
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" } });
        let answer = browser.post("", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let id = answer["sessionId"].as_str().expect("session").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a function and returns what it returns.
    pub fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Clicks, as a user does, what a CSS selector names.
    pub fn click(&self, selector: &str) {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("element").to_owned();
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    /// The page's state: idle, connecting, live, ended or failed.
    pub fn state(&self) -> String {
        self.eval("return document.body.dataset.state || ''").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page is in a state.
    pub fn wait_state(&self, wanted: &str, deadline: Duration) {
        self.wait_for(&format!("return document.body.dataset.state === '{wanted}'"), deadline);
    }

    /// Waits until a script returns true; what the page shows goes into the panic otherwise.
    pub fn wait_for(&self, script: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        while self.eval(script) != json!(true) {
            if Instant::now() >= end {
                let shot = self.screenshot("failed");
                let page = self.eval("return document.body.dataset.state + ': ' + document.body.innerText");
                let log = self.post("/se/log", &json!({ "type": "browser" }));
                panic!("{script:?} not true within {deadline:?}: {page} {log}; see {}", shot.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Saves what the window shows, and returns where.
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let answer = self.request("GET", "/screenshot", None);
        let path = target_tmp().join(format!("{name}-{}.png", std::process::id()));
        fs::write(&path, base64(answer.as_str().expect("PNG"))).expect("screenshot");
        path
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.request("POST", path, Some(body))
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let url = format!("{}{path}", self.session);
        let mut response = match (method, body) {
            ("POST", Some(body)) => {
                agent.post(&url).header("Content-Type", "application/json").send(body.to_string().as_str())
            }
            ("DELETE", _) => agent.delete(&url).call(),
            _ => agent.get(&url).call(),
        }
        .unwrap_or_else(|e| panic!("WebDriver {method} {path}: {e}"));
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string().expect("WebDriver's answer");
        let mut answer: Value = serde_json::from_str(&text).expect("WebDriver's JSON");
        assert!(response.status().is_success(), "WebDriver {method} {path}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium and its processes; chromedriver alone would leave them behind.
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().into();
        let _ = agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn arguments(profile: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    arguments
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.bytes().filter_map(digit).map(u32::from).collect();
    let mut bytes = Vec::new();
    for chunk in digits.chunks(4) {
        let bits = chunk.iter().fold(0, |n, d| n << 6 | d) << (6 * (4 - chunk.len()));
        bytes.extend(&bits.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}
