//! A WHEP server by HTTP, request by request: statuses, headers, what stands below a session, whose session it is. What the
//! draft leaves as in WHIP is tested there (`whip_http`).

use std::{
    io::Write as _,
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::auth_support::{SECRET, claims, hs256};
use crate::theatre::{Events, Site, Theatre, request, view};
use crate::whip_support::{ANSWER, RUNTIME, TIMEOUT, config, offer};
use gstwebrtcbridge::signaling::{
    Access, AnswerError, EndpointConfig, LayerLimits, Mount, Program, VideoLayer, mount_viewers,
};
use tokio::sync::Notify;

// --- the endpoint ---

#[test]
fn an_offer_to_watch_gets_201_with_all_that_the_draft_wants() {
    let site = Site::new(Access::default(), 0);
    let created = site.post("/whep/live");
    let location = created.location();
    assert!(location.starts_with("/whep/live/") && location.len() > "/whep/live/".len() + 20, "{location}");
    assert_eq!((created.body.as_str(), created.header("content-type")), (ANSWER, Some("application/sdp")));
    assert!(created.header("etag").is_some_and(|tag| tag.starts_with('"')), "a strong tag");
    assert_eq!(
        created.all("link"),
        [
            "<stun:stun.example:3478>; rel=\"ice-server\"",
            &format!(
                "<{location}/sse>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; \
                 events=\"active,inactive,layers,reconnect,viewercount\""
            ),
            &format!("<{location}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        ]
    );
    assert_eq!(site.viewers(), 1, "counted for the channel");
    assert_eq!(site.request("DELETE", &location, &[("If-Match", "\"other\"")], "").status, 200);
    site.request("DELETE", &location, &[], "").is_problem(404, "no such session");
    site.theatre.leases.lock().unwrap().clear();
    assert_eq!(site.viewers(), 0);
}

#[test]
fn players_find_out_that_it_is_an_endpoint() {
    let site = Site::new(Access::default(), 0);
    for method in ["HEAD", "GET"] {
        let found = site.request(method, "/whep/live", &[], "");
        assert_eq!((found.status, found.header("content-type")), (200, Some("application/sdp")), "{method}");
        assert_eq!((found.header("content-length"), found.body.as_str()), (Some("0"), ""), "{method}");
    }
    let options = site.request("OPTIONS", "/whep/live", &[("Origin", "http://localhost")], "");
    assert_eq!((options.status, options.header("accept-post")), (200, Some("application/sdp")));
    assert!(options.header("access-control-allow-methods").is_some_and(|methods| methods.contains("PATCH")));
    site.request("PUT", "/whep/live", &[], "").is_problem(405, "POST");
}

#[test]
fn what_cannot_be_watched_has_its_status() {
    let site = Site::new(Access::default(), 0);
    site.post("/whep/nothing").is_problem(404, "there is no channel nothing");
    site.post("/whep/no%20thing").is_problem(404, "");
    let sdp = [("Content-Type", "application/sdp")];
    site.request("POST", "/whep/live", &[("Content-Type", "text/plain")], &view()).is_problem(415, "application/sdp");
    site.request("POST", "/whep/live", &sdp, "hello").is_problem(400, "v=0");
    site.request("POST", "/whep/live", &sdp, &(offer(0) + "a=sendonly\r\n")).is_problem(422, "only sends");
    *site.theatre.refuse.lock().unwrap() = Some(AnswerError::NotLive);
    let idle = site.post("/whep/live");
    idle.is_problem(409, "nobody is live");
    assert!(idle.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));
    *site.theatre.refuse.lock().unwrap() = Some(AnswerError::Unacceptable("no codec in common".into()));
    site.post("/whep/live").is_problem(422, "no codec in common");
    assert_eq!(site.viewers(), 0, "whoever is refused is not counted");
}

#[test]
fn viewers_are_bounded_and_a_seat_that_is_left_is_free() {
    let site = Site::new(Access::default(), 2);
    let first = site.post("/whep/live").location();
    site.post("/whep/live").location();
    let full = site.post("/whep/live");
    full.is_problem(503, "2 viewers");
    assert!(full.header("retry-after").is_some());
    assert_eq!(site.request("DELETE", &first, &[], "").status, 200);
    site.theatre.leases.lock().unwrap().remove(0);
    site.post("/whep/live").location();
}

#[test]
fn an_offer_that_cannot_be_answered_may_be_countered() {
    let site = Site::new(Access::default(), 0);
    *site.theatre.refuse.lock().unwrap() = Some(AnswerError::Unacceptable("no codec in common".into()));
    *site.theatre.counters.lock().unwrap() = true;
    let countered = site.post("/whep/live");
    assert_eq!((countered.status, countered.body.as_str()), (406, "v=0\r\ns=offer\r\n"));
    assert!(
        countered
            .header("content-type")
            .is_some_and(|kind| { kind.starts_with("application/sdp; valid-until=\"") && kind.ends_with(" GMT\"") })
    );
    let location = countered.header("location").unwrap();
    let patch = |kind: &str, body: &str| site.request("PATCH", location, &[("Content-Type", kind)], body);
    patch("application/sdp", "hello").is_problem(400, "the answer is malformed");
    patch("text/plain", &view()).is_problem(415, "");
    assert_eq!(patch("application/sdp", &view()).status, 204);
    assert_eq!(*site.theatre.answers.lock().unwrap(), [view()]);
    assert_eq!(site.request("DELETE", location, &[], "").status, 200);
}

/// A session with an offer of ours, and what lets it take an answer.
fn waiting(site: &Site) -> (String, Arc<Notify>) {
    *site.theatre.refuse.lock().unwrap() = Some(AnswerError::Unacceptable("no codec in common".into()));
    *site.theatre.counters.lock().unwrap() = true;
    let curtain = Arc::new(Notify::new());
    *site.theatre.curtain.lock().unwrap() = Some(curtain.clone());
    let countered = site.post("/whep/live");
    assert_eq!(countered.status, 406);
    (countered.header("location").unwrap().to_owned(), curtain)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < TIMEOUT, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for(site: &Site, event: &str) {
    until(event, || site.theatre.events.lock().unwrap().contains(&event));
}

#[test]
fn a_session_that_is_deleted_while_its_answer_is_being_taken_is_closed_after_that() {
    let site = Site::new(Access::default(), 0);
    let (location, curtain) = waiting(&site);
    std::thread::scope(|scope| {
        let answered = scope.spawn(|| {
            let sdp = [("Content-Type", "application/sdp")];
            site.request("PATCH", &location, &sdp, &view()).status
        });
        wait_for(&site, "answering");
        let deleted = scope.spawn(|| site.request("DELETE", &location, &[], "").status);
        until("the end of its URL", || site.request("GET", &location, &[], "").status == 404);
        curtain.notify_one();
        assert_eq!((answered.join().unwrap(), deleted.join().unwrap()), (204, 200));
    });
    assert_eq!(*site.theatre.events.lock().unwrap(), ["answering", "answered", "closed"]);
}

#[test]
fn an_answer_is_taken_although_who_sent_it_does_not_wait() {
    let site = Site::new(Access::default(), 0);
    let (location, curtain) = waiting(&site);
    let mut stream = TcpStream::connect(site.mount.local_addr()).unwrap();
    let body = view();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    wait_for(&site, "answering");
    drop(stream);
    // The end of its connection is seen meanwhile.
    for _ in 0..20 {
        assert_eq!(site.request("GET", &location, &[], "").status, 204);
    }
    curtain.notify_one();
    wait_for(&site, "answered");
}

// --- a session ---

#[test]
fn a_session_is_moved_and_ended_as_a_publishers() {
    let site = Site::new(Access::default(), 0);
    let created = site.post("/whep/live");
    let (location, tag) = (created.location(), created.header("etag").unwrap());
    let fragment = "a=ice-ufrag:abcd\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let patch = |headers: &[(&str, &str)]| {
        let kind = ("Content-Type", "application/trickle-ice-sdpfrag");
        site.request("PATCH", &location, &[&[kind], headers].concat(), fragment)
    };
    assert_eq!(patch(&[("If-Match", tag)]).status, 204);
    patch(&[]).is_problem(428, "If-Match");
    patch(&[("If-Match", "\"other\"")]).is_problem(412, "");
    assert_eq!(site.request("GET", &location, &[], "").status, 204);
    let options = site.request("OPTIONS", &location, &[], "");
    assert_eq!(options.header("accept-patch"), Some("application/trickle-ice-sdpfrag, application/sdp"));
}

#[test]
fn a_session_is_of_its_channel_and_of_its_kind() {
    let site = Site::new(Access::default(), 0);
    let location = site.post("/whep/live").location();
    let id = location.rsplit('/').next().unwrap();
    for other in [format!("/whep/other/{id}"), format!("/whip/live/{id}")] {
        for (method, below) in [("DELETE", ""), ("GET", ""), ("POST", "/layer"), ("POST", "/sse")] {
            let refused =
                site.request(method, &format!("{other}{below}"), &[("Content-Type", "application/json")], "{}");
            assert_eq!(refused.status, 404, "{method} {other}{below}");
        }
    }
    assert_eq!(site.request("GET", &location, &[], "").status, 204, "it is still there");
}

#[test]
fn a_session_is_for_who_may_watch_its_channel_and_its_events_are_its_own() {
    let access = Access { jwt_secret: Some(SECRET.into()), ..Access::default() };
    let site = Site::new(access, 0);
    let ask = |method: &str, path: &str, channel: &str| {
        let bearer = format!("Bearer {}", hs256(&claims("view", channel)));
        let content_type = match method {
            "PATCH" => "application/trickle-ice-sdpfrag",
            _ if path.starts_with("/whep/live/") => "application/json",
            _ => "application/sdp",
        };
        let headers = [("Content-Type", content_type), ("Authorization", &*bearer), ("If-Match", "*")];
        let body = if content_type == "application/sdp" { view() } else { r#"["viewercount"]"#.into() };
        site.request(method, path, &headers, &body)
    };
    let (mine, yours) = (ask("POST", "/whep/live", "live").location(), ask("POST", "/whep/live", "*").location());
    let events = ask("POST", &format!("{mine}/sse"), "live").location();
    let stream = events.rsplit('/').next().unwrap();
    // Who may watch another channel, though he knows every URL.
    for (method, path) in [("GET", &mine), ("PATCH", &mine), ("DELETE", &mine), ("GET", &events), ("DELETE", &events)] {
        ask(method, path, "other").is_problem(403, "channel");
    }
    for below in ["sse", "layer"] {
        ask("POST", &format!("{mine}/{below}"), "other").is_problem(403, "channel");
    }
    // And another viewer of this one, below his own session.
    for method in ["GET", "DELETE"] {
        ask(method, &format!("{yours}/sse/{stream}"), "live").is_problem(404, "no such event stream");
    }
    assert_eq!(site.theatre.events.lock().unwrap().len(), 0, "nobody was closed");
    assert_eq!(ask("DELETE", &events, "live").status, 200, "it was still there");
    assert_eq!(ask("DELETE", &mine, "live").status, 200);
}

#[test]
fn layers_are_chosen() {
    let site = Site::new(Access::default(), 0);
    let layers = (0..2).map(|index| VideoLayer { index, size: None, bitrate: 1 }).collect();
    site.theatre.program.send_replace(Program { is_active: true, layers, ..Program::default() });
    let layer = format!("{}/layer", site.post("/whep/live").location());
    let choose = |body: &str| site.request("POST", &layer, &[("Content-Type", "application/json")], body);
    assert_eq!(choose(r#"{"mediaId":"0","rid":"0"}"#).status, 200);
    assert_eq!(choose(r#"{"mediaId":"0"}"#).status, 200);
    choose(r#"{"rid":"hd"}"#).is_problem(400, "rid");
    choose("x").is_problem(400, "layer");
    site.request("POST", &layer, &[], "{}").is_problem(415, "application/json");
    site.request("GET", &layer, &[], "").is_problem(405, "POST");
    let none = LayerLimits::default();
    assert_eq!(*site.theatre.limits.lock().unwrap(), [LayerLimits { layer: Some(0), ..none }, none]);
}

// --- events ---

#[test]
fn viewers_hear_of_what_is_on() {
    let site = Site::new(Access::default(), 0);
    let sse = format!("{}/sse", site.post("/whep/live").location());
    let post = |body: &str| site.request("POST", &sse, &[("Content-Type", "application/json")], body);
    post(r#"["active","scte35"]"#).is_problem(400, "scte35");
    let all = post(r#"["active","inactive","layers","reconnect","viewercount"]"#).location();
    let few = post(r#"["inactive"]"#).location();
    assert!(all.starts_with(&format!("{sse}/")), "{all}");
    let (mut hears, mut hears_little) = (Events::open(&site, &all), Events::open(&site, &few));
    assert_eq!(hears.next().unwrap(), ("viewercount".into(), serde_json::json!({"viewercount": 1})));
    site.theatre.program.send_modify(|program| program.is_active = true);
    assert_eq!(hears.next().unwrap().0, "active");
    site.theatre.program.send_modify(|program| {
        program.layers = vec![VideoLayer { index: 0, size: Some((320, 180)), bitrate: 9 }];
    });
    let (kind, data) = hears.next().unwrap();
    assert_eq!((kind.as_str(), &data["0"][0]["width"]), ("layers", &serde_json::json!(320)));
    site.post("/whep/live").location();
    assert_eq!(hears.next().unwrap().1["viewercount"], 2);
    site.theatre.program.send_modify(|program| (program.is_active, program.reconnect) = (false, true));
    assert_eq!((hears.next().unwrap().0, hears.next().unwrap().0), ("inactive".into(), "reconnect".into()));
    assert_eq!(hears_little.next().unwrap().0, "inactive");
    assert_eq!(site.request("DELETE", &few, &[], "").status, 200);
    assert_eq!(hears_little.next(), None);
    site.request("GET", &few, &[], "").is_problem(404, "no such event stream");
    site.theatre.leases.lock().unwrap().clear();
    let last: Vec<_> = std::iter::from_fn(|| hears.next()).collect(); // the stream is gone with the session
    assert!(last.iter().all(|(kind, _)| kind == "viewercount"), "{last:?}");
    site.request("GET", &all, &[], "").is_problem(404, "no such session");
}

// --- who may ---

#[test]
fn watching_takes_the_token_for_watching() {
    let access = Access { view_token: Some("look".into()), publish_token: Some("send".into()), ..Access::default() };
    let site = Site::new(access, 0);
    let with = |method: &str, path: &str, token: &str| {
        let headers = [("Content-Type", "application/sdp"), ("Authorization", token)];
        site.request(method, path, &headers[..if token.is_empty() { 1 } else { 2 }], &view())
    };
    with("POST", "/whep/live", "").is_problem(401, "bearer");
    with("POST", "/whep/live", "Bearer send").is_problem(401, "not the right one");
    with("HEAD", "/whep/live", "Bearer look").header("content-type").unwrap();
    let location = with("POST", "/whep/live", "Bearer look").location();
    for (method, below) in [("DELETE", ""), ("PATCH", ""), ("GET", ""), ("POST", "/sse"), ("POST", "/layer")] {
        with(method, &format!("{location}{below}"), "").is_problem(401, "bearer");
    }
    assert_eq!(with("OPTIONS", &location, "").status, 200);
    assert_eq!(with("DELETE", &location, "Bearer look").status, 200);
}

// --- an element's endpoint ---

fn mounted(config: EndpointConfig, most: u32) -> (Mount, Theatre) {
    let theatre = Theatre::default();
    (mount_viewers(RUNTIME.handle(), config, Arc::new(theatre.clone()), most).unwrap(), theatre)
}

#[test]
fn an_elements_endpoint_serves_viewers_at_its_own_path() {
    let (mount, theatre) = mounted(config("/watch/me", 0), 1);
    let sdp = [("Content-Type", "application/sdp")];
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        request(mount.local_addr(), method, path, headers, body)
    };
    let location = ask("POST", "/watch/me", &sdp, &view()).location();
    assert!(location.starts_with("/watch/me/"));
    ask("POST", "/watch/me", &sdp, &view()).is_problem(503, "1 viewers");
    assert_eq!(ask("POST", &format!("{location}/sse"), &[], "").status, 201);
    assert_eq!(ask("HEAD", "/watch/me", &[], "").status, 200);
    let listed = ask("GET", "/endpoints.json", &[], "").body;
    assert!(!listed.contains("/watch/me"), "there is nothing to publish to: {listed}");
    assert_eq!(ask("DELETE", &location, &[], "").status, 200);
    theatre.leases.lock().unwrap().clear();
    ask("POST", "/watch/me", &sdp, &view()).location();
    assert_eq!(mount.warning(), None);
}
