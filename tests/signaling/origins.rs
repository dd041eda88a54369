//! Which web pages may use a server, and by which name: what a browser would send, over real TCP.

use crate::auth_support::{Bridge, SECRET, Says, Service, claims, hs256};
use crate::whip_support::{Response, Served, offer};
use gstwebrtcbridge::signaling::{Access, AllowedOrigins};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const EVIL: &str = "https://evil.example";

fn allowing(origins: &[&str]) -> Access {
    Access { allowed_origins: AllowedOrigins::parse(origins.iter().copied()).unwrap(), ..Access::default() }
}

fn with_token() -> Access {
    Access { publish_token: Some("s3cret".into()), ..Access::default() }
}

fn preflight(bridge: &Bridge, path: &str, method: &str, origin: &str) -> Response {
    let asked = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization, content-type"),
    ];
    bridge.request("OPTIONS", path, &asked, "")
}

#[test]
fn a_foreign_page_cannot_publish_to_an_open_server() {
    let bridge = Bridge::new(Access::default());
    for origin in [EVIL, "null", "http://127.0.0.1.evil.example"] {
        let refused = bridge.request("POST", "/whip/a", &[SDP, ("Origin", origin)], &offer(1));
        refused.is_problem(403, "allowed-origins");
        assert_eq!(refused.header("access-control-allow-origin"), None, "nor read why");
        assert_eq!(preflight(&bridge, "/whip/a", "POST", origin).status, 403);
    }
    assert!(bridge.answerer.offers.lock().unwrap().is_empty());
}

#[test]
fn programs_own_pages_and_those_of_this_machine_can() {
    let bridge = Bridge::new(Access::default());
    assert_eq!(bridge.publish("a", None).status, 201, "no browser");
    let own = format!("http://{}", bridge.addr());
    for origin in [own.as_str(), "http://localhost:3000", "https://127.0.0.1:8443"] {
        let response = bridge.request("POST", "/whip/a", &[SDP, ("Origin", origin)], &offer(1));
        assert_eq!((response.status, response.header("access-control-allow-origin")), (201, Some(origin)));
        assert_eq!(response.header("vary"), Some("origin"));
        let response = preflight(&bridge, "/whip/a", "POST", origin);
        assert_eq!((response.status, response.header("access-control-allow-origin")), (200, Some(origin)));
    }
}

#[test]
fn listed_pages_can_and_a_star_lists_all() {
    let bridge = Bridge::new(allowing(&["https://app.example", "https://app.example:8443"]));
    let post = |bridge: &Bridge, origin| bridge.request("POST", "/whip/a", &[SDP, ("Origin", origin)], &offer(1));
    assert_eq!(post(&bridge, "https://app.example").status, 201);
    assert_eq!(post(&bridge, "https://app.example:8443").status, 201);
    post(&bridge, "http://app.example").is_problem(403, "http://app.example");
    post(&bridge, EVIL).is_problem(403, EVIL);
    assert_eq!(post(&Bridge::new(allowing(&["*"])), EVIL).status, 201);
}

#[test]
fn with_a_token_any_page_may_ask_unless_some_are_listed() {
    let bearer = ("Authorization", "Bearer s3cret");
    let bridge = Bridge::new(with_token());
    let post = bridge.request("POST", "/whip/a", &[SDP, ("Origin", EVIL), bearer], &offer(1));
    assert_eq!((post.status, post.header("access-control-allow-origin")), (201, Some(EVIL)));
    assert_eq!(preflight(&bridge, "/whip/a", "POST", EVIL).status, 200);
    let without = bridge.request("POST", "/whip/a", &[SDP, ("Origin", EVIL)], &offer(1));
    without.is_problem(401, "token");
    assert_eq!(without.header("access-control-allow-origin"), Some(EVIL), "it can read that it needs a token");

    let bridge =
        Bridge::new(Access { publish_token: with_token().publish_token, ..allowing(&["https://app.example"]) });
    bridge.request("POST", "/whip/a", &[SDP, ("Origin", EVIL), bearer], &offer(1)).is_problem(403, EVIL);
    let app = bridge.request("POST", "/whip/a", &[SDP, ("Origin", "https://app.example"), bearer], &offer(1));
    assert_eq!(app.status, 201);
}

#[test]
fn who_is_asked_about_tokens_is_not_asked_for_a_foreign_page_without_one() {
    let service = Service::new(Says::Status(200, String::new()));
    let bridge = Bridge::new(Access { auth_url: Some(service.url().parse().unwrap()), ..Access::default() });
    let page = ("Origin", EVIL);
    bridge.request("POST", "/whip/a", &[SDP, page], &offer(1)).is_problem(403, EVIL);
    assert_eq!(service.count(), 0);
    assert_eq!(preflight(&bridge, "/whip/a", "POST", EVIL).status, 200, "it announces a token");
    let with = [SDP, page, ("Authorization", "Bearer x")];
    assert_eq!(bridge.request("POST", "/whip/a", &with, &offer(1)).status, 201);
}

#[test]
fn a_name_that_was_made_to_point_here_is_refused_where_no_token_is_needed() {
    let bridge = Bridge::new(Access::default());
    let (host, origin) = (("Host", "rebound.example:8080"), ("Origin", "http://rebound.example:8080"));
    for (method, path) in [
        ("POST", "/whip/a"),
        ("GET", "/api/v1/channels"),
        ("DELETE", "/api/v1/channels/a"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ] {
        bridge.request(method, path, &[SDP, host, origin], &offer(1)).is_problem(403, "rebound.example");
        bridge.request(method, path, &[SDP, host], &offer(1)).is_problem(403, "rebound.example");
    }
    for known in ["localhost:1", "127.0.0.1", "192.0.2.1:8080", "[::1]:8080"] {
        assert_eq!(bridge.request("POST", "/whip/a", &[SDP, ("Host", known)], &offer(1)).status, 201, "{known}");
    }
    // What answers by whatever name an orchestrator uses is no refusal of ours.
    assert_ne!(bridge.request("GET", "/healthz", &[host], "").status, 403);

    let listed = Bridge::new(allowing(&["https://rebound.example"]));
    assert_eq!(listed.request("POST", "/whip/a", &[SDP, host], &offer(1)).status, 201);
    let locked = Bridge::new(Access { jwt_secret: Some(SECRET.into()), ..Access::default() });
    let bearer = format!("Bearer {}", hs256(&claims("publish", "a")));
    let headers = [SDP, host, ("Authorization", bearer.as_str())];
    assert_eq!(locked.request("POST", "/whip/a", &headers, &offer(1)).status, 201);
    // Locked to publishers and viewers, yet open to this machine's administrator.
    locked.request("DELETE", "/api/v1/channels/a", &[host], "").is_problem(403, "rebound.example");
    for path in ["/metrics", "/status", "/ws", "/ws?token=x"] {
        locked.request("GET", path, &[("Origin", EVIL)], "").is_problem(403, EVIL);
    }
}

#[test]
fn the_name_that_it_listens_on_is_its_own() {
    let bridge = Bridge::listening("localhost", Access::default());
    let host = format!("localhost:{}", bridge.addr().port());
    let origin = format!("http://{host}");
    let headers = [SDP, ("Host", host.as_str()), ("Origin", origin.as_str())];
    assert_eq!(bridge.request("POST", "/whip/a", &headers, &offer(1)).status, 201);
}

#[test]
fn an_element_without_a_token_is_no_prey_for_foreign_pages_either() {
    let open = Served::new("/whip/live");
    let post = |server: &Served, headers: &[(&str, &str)]| {
        server.request("POST", "/whip/live", &[&[SDP], headers].concat(), &offer(1))
    };
    post(&open, &[("Origin", EVIL)]).is_problem(403, EVIL);
    post(&open, &[("Origin", "null")]).is_problem(403, "null");
    let rebound = [("Origin", "http://rebound.example"), ("Host", "rebound.example")];
    let text =
        "POST /whip/live HTTP/1.1\r\nConnection: close\r\nContent-Type: application/sdp\r\nContent-Length: 0\r\n";
    let text = format!("{text}Origin: {}\r\nHost: {}\r\n\r\n", rebound[0].1, rebound[1].1);
    Response::parse(&crate::whip_support::exchange(open.addr(), &text)).is_problem(403, "rebound.example");
    let asked = [("Origin", EVIL), ("Access-Control-Request-Method", "POST")];
    let preflight = open.request("OPTIONS", "/whip/live", &asked, "");
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, None));
    assert_eq!(post(&open, &[]).status, 201, "an encoder, whatever it calls the host");
    assert_eq!(post(&open, &[("Origin", "http://localhost:3000")]).status, 201);

    let locked = Served::with_token("/whip/live", "s3cret");
    let headers = [("Origin", EVIL), ("Authorization", "Bearer s3cret")];
    assert_eq!(post(&locked, &headers).status, 201);
}

#[test]
fn a_session_cannot_be_changed_by_a_foreign_page() {
    let server = Served::new("/whip/live");
    let location = server.post(&offer(1)).location();
    for method in ["PATCH", "DELETE", "GET"] {
        server.request(method, &location, &[("Origin", EVIL)], "").is_problem(403, EVIL);
    }
    assert_eq!(server.request("GET", &location, &[], "").status, 204, "it is untouched");
}
