//! Requests that somebody else had made: by a page in a visitor's browser (CSRF), for another's session (IDOR), or so that the
//! server calls whom the client wants (SSRF).

use serde_json::{Value, json};

use crate::auth_support::{Bridge, Says, Service};
use crate::whip_support::offer;
use gstwebrtcbridge::signaling::Access;

const SDP: (&str, &str) = ("Content-Type", "application/sdp");

/// Everything that changes something, on a server that is open to whoever comes.
const CHANGES: [(&str, &str); 11] = [
    ("POST", "/whip/open"),
    ("PATCH", "/whip/open/x"),
    ("DELETE", "/whip/open/x"),
    ("POST", "/whep/open"),
    ("PATCH", "/whep/open/x"),
    ("DELETE", "/whep/open/x"),
    ("POST", "/whep/open/x/sse"),
    ("POST", "/whep/open/x/layer"),
    ("POST", "/offer"),
    ("DELETE", "/api/v1/channels/open"),
    ("GET", "/ws"),
];

#[test]
fn what_a_foreign_page_can_send_without_asking_first_changes_nothing() {
    let bridge = Bridge::new(Access::default());
    // What needs no preflight: a form's content types, and anything else that a page may set.
    let types =
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/sdp"];
    for (method, path) in CHANGES {
        for content_type in types {
            for origin in ["https://evil.example", "null"] {
                let headers = [
                    ("Content-Type", content_type),
                    ("Origin", origin),
                    ("Cookie", "token=admin"),
                    ("Connection", "Upgrade"),
                    ("Upgrade", "websocket"),
                    ("Sec-WebSocket-Version", "13"),
                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ];
                let headers = if path == "/ws" { &headers[..] } else { &headers[..3] };
                let answer = bridge.request(method, path, headers, &offer(1));
                assert_eq!(answer.status, 403, "{method} {path} of {origin} as {content_type}: {}", answer.body);
                assert_eq!(answer.header("access-control-allow-origin"), None, "{method} {path}: nor read the answer");
            }
        }
    }
    assert!(bridge.answerer.offers.lock().unwrap().is_empty());
}

#[test]
fn there_are_no_cookies_that_a_page_could_make_use_of() {
    let bridge = Bridge::new(Access { publish_token: Some("publish".into()), ..Access::default() });
    for (method, path) in CHANGES.into_iter().chain([("GET", "/"), ("GET", "/status"), ("GET", "/api/v1/channels")]) {
        for authorization in ["Bearer publish", "Bearer wrong", "Basic cHVibGlzaDpwdWJsaXNo"] {
            let answer = bridge.request(method, path, &[SDP, ("Authorization", authorization)], &offer(1));
            assert_eq!(answer.header("set-cookie"), None, "{method} {path}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "{method} {path}");
        }
    }
    // And none is taken for a token.
    let answer =
        bridge.request("POST", "/whip/a", &[SDP, ("Cookie", "token=publish; Authorization=Bearer publish")], &offer(1));
    assert_eq!(answer.status, 401);
}

#[test]
fn a_session_is_reached_under_its_own_channel_alone_and_by_who_may_publish_there() {
    let bridge = Bridge::new(Access::default()).with_key("mine", "my-key").with_key("yours", "your-key");
    let location = bridge.publish("mine", Some("my-key")).location();
    let id = location.rsplit('/').next().unwrap();
    let ask = |method: &str, channel: &str, key: Option<&str>| {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let mut headers = vec![("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", "*")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=video 9 x 0\r\na=mid:0\r\n";
        bridge.request(method, &format!("/whip/{channel}/{id}"), &headers, fragment).status
    };
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(ask(method, "mine", None), 401, "{method}: to know the URL is not enough");
        assert_eq!(ask(method, "mine", Some("your-key")), 401, "{method} with another channel's key");
        assert_eq!(ask(method, "yours", Some("your-key")), 404, "{method} under one's own channel");
        assert_eq!(ask(method, "nobodys", None), 404, "{method} under an open channel");
    }
    assert_eq!(bridge.answerer.closed.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(bridge.answerer.fragments.lock().unwrap().is_empty());
    assert_eq!(ask("GET", "mine", Some("my-key")), 204, "it is still there");
    assert_eq!(ask("DELETE", "mine", Some("my-key")), 200);
}

#[test]
fn no_client_says_whom_the_server_asks_and_what_is_asked_holds_four_things() {
    let (service, elsewhere) =
        (Service::new(Says::Status(200, String::new())), Service::new(Says::Status(200, String::new())));
    let bridge = Bridge::new(Access { auth_url: Some(service.url().parse().unwrap()), ..Access::default() });
    let (url, host) = (elsewhere.url(), elsewhere.address.to_string());
    // URLs wherever a client can write one, names and private addresses among them.
    let link = format!("<stun:{host}>; rel=\"ice-server\"");
    let forwarded = format!("for=192.0.2.1;host={host}");
    let headers = [
        SDP,
        ("Authorization", "Bearer t0ken"),
        ("X-Forwarded-Host", host.as_str()),
        ("X-Forwarded-For", "169.254.169.254"),
        ("X-Original-URL", url.as_str()),
        ("X-Rewrite-URL", url.as_str()),
        ("Forwarded", forwarded.as_str()),
        ("Referer", url.as_str()),
        ("Link", link.as_str()),
        ("X-Auth-Url", url.as_str()),
    ];
    let sdp = offer(1).replace("s=-", &format!("s=-\r\nu={url}"));
    let sdp = format!("{sdp}a=candidate:1 1 udp 1 {} 9 typ host\r\n", elsewhere.address.ip());
    let query = format!("/whip/live?auth-url={url}&auth_url={url}&jwks-uri={url}&turn-servers=turn://a:b@{host}");
    assert_eq!(bridge.request("POST", &query, &headers, &sdp).status, 201);
    let body = json!({"type": "offer", "sdp": sdp, "auth_url": url, "iceServers": [{"urls": format!("stun:{host}")}]});
    let json_headers = [("Content-Type", "application/json"), headers[1]];
    assert_eq!(bridge.request("POST", "/offer", &json_headers, &body.to_string()).status, 200);
    // Paths that would be others at the service, were they pasted into its URL.
    for path in ["/whip/..%2f..%2fadmin", "/whip/a%3fx=y", "/whip/a@evil.example", "/whip/a%0d%0aHost:%20evil"] {
        let status = bridge.request("POST", path, &headers, &sdp).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    assert_eq!(elsewhere.count(), 0);
    let asked = service.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for asked in asked {
        let asked: Value = serde_json::from_str(&asked).unwrap();
        let names: Vec<&str> = asked.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["address", "channel", "role", "token"]);
        // No proxy is named that could say another: what came through one is of an address that nobody has.
        assert!(["127.0.0.1", "0.0.0.0"].contains(&asked["address"].as_str().unwrap()), "{asked}");
    }
}
