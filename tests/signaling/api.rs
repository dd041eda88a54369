//! `/api/v1`: channels, the status page, methods, health, and elements' endpoints among all that. That answers are as the
//! OpenAPI document says is seen in `api_document`; what each token gets at these paths in `who_may_do_what`.

use std::sync::atomic::Ordering::SeqCst;

use crate::site_support::Site;
use crate::whip_support::{Fake, RUNTIME, Response, config, offer};
use gstwebrtcbridge::{
    channel::NewChannel,
    signaling::{Access, mount},
};
use serde_json::{Value, json};

#[test]
fn channels_are_listed_with_what_their_makers_said() {
    let site = Site::open();
    assert_eq!(body(&site.get("/api/v1/channels")), json!({ "channels": [] }));
    let (id, _) = site.create(NewChannel {
        title: Some("Cats & <dogs>".into()),
        category: Some("animals".into()),
        metadata: Some(r#"{"lang":"de","n":[1,2]}"#.into()),
    });
    let listed = &body(&site.get("/api/v1/channels"))["channels"][0];
    assert_eq!(listed["id"], id);
    assert_eq!(listed["title"], "Cats & <dogs>");
    assert_eq!(listed["metadata"], json!({ "lang": "de", "n": [1, 2] }));
    assert_eq!((&listed["live"], &listed["viewers"], &listed["keyed"]), (&json!(false), &json!(0), &json!(true)));
    assert_eq!(&body(&site.get(&format!("/api/v1/channels/{id}"))), listed);
    site.get("/api/v1/channels/nobody").is_problem(404, "nobody");
    site.get("/api/v1/channels/no%20id").is_problem(404, "channel id");
}

#[test]
fn a_stopped_channel_is_gone() {
    let site = Site::open();
    let (id, _) = site.create(NewChannel::default());
    let path = format!("/api/v1/channels/{id}");
    assert_eq!(site.request("DELETE", &path, &[], "").status, 204);
    site.get(&path).is_problem(404, &id);
    site.request("DELETE", &path, &[], "").is_problem(404, &id);
}

#[test]
fn a_browser_gets_the_status_page_with_the_refusal_to_type_the_token_in() {
    let site = Site::with(Access { admin_token: Some("adm".into()), ..Access::default() });
    let answer = site.request("GET", "/status", &[("Accept", "text/html,*/*;q=0.8")], "");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer ") && answer.body.contains("id=\"token\""));
    assert!(answer.header("content-security-policy").is_some());
    let shown = site.request("GET", "/status", &[("Authorization", "Bearer adm")], "");
    assert_eq!((shown.status, shown.body), (200, answer.body));
}

#[test]
fn without_a_page_only_the_files_of_the_status_page_are_served() {
    let site = Site::without_page();
    for path in ["/", "/page/live.js", "/page/mpegts.js", "/page/nothing.js"] {
        site.get(path).is_problem(404, path);
    }
    let status = site.get("/status").body;
    for name in ["status.js", "status.css", "style.css", "favicon.svg"] {
        assert!(status.contains(&format!("page/{name}")));
        assert_eq!(site.get(&format!("/page/{name}")).status, 200, "{name}");
    }
    assert_eq!(Site::open().get("/page/live.js").status, 200);
}

#[test]
fn this_machine_needs_no_token_where_there_is_none() {
    let site = Site::open();
    for path in ["/api/v1/status", "/metrics", "/api/v1/channels", "/status"] {
        assert_eq!(site.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_page_from_elsewhere_cannot_stop_a_channel_nor_ask_whether_it_may() {
    let site = Site::open();
    let (id, _) = site.create(NewChannel::default());
    let path = format!("/api/v1/channels/{id}");
    for origin in ["https://evil.example", "null"] {
        site.request("DELETE", &path, &[("Origin", origin)], "").is_problem(403, "page");
        let asking = [("Origin", origin), ("Access-Control-Request-Method", "DELETE")];
        let answer = site.request("OPTIONS", &path, &asking, "");
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    // A name that was made to point here.
    let rebound = [("Origin", "http://evil.example"), ("Host", "evil.example")];
    assert_eq!(site.request("DELETE", &path, &rebound, "").status, 403);
    for path in ["/metrics", "/api/v1/status", "/api/v1/channels"] {
        assert_eq!(site.request("GET", path, &[("Host", "evil.example")], "").status, 403, "{path}");
    }
    assert_eq!(site.get(&path).status, 200);
}

#[test]
fn what_takes_other_methods_says_which() {
    let site = Site::open();
    for (path, allow) in [
        ("/api/v1/channels", "GET, HEAD"),
        ("/api/v1/channels/x", "DELETE, GET, HEAD"),
        ("/api/v1/status", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/offer", "POST"),
        ("/", "GET, HEAD"),
        ("/endpoints.json", "GET, HEAD"),
        ("/page/app.js", "GET, HEAD"),
        ("/api/v1/signaling.schema.json", "GET, HEAD"),
    ] {
        let answer = site.request("PUT", path, &[], "");
        answer.is_problem(405, allow);
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
}

#[test]
fn what_is_not_utf_8_is_not_there() {
    let site = Site::open();
    for (method, path) in [("GET", "/api/v1/channels/%FF"), ("DELETE", "/api/v1/channels/%FF"), ("GET", "/page/%FF")] {
        site.request(method, path, &[], "").is_problem(404, "%FF");
    }
}

#[test]
fn readiness_ends_with_draining_and_being_alive_does_not() {
    let site = Site::open();
    assert_eq!(site.get("/readyz").status, 200);
    site.numbers.draining.store(true, SeqCst);
    let answer = site.get("/readyz");
    answer.is_problem(503, "no new sessions");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(site.get("/healthz").status, 200);
    assert_eq!(body(&site.get("/api/v1/status"))["draining"], true);
}

#[test]
fn an_elements_server_has_health_and_no_api_and_its_endpoints_come_first() {
    let served = crate::whip_support::Served::new("/metrics");
    assert_eq!(served.request("GET", "/readyz", &[], "").status, 200);
    assert_eq!(served.request("GET", "/healthz", &[], "").status, 200);
    served.request("GET", "/api/v1/channels", &[], "").is_problem(404, "/api/v1/channels");
    // Whatever is there elsewhere.
    for path in ["/metrics", "/ws", "/page", "/page/live", "/endpoints.json", "/api/v1/signaling.schema.json"] {
        let served = crate::whip_support::Served::new(path);
        let location = served.post(&offer(1)).location();
        assert_eq!(served.request("DELETE", &location, &[], "").status, 200, "{path}");
        assert_eq!(served.request("GET", "/page/style.css", &[], "").status, 200, "the page beside {path}");
    }
}

#[test]
fn an_element_on_a_bridge_servers_port_keeps_its_path() {
    let site = Site::open();
    let fake = Fake::default();
    let endpoint = mount(RUNTIME.handle(), config("/status", site.addr().port()), std::sync::Arc::new(fake)).unwrap();
    let post = |path| site.request("POST", path, &[("Content-Type", "application/sdp")], &offer(1)).status;
    assert_eq!(post("/status"), 201);
    drop(endpoint);
    assert_eq!(post("/status"), 405);
}

fn body(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}
