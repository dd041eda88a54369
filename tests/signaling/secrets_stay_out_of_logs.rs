//! Whatever is shown to a server, none of it reaches a log line, at any level, of ours or of the packages below.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use crate::auth_support::{Bridge, SECRET, Says, Service, Signer, claims, hs256};
use crate::whip_support::offer;
use gstwebrtcbridge::signaling::Access;
use serde_json::json;
use tracing::{Event, Metadata, Subscriber, field, span};

/// Takes everything as text.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    fn add(&self, record: impl FnOnce(&mut dyn field::Visit), what: &Metadata<'_>) {
        let mut line = Line(format!("{} {} {}", what.level(), what.target(), what.name()));
        record(&mut line);
        *self.0.lock().unwrap() += &(line.0 + "\n");
    }
}

struct Line(String);

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn event(&self, event: &Event<'_>) {
        self.add(|line| event.record(line), event.metadata());
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.add(|line| attributes.record(line), attributes.metadata());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn no_token_is_in_any_log_line_or_answer() {
    let log = Everything::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let ec = Signer::ec();
    let provider = Service::new(Says::Status(200, json!({"keys": [ec.jwk("e")]}).to_string()));
    let service = Service::new(Says::Status(403, String::new()));
    let access = Access {
        publish_token: Some("publish-s3cret".into()),
        admin_token: Some("admin-s3cret".into()),
        jwt_secret: Some(SECRET.into()),
        jwks_uri: Some(provider.url().parse().unwrap()),
        auth_url: Some(service.url().parse().unwrap()),
        ..Access::default()
    };
    let shown = format!("{access:?}");
    let bridge = Bridge::new(access).with_key("live", "key-s3cret");
    let mut secrets: Vec<String> =
        ["publish-s3cret", "admin-s3cret", "key-s3cret", "wrong-s3cret", SECRET, "s3rvice"].map(str::to_owned).into();
    let signed = [
        hs256(&claims("publish", "live")),
        hs256(&claims("view", "*")),
        hs256(&json!({"exp": 1, "role": "admin", "channel": "*"})),
        ec.sign(Some("e"), &claims("publish", "live")),
        ec.sign(Some("unknown"), &claims("publish", "live")),
        hs256(&json!({"role": "admin", "channel": "*"})),
    ];
    let mut answers = String::new();
    for token in secrets.iter().take(4).chain(&signed) {
        let response = bridge.publish("live", Some(token));
        answers += &format!("{:?} {}\n", response.headers, response.body);
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        for (method, path) in [("GET", format!("/ws?token={token}")), ("DELETE", "/whip/live/session".into())] {
            let response = bridge.request(method, &path, &headers, &offer(1));
            answers += &format!("{:?} {}\n", response.headers, response.body);
        }
    }
    *service.says.lock().unwrap() = Says::Status(500, String::new());
    bridge.publish("live", Some("wrong-s3cret"));
    secrets.extend(signed.iter().flat_map(|token| token.split('.').skip(1)).map(str::to_owned));

    let log = log.0.lock().unwrap().clone(); // the server goes on writing
    // The last is said at TRACE: all levels are heard.
    for said in ["refused", "offer answered", "auth-url cannot be asked", "key set read", "a JWT lacks a claim"] {
        assert!(log.contains(said), "{said} is not in the log:\n{log}");
    }
    for secret in secrets {
        for (name, text) in [("the log", &log), ("an answer", &answers), ("the settings", &shown)] {
            let line = text.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{secret} is in {name}");
        }
    }
}
