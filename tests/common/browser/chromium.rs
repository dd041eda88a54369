//! Chromium, driven by WebDriver over HTTP through chromedriver.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::super::{free_port, wait_listening};
use super::Driver;

pub(super) struct Chromium {
    driver: Child,
    session: String,
    _profile: tempfile::TempDir,
}

impl Chromium {
    pub(super) fn start() -> Self {
        let profile = tempfile::tempdir().expect("folder");
        let port = free_port();
        let mut driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env_remove("G_DEBUG") // its own criticals are its own business
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        wait_listening("chromedriver", &mut driver, port);
        let mut chromium = Self { driver, session: format!("http://127.0.0.1:{port}/session"), _profile: profile };
        let mut options = json!({ "args": arguments(chromium._profile.path()) });
        if Path::new("/usr/bin/chromium").exists() {
            options["binary"] = json!("/usr/bin/chromium");
        }
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" } });
        let answer = chromium.post("", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let id = answer["sessionId"].as_str().expect("session").to_owned();
        chromium.session = format!("{}/{id}", chromium.session);
        chromium
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

impl Driver for Chromium {
    fn command(&self, name: &str, parameters: &Value) -> Value {
        match name {
            "Navigate" => self.post("/url", parameters),
            "ExecuteScript" => self.post("/execute/sync", parameters),
            "ExecuteAsyncScript" => self.post("/execute/async", parameters),
            "FindElement" => self.post("/element", parameters),
            "ElementClick" => {
                let id = parameters["id"].as_str().expect("an element's id");
                self.post(&format!("/element/{id}/click"), &json!({}))
            }
            "NewWindow" => self.post("/window/new", parameters),
            "SwitchToWindow" => self.post("/window", parameters),
            "GetWindowHandle" => self.request("GET", "/window", None),
            "CloseWindow" => self.request("DELETE", "/window", None),
            "SetDeviceMetrics" => {
                let override_metrics = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": parameters });
                self.post("/goog/cdp/execute", &override_metrics)
            }
            "SetColourScheme" => {
                let features =
                    json!({ "features": [{ "name": "prefers-color-scheme", "value": parameters["scheme"] }] });
                self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": features }))
            }
            "TakeScreenshot" => self.request("GET", "/screenshot", None),
            other => panic!("no such command: {other}"),
        }
    }

    fn console(&self) -> String {
        self.post("/se/log", &json!({ "type": "browser" })).to_string()
    }
}

impl Drop for Chromium {
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
