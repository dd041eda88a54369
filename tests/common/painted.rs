//! A picture that carries the time, colours and a tone, sent by a page in place of camera and microphone, and what another
//! page, or the same, shows of it: how old it is, and how true.

use serde::Deserialize;

use super::browser::Browser;

/// The colours of the picture's lower half, from left to right.
const COLOURS: [[i32; 3]; 4] = [[0xd0, 0x10, 0x10], [0x10, 0xb0, 0x10], [0x10, 0x30, 0xd0], [0xe0, 0xe0, 0xe0]];
/// What encoders and two conversions of colours may make of one.
const TOLERANCE: i32 = 40;

const PICTURES: usize = 60;
const LOOKS: usize = 8;
/// In ms. On an idle machine it is some 40, there and back below 100 (docs/benchmarks.md); that nothing piles up on the way can be
/// seen while a browser has to share two cores with other tests, too.
const FRESH: f64 = 500.0;

/// What was shown of it.
#[derive(Debug, Deserialize)]
pub struct Shown {
    /// How old each picture was in ms, in order.
    delays: Vec<f64>,
    /// Pictures without a legible time.
    spoilt: usize,
    colours: Vec<[i32; 3]>,
}

/// Gives the page that is spoken to such a camera, and a microphone with a tone in Hz.
pub fn send(browser: &Browser, pitch: f64) {
    load(browser);
    browser.eval(&format!("window.painted.send({pitch})"));
}

/// Looks at so many pictures that a video element shows.
pub fn shown(browser: &Browser, video: &str, count: usize) -> Shown {
    load(browser);
    let told = browser.eval_async(&format!("return window.painted.shown(document.querySelector('{video}'), {count})"));
    serde_json::from_value(told.clone()).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// Looks until what is shown is fresh in the median: other tests may take the cores for a while.
pub fn wait_fresh(browser: &Browser, video: &str) -> Shown {
    let mut medians = Vec::new();
    for _ in 0..LOOKS {
        let shown = shown(browser, video, PICTURES);
        shown.assert_true();
        if shown.median() < FRESH {
            return shown;
        }
        medians.push(shown.median());
    }
    panic!("never below {FRESH} ms: {medians:?}")
}

/// The loudest pitch in Hz of what a video element plays.
pub fn pitch(browser: &Browser, video: &str) -> f64 {
    load(browser);
    let told = browser.eval_async(&format!("return window.painted.pitch(document.querySelector('{video}').srcObject)"));
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("{told}"));
    assert!(number("level") > -60.0, "it is silent: {told}");
    number("pitch")
}

fn load(browser: &Browser) {
    browser.eval(&format!("if (!window.painted) {{ {} }}", include_str!("painted.js")));
}

impl Shown {
    /// In ms.
    pub fn median(&self) -> f64 {
        self.delays[self.delays.len() / 2]
    }

    /// Times are legible but for a few pictures, and the colours are what they were.
    pub fn assert_true(&self) {
        assert!(self.spoilt * 10 <= self.delays.len(), "{self:?}");
        for (shown, meant) in self.colours.iter().zip(COLOURS) {
            let is_near = shown.iter().zip(meant).all(|(shown, meant)| (shown - meant).abs() <= TOLERANCE);
            assert!(is_near, "{meant:?} became {shown:?}: {self:?}");
        }
    }
}
