//! Headless browsers with a fake camera and microphone: Chromium through chromedriver, Firefox through Marionette.
//!
//! What a test does with a page is here; how each browser is started and spoken to is in `chromium` and `firefox`, which
//! take the commands of WebDriver (W3C) by Marionette's names.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::target_tmp;

mod chromium;
mod firefox;

/// A running browser, gone when dropped.
trait Driver {
    /// Runs a command and returns its value.
    fn command(&self, name: &str, parameters: &Value) -> Value;

    /// What the page wrote to the console, where the browser tells.
    fn console(&self) -> String;
}

/// A browser of its own, with an empty profile; gone when dropped.
pub struct Browser {
    driver: Box<dyn Driver>,
    // Held for as long as the browser runs: its encoder takes all the cores there are. Dropped last.
    _turn: Arc<fs::File>,
}

impl Browser {
    /// Starts Chromium; waits until no other test has a browser.
    pub fn start() -> Self {
        let turn = turn();
        Self { driver: Box::new(chromium::Chromium::start()), _turn: turn }
    }

    /// Starts Firefox; waits until no other test has a browser.
    pub fn start_firefox() -> Self {
        let turn = turn();
        Self { driver: Box::new(firefox::Firefox::start()), _turn: turn }
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.driver.command("Navigate", &json!({ "url": url }));
    }

    /// Opens an address in a window of its own, which is spoken to from now on; its handle.
    pub fn open_window(&self, url: &str) -> String {
        let made = self.driver.command("NewWindow", &json!({ "type": "window" }));
        let handle = made["handle"].as_str().expect("a handle").to_owned();
        self.switch_to(&handle);
        self.open(url);
        handle
    }

    /// The window that is spoken to.
    pub fn window(&self) -> String {
        self.driver.command("GetWindowHandle", &json!({})).as_str().expect("a handle").to_owned()
    }

    /// Speaks to another window from now on.
    pub fn switch_to(&self, handle: &str) {
        self.driver.command("SwitchToWindow", &json!({ "handle": handle }));
    }

    /// Closes the window that is spoken to; another one has to be switched to.
    pub fn close_window(&self) {
        self.driver.command("CloseWindow", &json!({}));
    }

    /// Puts text into a field as a user does, in place of what is there.
    pub fn fill(&self, selector: &str, text: &str) {
        self.eval(&format!(
            "const field = document.querySelector('{selector}'); field.value = {}; field.dispatchEvent(new Event('input'));",
            json!(text)
        ));
    }

    /// Runs the body of a function and returns what it returns.
    pub fn eval(&self, script: &str) -> Value {
        self.driver.command("ExecuteScript", &json!({ "script": script, "args": [] }))
    }

    /// Runs the body of an asynchronous function and returns what it resolves to.
    pub fn eval_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, e => done('' + e))"
        );
        self.driver.command("ExecuteAsyncScript", &json!({ "script": script, "args": [] }))
    }

    /// Clicks, as a user does, what a CSS selector names.
    pub fn click(&self, selector: &str) {
        let found = self.driver.command("FindElement", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("element");
        self.driver.command("ElementClick", &json!({ "id": id }));
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
                let log = self.driver.console();
                panic!("{script:?} not true within {deadline:?}: {page} {log}; see {}", shot.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Shows the page as on a screen of this size, in CSS pixels, and in these colours (`light`, `dark`). Chromium only.
    pub fn on_screen(&self, width: u32, height: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 });
        self.driver.command("SetDeviceMetrics", &metrics);
        self.driver.command("SetColourScheme", &json!({ "scheme": scheme }));
    }

    /// Saves what the window shows, and returns where.
    pub fn screenshot(&self, name: &str) -> PathBuf {
        let answer = self.driver.command("TakeScreenshot", &json!({ "full": false }));
        let path = target_tmp().join(format!("{name}-{}.png", std::process::id()));
        fs::write(&path, base64(answer.as_str().expect("PNG"))).expect("screenshot");
        path
    }
}

/// A test's browsers share its turn.
fn turn() -> Arc<fs::File> {
    static TURN: Mutex<Weak<fs::File>> = Mutex::new(Weak::new());
    let mut shared = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(turn) = shared.upgrade() {
        return turn;
    }
    let turn = fs::File::create(target_tmp().join("browser.lock")).expect("lock file");
    turn.lock().expect("lock");
    let turn = Arc::new(turn);
    *shared = Arc::downgrade(&turn);
    turn
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
