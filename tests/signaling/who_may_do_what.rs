//! Who may do what on a bridge server: every path, with every token, under every configuration, over real TCP.
//!
//! To add a path, add its rows: what it wants, and what each token gets there.

use crate::auth_support::{Bridge, SECRET, claims, hs256, now};
use crate::whip_support::{RUNTIME, offer};
use gstwebrtcbridge::signaling::Access;
use serde_json::json;

/// What may be set. Channel `keyed` has the stream key `the-key`, channel `other` has `other-key`, `open` has none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Set {
    Nothing,
    /// publish-token, view-token and admin-token.
    Tokens,
    /// jwt-secret.
    Jwt,
    /// Both.
    Both,
}

impl Set {
    fn access(self) -> Access {
        let tokens = matches!(self, Self::Tokens | Self::Both);
        let jwt = matches!(self, Self::Jwt | Self::Both);
        let token = |text: &str| tokens.then(|| text.to_owned());
        Access {
            publish_token: token("publish"),
            view_token: token("view"),
            admin_token: token("admin"),
            jwt_secret: jwt.then(|| SECRET.to_owned()),
            ..Access::default()
        }
    }
}

/// In the order of the columns.
const STATES: [&str; 16] = [
    "none",
    "wrong",
    "publish",
    "view",
    "admin",
    "key",
    "otherkey",
    "jwt:publish:keyed",
    "jwt:publish:open",
    "jwt:publish:*",
    "jwt:view:*",
    "jwt:view:keyed",
    "jwt:view:open",
    "jwt:admin:*",
    "jwt:expired",
    "jwt:nobody",
];

fn bearer(state: &str) -> Option<String> {
    let live = |role: &str, channel: &str| hs256(&claims(role, channel));
    Some(match state {
        "none" => return None,
        "key" => "the-key".into(),
        "otherkey" => "other-key".into(),
        "jwt:expired" => hs256(&json!({"role": "admin", "channel": "*", "exp": now() - 3600})),
        "jwt:nobody" => hs256(&json!({"exp": now() + 3600})),
        jwt if jwt.starts_with("jwt:") => {
            let (role, channel) = jwt["jwt:".len()..].split_once(':').unwrap();
            live(role, channel)
        }
        plain => plain.to_owned(),
    })
}

#[rustfmt::skip]
const TABLE: &[(Set, &str, &str, [u16; 16])] = &[
    //                                       none wrong publ view admn key  okey|pub:k pub:o pub:* view:* view:k view:o adm:* exp nobody
    (Set::Nothing, "POST",   "/whip/open",  [201, 201, 201, 201, 201, 201, 201,  201, 201, 201, 201, 201, 201, 201, 201, 201]),
    (Set::Nothing, "POST",   "/whip/keyed", [401, 401, 401, 401, 401, 201, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Nothing, "GET",    "/whip/keyed", [401, 401, 401, 401, 401, 204, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Nothing, "DELETE", "/whip/keyed/x", [401, 401, 401, 401, 401, 404, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Nothing, "DELETE", "/whip/open/x",  [404, 404, 404, 404, 404, 404, 404,  404, 404, 404, 404, 404, 404, 404, 404, 404]),
    (Set::Tokens,  "OPTIONS", "/whip/keyed/x", [200; 16]),
    (Set::Tokens,  "HEAD",   "/whip/keyed/x", [401, 401, 404, 401, 404, 404, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "POST",   "/whip/open",  [401, 401, 201, 401, 201, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "POST",   "/whip/keyed", [401, 401, 201, 401, 201, 201, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/whip/open",  [401, 401, 204, 401, 204, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "PATCH",  "/whip/keyed/x", [401, 401, 404, 401, 404, 404, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "DELETE", "/whip/keyed/x", [401, 401, 404, 401, 404, 404, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "OPTIONS", "/whip/keyed", [200, 200, 200, 200, 200, 200, 200,  200, 200, 200, 200, 200, 200, 200, 200, 200]),
    (Set::Jwt,     "POST",   "/whip/open",  [401, 401, 401, 401, 401, 401, 401,  403, 201, 201, 403, 403, 403, 201, 401, 403]),
    (Set::Jwt,     "POST",   "/whip/keyed", [401, 401, 401, 401, 401, 201, 401,  201, 403, 201, 403, 403, 403, 201, 401, 403]),
    (Set::Jwt,     "GET",    "/whip/keyed/x", [401, 401, 401, 401, 401, 404, 401,  404, 403, 404, 403, 403, 403, 404, 401, 403]),
    (Set::Both,    "POST",   "/whip/open",  [401, 401, 201, 401, 201, 401, 401,  403, 201, 201, 403, 403, 403, 201, 401, 403]),
    (Set::Both,    "POST",   "/whip/keyed", [401, 401, 201, 401, 201, 201, 401,  201, 403, 201, 403, 403, 403, 201, 401, 403]),
    (Set::Both,    "DELETE", "/whip/keyed/x", [401, 401, 404, 401, 404, 404, 401,  404, 403, 404, 403, 403, 403, 404, 401, 403]),
    // Watching: whoever may gets as far as being told that there is no such channel, or no such session.
    (Set::Nothing, "POST",   "/whep/none",  [404; 16]),
    (Set::Nothing, "HEAD",   "/whep/keyed", [200; 16]),
    (Set::Nothing, "DELETE", "/whep/keyed/x", [404; 16]),
    (Set::Tokens,  "POST",   "/whep/none",  [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/whep/keyed", [401, 401, 401, 200, 200, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "OPTIONS", "/whep/keyed", [200; 16]),
    (Set::Tokens,  "PATCH",  "/whep/keyed/x", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "DELETE", "/whep/keyed/x", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "POST",   "/whep/keyed/x/sse", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "POST",   "/whep/keyed/x/layer", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/whep/keyed/x/sse/y", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/whep/keyed/x", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "HEAD",   "/whep/keyed/x", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "OPTIONS", "/whep/keyed/x", [200; 16]),
    (Set::Tokens,  "DELETE", "/whep/keyed/x/sse/y", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Both,    "GET",    "/whep/keyed/x", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "PATCH",  "/whep/keyed/x", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "POST",   "/whep/keyed/x/layer", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "POST",   "/whep/keyed/x/sse", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "GET",    "/whep/keyed/x/sse/y", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "DELETE", "/whep/keyed/x/sse/y", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Jwt,     "POST",   "/whep/none",  [401, 401, 401, 401, 401, 401, 401,  403, 403, 403, 404, 403, 403, 404, 401, 403]),
    (Set::Jwt,     "DELETE", "/whep/keyed/x", [401, 401, 401, 401, 401, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "GET",    "/whep/keyed", [401, 401, 401, 200, 200, 401, 401,  403, 403, 403, 200, 200, 403, 200, 401, 403]),
    // A channel of its own: no key is for it, and no role that is for another channel.
    (Set::Nothing, "POST",   "/offer",      [200; 16]),
    (Set::Tokens,  "POST",   "/offer",      [401, 401, 200, 401, 200, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Jwt,     "POST",   "/offer",      [401, 401, 401, 401, 401, 401, 401,  403, 403, 200, 403, 403, 403, 200, 401, 403]),
    (Set::Both,    "POST",   "/offer",      [401, 401, 200, 401, 200, 401, 401,  403, 403, 200, 403, 403, 403, 200, 401, 403]),
    // Lists are for who may watch, be it one channel, numbers and stopping for administrators; without an admin-token these are for this machine.
    (Set::Nothing, "GET",    "/api/v1/channels", [200; 16]),
    (Set::Nothing, "GET",    "/api/v1/channels/keyed", [404; 16]),
    (Set::Nothing, "DELETE", "/api/v1/channels/keyed", [404; 16]),
    (Set::Nothing, "GET",    "/api/v1/status", [200; 16]),
    (Set::Nothing, "GET",    "/metrics",    [200; 16]),
    (Set::Nothing, "GET",    "/status",     [200; 16]),
    (Set::Nothing, "GET",    "/healthz",    [200; 16]),
    (Set::Tokens,  "GET",    "/api/v1/channels", [401, 401, 401, 200, 200, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/api/v1/channels/keyed", [401, 401, 401, 404, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "DELETE", "/api/v1/channels/keyed", [401, 401, 401, 401, 404, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/api/v1/status", [401, 401, 401, 401, 200, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/metrics",    [401, 401, 401, 401, 200, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/status",     [401, 401, 401, 401, 200, 401, 401,  401, 401, 401, 401, 401, 401, 401, 401, 401]),
    (Set::Tokens,  "GET",    "/healthz",    [200; 16]),
    (Set::Tokens,  "GET",    "/readyz",     [200; 16]),
    (Set::Tokens,  "GET",    "/api/v1/openapi.json", [200; 16]),
    (Set::Jwt,     "GET",    "/api/v1/channels", [401, 401, 401, 401, 401, 401, 401,  403, 403, 403, 200, 200, 200, 200, 401, 403]),
    (Set::Jwt,     "DELETE", "/api/v1/channels/keyed", [404; 16]), // without admin-token this machine may
    (Set::Jwt,     "GET",    "/metrics",    [200; 16]),
    (Set::Both,    "GET",    "/api/v1/channels/keyed", [401, 401, 401, 404, 404, 401, 401,  403, 403, 403, 404, 404, 403, 404, 401, 403]),
    (Set::Both,    "DELETE", "/api/v1/channels/keyed", [401, 401, 401, 401, 404, 401, 401,  403, 403, 403, 403, 403, 403, 404, 401, 403]),
    (Set::Both,    "GET",    "/api/v1/status", [401, 401, 401, 401, 200, 401, 401,  403, 403, 403, 403, 403, 403, 200, 401, 403]),
    (Set::Both,    "GET",    "/metrics",    [401, 401, 401, 401, 200, 401, 401,  403, 403, 403, 403, 403, 403, 200, 401, 403]),
    // What is the same for everybody, whatever is set: the page, its files and what it reads first.
    (Set::Both,    "GET",    "/",           [200; 16]),
    (Set::Both,    "GET",    "/page/main.js", [200; 16]),
    (Set::Both,    "GET",    "/page/none",  [404; 16]),
    (Set::Both,    "GET",    "/endpoints.json", [200; 16]),
    (Set::Both,    "GET",    "/api/v1/signaling.schema.json", [200; 16]),
    (Set::Both,    "GET",    "/none",       [404; 16]),
];

#[test]
fn every_token_gets_at_every_path_what_the_table_says() {
    let mut broken = Vec::new();
    for (set, method, path, expected) in TABLE {
        let bridge = Bridge::new(set.access()).with_key("keyed", "the-key").with_key("other", "other-key");
        for (state, expected) in STATES.into_iter().zip(expected) {
            let bearer = bearer(state).map(|token| format!("Bearer {token}"));
            let (media_type, body) = match *path {
                "/offer" => ("application/json", json!({"type": "offer", "sdp": offer(1)}).to_string()),
                _ => ("application/sdp", offer(1)),
            };
            let mut headers = vec![("Content-Type", media_type)];
            headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
            let response = bridge.request(method, path, &headers, &body);
            let challenge = response.header("www-authenticate").unwrap_or_default();
            let challenged = match (response.status, state) {
                (401, "none") => challenge == "Bearer realm=\"webrtcbridge\"",
                (401, _) => challenge.contains("invalid_token"),
                (403, _) => challenge.contains("insufficient_scope"),
                _ => challenge.is_empty(),
            };
            if response.status != *expected || !challenged {
                broken.push(format!("{set:?} {method} {path} with {state}: {} {challenge}", response.status));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_path_of_the_document_has_its_rows() {
    let bridge = Bridge::new(Access::default());
    let document: serde_json::Value =
        serde_json::from_str(&bridge.request("GET", "/api/v1/openapi.json", &[], "").body).unwrap();
    let mut missing = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let is_it = |row: &str| {
                let (path, row): (Vec<_>, Vec<_>) = (path.split('/').collect(), row.split('/').collect());
                path.len() == row.len() && path.iter().zip(&row).all(|(path, row)| path.starts_with('{') || path == row)
            };
            let has_row = TABLE.iter().any(|(_, known, row, _)| *known == method && is_it(row));
            // A WebSocket's roles are in websocket_relays, by message.
            if !has_row && path != "/ws" {
                missing.push(format!("{method} {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "no row for {missing:#?}");
}

#[test]
fn an_endpoint_with_an_empty_token_lets_nobody_in() {
    for set in [
        Access { publish_token: Some(String::new()), ..Access::default() },
        Access { jwt_secret: Some(String::new()), ..Access::default() },
    ] {
        let bridge = Bridge::new(set);
        let signed_with_nothing = crate::auth_support::hs256_with(b"", &json!({"alg": "HS256"}), &claims("admin", "*"));
        for token in [None, Some("x"), Some(signed_with_nothing.as_str())] {
            bridge.publish("open", token).is_problem(401, "token");
        }
    }
}

#[test]
fn who_sends_many_wrong_tokens_is_slowed_and_others_are_not() {
    let bridge = Bridge::new(Set::Tokens.access());
    let guesses: Vec<_> = (0..40).map(|n| bridge.publish("open", Some(&format!("guess{n}")))).collect();
    assert!(guesses.iter().take(20).all(|response| response.status == 401), "a burst is answered");
    let last = guesses.last().unwrap();
    last.is_problem(429, "wrong tokens");
    assert!(last.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(bridge.publish_from([127, 0, 0, 2], "open", Some("wrong")).status, 401);
    // And after a while heard again.
    let deadline = std::time::Instant::now() + crate::whip_support::TIMEOUT;
    while bridge.publish("open", Some("wrong")).status != 401 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn who_shows_what_is_right_is_heard_whoever_guesses_at_the_same_address() {
    let bridge = Bridge::new(Set::Both.access()).with_key("keyed", "the-key");
    for n in 0..40 {
        bridge.publish("open", Some(&format!("guess{n}")));
    }
    bridge.publish("open", Some("guess")).is_problem(429, "wrong tokens");
    let jwt = hs256(&claims("publish", "open"));
    for (channel, right) in [("open", "publish"), ("open", "admin"), ("open", jwt.as_str()), ("keyed", "the-key")] {
        assert_eq!(bridge.publish(channel, Some(right)).status, 201, "{right}");
    }
}

#[test]
fn a_server_that_all_may_publish_to_is_warned_of() {
    let warning = |host: &str, access| Bridge::listening(host, access).mount.warning();
    assert!(warning("0.0.0.0", Access::default()).unwrap().contains("publish-token"));
    assert_eq!(warning("127.0.0.1", Access::default()), None);
    for set in [Set::Tokens, Set::Jwt] {
        assert_eq!(warning("0.0.0.0", set.access()), None);
    }
    let element = |host: &str, token: Option<&str>| {
        let listen = gstwebrtcbridge::signaling::ListenAddress { host: host.into(), port: 0 };
        let auth_token = token.map(str::to_owned);
        let config =
            gstwebrtcbridge::signaling::EndpointConfig { listen, auth_token, ..crate::whip_support::config("/a", 0) };
        let answerer = std::sync::Arc::new(crate::whip_support::Fake::default());
        gstwebrtcbridge::signaling::mount(RUNTIME.handle(), config, answerer).unwrap().warning()
    };
    assert!(element("0.0.0.0", None).unwrap().contains("auth-token"));
    assert_eq!((element("0.0.0.0", Some("x")), element("127.0.0.1", None)), (None, None));
}
