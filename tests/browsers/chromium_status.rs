//! The status page in Chromium: what the server tells is what it shows, on a desk and on a phone.

use crate::common::{SOON, browser::Browser};
use crate::site_support::{Site, full_report, session};
use gstwebrtcbridge::signaling::{Access, Report, SessionReport};
use serde_json::json;

#[test]
fn the_status_page_draws_and_lists_what_the_server_tells() {
    let site = Site::open();
    *site.numbers.report.lock().unwrap() = full_report();
    let browser = Browser::start();
    browser.open(&format!("{}/status", site.mount.url()));
    browser.wait_state("live", SOON);
    // Lines need two looks.
    browser
        .wait_for("return [...document.querySelectorAll('.line')].some(l => l.getAttribute('d').includes('L'))", SOON);
    assert_eq!(rows(&browser, "Sessions"), 2);
    assert_eq!(rows(&browser, "Destinations"), 2);
    for (table, words) in [
        ("Sessions", &["stage", "aaaaaa", "connected", "H264, OPUS", "2.4 Mbit/s", "21 ms", "waited for", "hall"][..]),
        ("Destinations", &["rtmp://a.example/live/***", "live", "40 ms", "retrying"]),
        ("Media ports", &["40000", "5,000"]),
        ("Process", &["7", "File descriptors"]),
    ] {
        let text = browser.eval(&format!("{} return table.innerText", find(table)));
        for word in words {
            assert!(text.as_str().unwrap().contains(word), "no {word} in {table}: {text}");
        }
    }
    let label = "return document.querySelectorAll('.graph svg')[1].getAttribute('aria-label')";
    assert!(browser.eval(label).as_str().unwrap().contains("stage (aaaaaa) 2.4 Mbit/s"));

    // What is gone goes from the tables at once; what has no name in HTML stays text.
    let hostile = SessionReport { channel: "<img src=x onerror=alert(1)>".into(), ..session("x", "cccccc") };
    *site.numbers.report.lock().unwrap() = Report { sessions: vec![hostile], ..Report::default() };
    browser.wait_for(&format!("{} return table.innerText.includes('<img src=x')", find("Sessions")), SOON);
    assert_eq!(rows(&browser, "Sessions"), 1);
    assert_eq!(browser.eval("return document.querySelectorAll('main img').length"), 0);
    *site.numbers.report.lock().unwrap() = Report::default();
    browser.wait_for(&format!("{} return table.innerText.includes('Nobody is publishing')", find("Sessions")), SOON);
    drop(site);
    browser.wait_state("stale", SOON);
}

#[test]
fn the_status_page_asks_for_the_administrators_token() {
    let site = Site::with(Access { admin_token: Some("adm".into()), ..Access::default() });
    let browser = Browser::start();
    browser.open(&format!("{}/status", site.mount.url()));
    browser.wait_state("denied", SOON);
    assert_eq!(browser.eval("return document.querySelector('#graphs').offsetParent"), json!(null));
    for (token, state) in [("guess", "denied"), ("adm", "live")] {
        browser.eval(&format!("document.querySelector('#token').value = '{token}'"));
        browser.click("#access button");
        browser.wait_for(
            &format!(
                "return document.body.dataset.state === '{state}' && \
                 document.querySelector('#error').hidden === {}",
                state == "live"
            ),
            SOON,
        );
    }
    assert_eq!(browser.eval("return document.querySelector('#access').hidden"), true);
}

#[test]
fn the_status_page_fits_a_phone_and_a_desk_by_day_and_by_night() {
    let site = Site::open();
    *site.numbers.report.lock().unwrap() = full_report();
    let browser = Browser::start();
    let mut backgrounds = Vec::new();
    for (width, height, scheme) in [(320, 640, "dark"), (360, 780, "light"), (1280, 900, "dark"), (1280, 900, "light")]
    {
        browser.on_screen(width, height, scheme);
        browser.open(&format!("{}/status", site.mount.url()));
        browser.wait_state("live", SOON);
        browser.wait_for("return document.querySelectorAll('.graph .line').length > 3", SOON);
        let page = browser.eval("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(page <= u64::from(width), "{page} on {width}");
        let cut = "return [...document.querySelectorAll('dt, dd, figcaption, .graph text, .legend strong')].filter(e => \
                   e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0).map(e => e.textContent)";
        assert_eq!(browser.eval(cut), json!([]), "on {width}");
        backgrounds.push(browser.eval("return getComputedStyle(document.body).backgroundColor"));
        browser.screenshot(&format!("status-{width}-{scheme}"));
    }
    assert_eq!(backgrounds[0], backgrounds[2]);
    assert_ne!(backgrounds[2], backgrounds[3]);
}

/// Makes `table` the one with this caption.
fn find(caption: &str) -> String {
    format!("const table = [...document.querySelectorAll('table')].find(t => t.caption.innerText === '{caption}');")
}

fn rows(browser: &Browser, caption: &str) -> i64 {
    browser.eval(&format!("{} return table.tBodies[0].rows.length", find(caption))).as_i64().unwrap()
}
