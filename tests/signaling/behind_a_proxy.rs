//! A bridge server behind a proxy: whose word is taken on who asks, and where its answers lead.

use crate::auth_support::Bridge;
use crate::whip_support::offer;
use gstwebrtcbridge::signaling::{Access, TrustedProxies};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");

fn behind(proxies: &[&str]) -> Bridge {
    let trusted_proxies = TrustedProxies::parse(proxies.iter().copied()).unwrap();
    Bridge::new(Access { trusted_proxies, ..Access::default() })
}

#[test]
fn only_a_named_proxy_is_believed_who_the_client_is() {
    let client = ("X-Forwarded-For", "192.0.2.7");
    let remote = |proxies: &[&str], header: (&str, &str)| {
        let bridge = behind(proxies);
        assert_eq!(bridge.request("POST", "/whip/a", &[SDP, header], &offer(1)).status, 201);
        let offers = bridge.answerer.offers.lock().unwrap();
        offers.last().expect("an offer").1.ip().to_string()
    };
    assert_eq!(remote(&["127.0.0.0/8"], client), "192.0.2.7");
    assert_eq!(remote(&["127.0.0.1"], ("Forwarded", "for=\"[2001:db8::7]:1234\";proto=https")), "2001:db8::7");
    assert_eq!(remote(&["10.0.0.0/8"], client), "0.0.0.0", "no proxy of ours");
}

#[test]
fn what_this_machine_may_do_nobody_gets_through_a_proxy_on_it() {
    let status =
        |proxies: &[&str], headers: &[(&str, &str)]| behind(proxies).request("GET", "/metrics", headers, "").status;
    let handed_on = ("X-Forwarded-For", "192.0.2.7");
    assert_eq!(status(&[], &[]), 200, "a program of this machine");
    assert_ne!(status(&[], &[handed_on]), 200, "a proxy that was not named");
    assert_ne!(status(&[], &[("Forwarded", "for=127.0.0.1")]), 200);
    assert_ne!(status(&["127.0.0.1"], &[handed_on]), 200, "one that was");
    assert_ne!(status(&["127.0.0.1"], &[]), 200, "one that does not say for whom it asks");
}

#[test]
fn each_client_behind_a_proxy_has_a_rate_of_its_own() {
    let bridge = behind(&["127.0.0.1"]);
    let post = |client: &str| bridge.request("POST", "/whip/a", &[SDP, ("X-Forwarded-For", client)], "no offer").status;
    let limited = (0..400).any(|_| post("192.0.2.7") == 429);
    assert!(limited, "400 at once are too many of one");
    assert_ne!(post("192.0.2.8"), 429, "and none of another's");
}

#[test]
fn answers_lead_back_through_the_path_that_the_proxy_serves() {
    let bridge = behind(&["127.0.0.1"]);
    let through = [SDP, ("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Prefix", "/bridge/")];
    let location = bridge.request("POST", "/whip/a", &through, &offer(1)).location();
    assert!(location.starts_with("/bridge/whip/a/"), "{location}");
    let strangers = behind(&[]);
    let location = strangers.request("POST", "/whip/a", &through, &offer(1)).location();
    assert!(location.starts_with("/whip/a/"), "{location}");
}

#[test]
fn a_page_of_the_name_that_the_proxy_is_called_by_is_an_own_one() {
    let page = ("Origin", "https://live.example.net");
    let called = ("X-Forwarded-Host", "live.example.net");
    let client = ("X-Forwarded-For", "192.0.2.7");
    let token = Access { publish_token: Some("s3cret".into()), ..Access::default() };
    let trusted_proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
    let bridge = Bridge::new(Access { trusted_proxies, ..token });
    let shown = ("Authorization", "Bearer s3cret");
    let response = bridge.request("POST", "/whip/a", &[SDP, page, called, client, shown], &offer(1));
    assert_eq!(response.status, 201);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://live.example.net"));
}
