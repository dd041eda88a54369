//! The OpenAPI document is a valid one, what is asked for comes as it says, and every answer that it tells of is given.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use crate::site_support::{Site, full_report};
use crate::theatre::{self, view};
use crate::whip_support::{Response, offer};
use gstwebrtcbridge::{
    channel::NewChannel,
    signaling::{Access, AnswerError, IceRefused},
};
use serde_json::{Value, json};

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
    let mut seen = Seen::new(body(&Site::open().get("/api/v1/openapi.json")), |path| !path.starts_with("/whep"));

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
    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    seen.check("GET", "/ws", &head_of(site.addr(), upgrade).1);
    seen.check("POST", "/whip/{channel}", &late_offer.join().unwrap());
    seen.check("PATCH", SESSION, &late_fragment.join().unwrap());
    seen.all();
}

#[test]
fn every_answer_to_viewers_is_as_the_document_says_and_every_documented_one_is_given() {
    const WHEP: &str = "/whep/{channel}";
    const SESSION: &str = "/whep/{channel}/{session}";
    const LAYER: &str = "/whep/{channel}/{session}/layer";
    const EVENTS: &str = "/whep/{channel}/{session}/sse";
    const STREAM: &str = "/whep/{channel}/{session}/sse/{stream}";
    let (sdp, json_type) = ([("Content-Type", "application/sdp")], [("Content-Type", "application/json")]);
    let site = theatre::Site::new(Access::default(), 0);
    let address = site.mount.local_addr();
    let ask =
        |method: &str, path: &str, headers: &[(&str, &str)], body: &str| site.request(method, path, headers, body);
    let document = body(&ask("GET", "/api/v1/openapi.json", &[], ""));
    let mut seen = Seen::new(document, |path| path.starts_with("/whep"));
    let large = "x".repeat(100_000);

    let there = site.post("/whep/live").location();
    let late: Vec<_> = [
        ("POST", WHEP, "/whep/live".to_owned(), "application/sdp"),
        ("PATCH", SESSION, there.clone(), "application/trickle-ice-sdpfrag"),
        ("POST", LAYER, format!("{there}/layer"), "application/json"),
        ("POST", EVENTS, format!("{there}/sse"), "application/json"),
    ]
    .into_iter()
    .map(|(method, template, path, content_type)| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nIf-Match: *\r\n");
        let text = format!("{head}Content-Type: {content_type}\r\nContent-Length: 10\r\n\r\n");
        (method, template, thread::spawn(move || Response::parse(&crate::whip_support::exchange(address, &text))))
    })
    .collect();

    let post = |headers: &[(&str, &str)], sdp: &str| ask("POST", "/whep/live", headers, sdp);
    let made = post(&sdp, &view());
    let (session, etag) = (made.location(), made.header("etag").unwrap().to_owned());
    seen.check("POST", WHEP, &made);
    seen.check("POST", WHEP, &post(&sdp, "nonsense"));
    seen.check("POST", WHEP, &post(&[], &view()));
    seen.check("POST", WHEP, &post(&sdp, &large));
    seen.check("POST", WHEP, &ask("POST", "/whep/none", &sdp, &view()));
    for refusal in [
        AnswerError::Unacceptable("no codec".into()),
        AnswerError::Internal("broken".into()),
        AnswerError::Unavailable("busy".into()),
    ] {
        *site.theatre.refuse.lock().unwrap() = Some(refusal);
        seen.check("POST", WHEP, &post(&sdp, &view()));
    }
    *site.theatre.refuse.lock().unwrap() = Some(AnswerError::Unacceptable("no codec".into()));
    *site.theatre.counters.lock().unwrap() = true;
    seen.check("POST", WHEP, &post(&sdp, &view()));
    for method in ["GET", "OPTIONS"] {
        seen.check(method, WHEP, &ask(method, "/whep/live", &[], ""));
        seen.check(method, WHEP, &ask(method, "/whep/no%20id", &[], ""));
    }

    let trickle = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n";
    let restart = trickle.replace("abcd\r", "wxyz\r");
    let fragment = |tag| [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", tag)];
    let patch = |headers: &[(&str, &str)], body: &str| ask("PATCH", &session, headers, body);
    seen.check("GET", SESSION, &ask("GET", &session, &[], ""));
    seen.check("GET", SESSION, &ask("GET", "/whep/live/none", &[], ""));
    seen.check("PATCH", SESSION, &patch(&fragment(&etag), trickle));
    seen.check("PATCH", SESSION, &patch(&sdp, &view()));
    seen.check("PATCH", SESSION, &patch(&fragment("\"other\""), trickle));
    seen.check("PATCH", SESSION, &patch(&fragment("*")[..1], trickle));
    seen.check("PATCH", SESSION, &patch(&fragment("*")[1..], trickle));
    seen.check("PATCH", SESSION, &patch(&fragment("*"), "nonsense"));
    seen.check("PATCH", SESSION, &patch(&fragment("*"), &large));
    seen.check("PATCH", SESSION, &ask("PATCH", "/whep/live/none", &fragment("*"), trickle));
    *site.theatre.refuse_ice.lock().unwrap() = Some(IceRefused::Unacceptable("no".into()));
    seen.check("PATCH", SESSION, &patch(&fragment("*"), trickle));
    seen.check("PATCH", SESSION, &patch(&fragment("*"), &restart));

    for (template, below, good) in [(LAYER, "layer", "{}"), (EVENTS, "sse", "[\"active\"]")] {
        let path = format!("{session}/{below}");
        seen.check("POST", template, &ask("POST", &path, &json_type, good));
        seen.check("POST", template, &ask("POST", &path, &json_type, "nonsense"));
        seen.check("POST", template, &ask("POST", &path, &sdp, good));
        seen.check("POST", template, &ask("POST", &path, &json_type, &large));
        seen.check("POST", template, &ask("POST", &format!("/whep/live/none/{below}"), &json_type, good));
    }
    seen.check("GET", STREAM, &allowed(|| ask("GET", &format!("{session}/sse/none"), &[], "")));
    // As many streams of a session as there may be, and as many readers.
    let get = |path: &str| head_of(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let (mut readers, mut sessions) = (Vec::new(), vec![session.clone()]);
    let refused = 'full: loop {
        let session = sessions.last().unwrap().clone();
        loop {
            let made = allowed(|| ask("POST", &format!("{session}/sse"), &json_type, ""));
            seen.check("POST", EVENTS, &made);
            if made.status == 503 {
                break;
            }
            let mut reader = None;
            let answer = allowed(|| {
                let (stream, answer) = get(&made.location());
                reader = Some(stream);
                answer
            });
            if answer.status == 503 {
                break 'full allowed(|| ask("GET", &made.location(), &[], ""));
            }
            seen.check("GET", STREAM, &answer);
            readers.push((reader, made.location()));
        }
        sessions.push(allowed(|| site.post("/whep/live")).location());
    };
    seen.check("GET", STREAM, &refused);
    for _ in 0..2 {
        seen.check("DELETE", STREAM, &allowed(|| ask("DELETE", &readers[0].1, &[], "")));
    }
    for _ in 0..2 {
        seen.check("DELETE", SESSION, &allowed(|| ask("DELETE", &session, &[], "")));
    }

    let token = |text: &str| Some(text.to_owned());
    let closed =
        theatre::Site::new(Access { view_token: token("view"), publish_token: token("pub"), ..Access::default() }, 0);
    let at = |template: &str| template.replace(['{', '}'], "");
    for (method, template) in seen.documented_with(401) {
        seen.check(&method, &template, &closed.request(&method, &at(&template), &sdp, ""));
    }
    for (method, template) in seen.documented_with(403) {
        seen.check(&method, &template, &ask(&method, &at(&template), &[("Origin", "https://evil.example")], ""));
    }
    let guess = [("Authorization", "Bearer guess")];
    for _ in 0..50 {
        closed.request("GET", "/whep/live", &guess, "");
    }
    for (method, template) in seen.documented_with(429) {
        seen.check(&method, &template, &closed.request(&method, &at(&template), &guess, ""));
    }
    for (method, template, late) in late {
        seen.check(method, template, &late.join().unwrap());
    }
    seen.all();
}

/// Asks until this is not too often.
fn allowed(mut ask: impl FnMut() -> Response) -> Response {
    let deadline = Instant::now() + crate::whip_support::TIMEOUT;
    loop {
        let answer = ask();
        if answer.status != 429 || Instant::now() > deadline {
            return answer;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a request and reads the head of its answer; what follows comes by the connection.
fn head_of(address: SocketAddr, request: &str) -> (TcpStream, Response) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::whip_support::TIMEOUT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    (stream, Response::parse(&head))
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

/// The document, the paths of it that a test is about, and which of their answers have been seen.
struct Seen {
    document: Value,
    is_about: fn(&str) -> bool,
    answers: BTreeSet<(String, String, u16)>,
}

impl Seen {
    fn new(document: Value, is_about: fn(&str) -> bool) -> Self {
        Self { document, is_about, answers: BTreeSet::new() }
    }

    fn operations(&self) -> Vec<(String, String, &Value)> {
        operations(&self.document).into_iter().filter(|(path, ..)| (self.is_about)(path)).collect()
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
        let all = self.operations().into_iter();
        let with = all.filter(|(_, _, operation)| operation["responses"].get(status.to_string()).is_some());
        with.map(|(path, method, _)| (method.to_uppercase(), path)).collect()
    }

    /// What is documented and has not been seen.
    fn all(&self) {
        let mut missing = Vec::new();
        for (path, method, operation) in self.operations() {
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
