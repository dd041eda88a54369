//! `/api/v1`: what is asked for comes as the OpenAPI document says, every answer of it, and the document is a valid one.
//! What each token gets at these paths is in `who_may_do_what`.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::Ordering::SeqCst,
    thread,
    time::Instant,
};

use crate::site_support::{Site, full_report};
use crate::whip_support::{Fake, RUNTIME, Response, config, offer};
use gstwebrtcbridge::{
    channel::NewChannel,
    signaling::{Access, AnswerError, IceRefused, mount},
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

#[test]
fn the_document_is_valid_openapi() {
    let document = body(&Site::open().get("/api/v1/openapi.json"));
    let schema: Value = serde_json::from_str(include_str!("../data/openapi-3.1.schema.json")).unwrap();
    let errors: Vec<_> = jsonschema::draft202012::new(&schema)
        .unwrap()
        .iter_errors(&document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path} has another's id");
        assert!(operation["summary"].is_string(), "{method} {path} says what it does");
    }
    references(&document, &mut |reference| {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    });
}

#[test]
fn every_answer_is_as_the_document_says_and_every_documented_answer_is_given() {
    let sdp = [("Content-Type", "application/sdp")];
    let mut seen = Seen::new(&Site::open());

    let slow = Site::open();
    let late = |method: &'static str, path: String, content_type: &'static str| {
        let address = slow.addr();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nIf-Match: *\r\n");
        let text = format!("{head}Content-Type: {content_type}\r\nContent-Length: 10\r\n\r\n");
        thread::spawn(move || Response::parse(&crate::whip_support::exchange(address, &text)))
    };
    let there = slow.request("POST", "/whip/stage", &sdp, &offer(1)).location();
    let (late_offer, late_fragment) = (
        late("POST", "/whip/stage".into(), "application/sdp"),
        late("PATCH", there, "application/trickle-ice-sdpfrag"),
    );

    let site = Site::open();
    *site.numbers.report.lock().unwrap() = full_report();
    let (id, _) = site.create(NewChannel { metadata: Some("[]".into()), ..NewChannel::default() });
    let path = format!("/api/v1/channels/{id}");
    for path in [
        "/api/v1/channels",
        "/api/v1/status",
        "/api/v1/openapi.json",
        "/api/v1/signaling.schema.json",
        "/metrics",
        "/healthz",
        "/readyz",
    ] {
        seen.check("GET", path, &site.get(path));
    }
    seen.check("GET", "/api/v1/channels/{id}", &site.get(&path));
    seen.check("GET", "/api/v1/channels/{id}", &site.get("/api/v1/channels/none"));
    seen.check("DELETE", "/api/v1/channels/{id}", &site.request("DELETE", &path, &[], ""));
    seen.check("DELETE", "/api/v1/channels/{id}", &site.request("DELETE", &path, &[], ""));
    site.numbers.draining.store(true, SeqCst);
    seen.check("GET", "/readyz", &site.get("/readyz"));

    let post = |headers: &[(&str, &str)], sdp: &str| site.request("POST", "/whip/stage", headers, sdp);
    let made = post(&sdp, &offer(1));
    let session = made.location();
    let etag = made.header("etag").unwrap().to_owned();
    seen.check("POST", "/whip/{channel}", &made);
    seen.check("POST", "/whip/{channel}", &post(&sdp, "nonsense"));
    seen.check("POST", "/whip/{channel}", &post(&[], &offer(1)));
    seen.check("POST", "/whip/{channel}", &post(&sdp, &"x".repeat(100_000)));
    seen.check("POST", "/whip/{channel}", &site.request("POST", "/whip/no%20id", &sdp, &offer(1)));
    for refusal in [
        AnswerError::Conflict,
        AnswerError::Unacceptable("no codec".into()),
        AnswerError::Internal("broken".into()),
        AnswerError::Unavailable("busy".into()),
    ] {
        *site.answerer.refuse.lock().unwrap() = Some(refusal);
        seen.check("POST", "/whip/{channel}", &post(&sdp, &offer(1)));
    }

    let json_type = [("Content-Type", "application/json")];
    let exchange = |headers: &[(&str, &str)], body: &str| site.request("POST", "/offer", headers, body);
    let description = json!({ "type": "offer", "sdp": offer(1) }).to_string();
    seen.check("POST", "/offer", &exchange(&json_type, &description));
    seen.check("POST", "/offer", &exchange(&json_type, "nonsense"));
    seen.check("POST", "/offer", &exchange(&sdp, &description));
    seen.check("POST", "/offer", &exchange(&json_type, &"x".repeat(100_000)));
    for refusal in [
        AnswerError::Unacceptable("no codec".into()),
        AnswerError::Internal("broken".into()),
        AnswerError::Unavailable("busy".into()),
    ] {
        *site.answerer.refuse.lock().unwrap() = Some(refusal);
        seen.check("POST", "/offer", &exchange(&json_type, &description));
    }

    let on_session = |method: &str, headers: &[(&str, &str)], body: &str| site.request(method, &session, headers, body);
    let trickle = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n";
    let restart = trickle.replace("abcd\r", "wxyz\r");
    let fragment = |tag: &'static str| [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", tag)];
    let with_etag = [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", etag.as_str())];
    const SESSION: &str = "/whip/{channel}/{session}";
    seen.check("GET", SESSION, &on_session("GET", &[], ""));
    seen.check("GET", SESSION, &site.get("/whip/stage/none"));
    seen.check("PATCH", SESSION, &on_session("PATCH", &with_etag, trickle));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("\"other\""), trickle));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("*")[..1], trickle));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("*")[1..], trickle));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("*"), "nonsense"));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("*"), &"x".repeat(100_000)));
    seen.check("PATCH", SESSION, &site.request("PATCH", "/whip/stage/none", &fragment("*"), trickle));
    *site.answerer.refuse_ice.lock().unwrap() = Some(IceRefused::Unacceptable("no".into()));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("*"), trickle));
    seen.check("PATCH", SESSION, &on_session("PATCH", &fragment("*"), &restart));
    seen.check("DELETE", SESSION, &on_session("DELETE", &[], ""));
    seen.check("DELETE", SESSION, &on_session("DELETE", &[], ""));

    seen.check("GET", "/whip/{channel}", &site.get("/whip/stage"));
    seen.check("OPTIONS", "/whip/{channel}", &site.request("OPTIONS", "/whip/stage", &[], ""));
    for method in ["GET", "OPTIONS"] {
        seen.check(method, "/whip/{channel}", &site.request(method, "/whip/no%20id", &[], ""));
    }
    site.numbers.broken.store(true, SeqCst);
    for path in ["/api/v1/status", "/metrics"] {
        let deadline = Instant::now() + crate::whip_support::TIMEOUT;
        let broken = loop {
            let answer = site.get(path);
            // A snapshot is good for a moment.
            if answer.status == 500 || Instant::now() > deadline {
                break answer;
            }
        };
        seen.check("GET", path, &broken);
    }
    site.numbers.broken.store(false, SeqCst);

    let closed = Site::with(Access {
        publish_token: Some("pub".into()),
        view_token: Some("view".into()),
        admin_token: Some("adm".into()),
        ..Access::default()
    });
    let ask = |site: &Site, method: &str, template: &str, headers: &[(&str, &str)]| {
        site.request(method, &template.replace(['{', '}'], ""), headers, "")
    };
    for (method, template) in seen.documented_with(401) {
        seen.check(&method, &template, &ask(&closed, &method, &template, &sdp));
    }
    let foreign = [("Origin", "https://evil.example")];
    for (method, template) in seen.documented_with(403) {
        seen.check(&method, &template, &ask(&site, &method, &template, &foreign));
    }
    for _ in 0..50 {
        closed.request("GET", "/api/v1/status", &[("Authorization", "Bearer guess")], "");
    }
    for (method, template) in seen.documented_with(429) {
        seen.check(&method, &template, &ask(&closed, &method, &template, &[("Authorization", "Bearer guess")]));
    }

    seen.check("GET", "/ws", &site.get("/ws"));
    let mut stream = TcpStream::connect(site.addr()).unwrap();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    seen.check("GET", "/ws", &Response::parse(&head));
    seen.check("POST", "/whip/{channel}", &late_offer.join().unwrap());
    seen.check("PATCH", SESSION, &late_fragment.join().unwrap());
    seen.all();
}

fn body(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Path, method and operation of all that the document describes.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (path.clone(), method.clone(), operation))
    });
    all.collect()
}

fn references(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match value.as_str() {
            Some(reference) if name == "$ref" => found(reference),
            _ => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => (),
    }
}

/// The document, and which of its answers have been seen.
struct Seen {
    document: Value,
    answers: BTreeSet<(String, String, u16)>,
}

impl Seen {
    fn new(site: &Site) -> Self {
        Self { document: body(&site.get("/api/v1/openapi.json")), answers: BTreeSet::new() }
    }

    /// Compares an answer with what the document says of it.
    #[track_caller]
    fn check(&mut self, method: &str, path: &str, answer: &Response) {
        let said = format!("{method} {path}: {} {}", answer.status, answer.body);
        let mut described =
            &self.document["paths"][path][method.to_lowercase()]["responses"][answer.status.to_string()];
        if let Some(reference) = described["$ref"].as_str() {
            described = self.document.pointer(&reference[1..]).unwrap();
        }
        assert!(described.is_object(), "not described: {said}");
        for (header, _) in described["headers"].as_object().into_iter().flatten() {
            assert!(header == "Link" || answer.header(&header.to_lowercase()).is_some(), "no {header}: {said}");
        }
        assert!(![429, 503].contains(&answer.status) || answer.header("retry-after").is_some(), "{said}");
        match described["content"].as_object() {
            None => assert!(answer.body.is_empty(), "{said}"),
            Some(content) => {
                let essence = answer.header("content-type").unwrap().split(';').next().unwrap();
                let schema = &content.get(essence).unwrap_or_else(|| panic!("another {essence}: {said}"))["schema"];
                let value = match essence.ends_with("json") {
                    true => serde_json::from_str(&answer.body).unwrap(),
                    false => json!(answer.body),
                };
                let mut schema = schema.clone();
                schema["components"] = self.document["components"].clone();
                let errors: Vec<_> = jsonschema::draft202012::new(&strict(schema))
                    .unwrap()
                    .iter_errors(&value)
                    .map(|error| format!("{}: {error}", error.instance_path()))
                    .collect();
                assert!(errors.is_empty(), "{errors:#?} in {said}");
            }
        }
        self.answers.insert((method.to_lowercase(), path.to_owned(), answer.status));
    }

    fn documented_with(&self, status: u16) -> Vec<(String, String)> {
        let all = operations(&self.document).into_iter();
        let with = all.filter(|(_, _, operation)| operation["responses"].get(status.to_string()).is_some());
        with.map(|(path, method, _)| (method.to_uppercase(), path)).collect()
    }

    /// What is documented and has not been seen.
    fn all(&self) {
        let mut missing = Vec::new();
        for (path, method, operation) in operations(&self.document) {
            for status in operation["responses"].as_object().unwrap().keys() {
                let answer = (method.clone(), path.clone(), status.parse().unwrap());
                // It takes more WebSockets than a process may have file descriptors where tests run.
                let is_costly = (path.as_str(), status.as_str()) == ("/ws", "503");
                if !is_costly && !self.answers.contains(&answer) {
                    missing.push(answer);
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }
}

/// A field that the document does not know is an error, too.
fn strict(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            for value in fields.values_mut() {
                *value = strict(value.take());
            }
            if fields.get("properties").is_some_and(Value::is_object) && !fields.contains_key("additionalProperties") {
                fields.insert("unevaluatedProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = strict(item.take())),
        _ => (),
    }
    schema
}
