//! WHIP over real TCP, with a stand-in for the peer connection: every rule that a client can see.

use std::{
    net::{TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
};

use crate::whip_support::{
    ANSWER, Fake, ICE_TAG, RUNTIME, Response, Served, TIMEOUT, config, exchange, offer, self_signed,
};
use gstwebrtcbridge::signaling::{AnswerError, EndpointConfig, ListenAddress, MountError, TlsFiles, mount};

// --- what clients see of POST ---

#[test]
fn offer_is_answered_with_201_location_and_etag() {
    let server = Served::new("/whip/live");
    let response = server.post(&offer(1));
    assert_eq!(response.status, 201);
    assert_eq!(response.header("content-type"), Some("application/sdp"));
    assert_eq!(response.body, ANSWER);
    let etag = response.header("etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "strong: {etag}");
    assert!(!etag.contains(ICE_TAG), "the tag is hashed");
    let location = response.location();
    let id = location.strip_prefix("/whip/live/").unwrap();
    assert!(id.len() >= 22 && id.chars().all(|c| c.is_ascii_alphanumeric()), "128 bits: {id}");
    let offers = server.answerer.offers.lock().unwrap();
    assert_eq!(offers[0].0, offer(1));
    assert!(offers[0].1.ip().is_loopback());
}

#[test]
fn every_session_has_another_url() {
    let server = Served::new("/a");
    assert_ne!(server.post(&offer(1)).location(), server.post(&offer(1)).location());
}

#[test]
fn content_type_may_carry_parameters_but_must_be_sdp() {
    let server = Served::new("/a");
    let post = |kind| server.request("POST", "/a", &[("Content-Type", kind)], &offer(1));
    assert_eq!(post("application/sdp; charset=utf-8").status, 201);
    post("application/json").is_problem(415, "application/json");
    server.request("POST", "/a", &[], &offer(1)).is_problem(415, "missing");
}

#[test]
fn malformed_offer_is_refused_by_what_it_lacks() {
    let server = Served::new("/a");
    server.post("hello").is_problem(400, "v=0");
    server.post("").is_problem(400, "v=0");
    for (line, name) in [("m=audio", "m="), ("a=ice-ufrag", "ice-ufrag"), ("a=fingerprint", "fingerprint")] {
        server.post(&offer(1).replace(line, "x=")).is_problem(400, name);
    }
    assert!(server.answerer.offers.lock().unwrap().is_empty(), "nobody was bothered");
}

#[test]
fn hundred_candidates_pass_and_one_more_is_refused() {
    let server = Served::new("/a");
    assert_eq!(server.post(&offer(100)).status, 201);
    server.post(&offer(101)).is_problem(400, "100 candidates");
}

#[test]
fn oversize_body_is_refused_whether_or_not_it_says_its_length() {
    let server = Served::new("/a");
    let fits = offer(1) + "a=" + &"a".repeat(64 * 1024 - offer(1).len() - 2);
    assert_eq!(server.post(&fits).status, 201);
    server.post(&format!("{fits}a")).is_problem(413, "65536");
    server.post(&"a".repeat(1024 * 1024)).is_problem(413, "65536");
    let head = "POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/sdp\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{fits}a\r\n0\r\n\r\n", fits.len() + 1);
    Response::parse(&exchange(server.addr(), &chunked)).is_problem(413, "65536");
}

#[test]
fn answerers_refusal_has_its_own_status_and_reason() {
    let server = Served::new("/a");
    for (error, status, detail) in [
        (AnswerError::Malformed("line 7".into()), 400, "line 7"),
        (AnswerError::Unacceptable("no codec in common".into()), 422, "no codec in common"),
        (AnswerError::Conflict, 409, "another publisher"),
        (AnswerError::Unavailable("no room".into()), 503, "no room"),
        (AnswerError::Internal("socket".into()), 500, "socket"),
    ] {
        *server.answerer.refuse.lock().unwrap() = Some(error);
        let response = server.post(&offer(1));
        response.is_problem(status, detail);
        assert_eq!(response.header("retry-after").is_some(), status == 503);
    }
}

#[test]
fn panicking_answerer_is_a_500_and_the_server_lives_on() {
    let server = Served::new("/a");
    server.answerer.panic.store(true, Ordering::SeqCst);
    server.post(&offer(1)).is_problem(500, "failed");
    assert_eq!(server.post(&offer(1)).status, 201);
}

#[test]
fn garbage_instead_of_http_harms_nobody() {
    let server = Served::new("/a");
    for garbage in ["\x16\x03\x01\x02\0", "\0\0\0\0\r\n\r\n", "POST /%ff%00/../a HTTP/1.1\r\n\r\n", "GET\r\n\r\n"] {
        exchange(server.addr(), garbage);
    }
    assert_eq!(server.post(&offer(1)).status, 201);
}

// --- sessions ---

#[test]
fn delete_closes_the_session_once_and_ignores_if_match() {
    let server = Served::new("/whip/live");
    let location = server.post(&offer(1)).location();
    assert_eq!(server.request("DELETE", &location, &[("If-Match", "\"other\"")], "").status, 200);
    assert_eq!(server.answerer.closed.load(Ordering::SeqCst), 1);
    server.request("DELETE", &location, &[], "").is_problem(404, "session");
    assert_eq!(server.answerer.closed.load(Ordering::SeqCst), 1);
}

#[test]
fn session_url_goes_with_the_lease() {
    let server = Served::new("/a");
    let location = server.post(&offer(1)).location();
    let response = server.request("GET", &location, &[], "");
    assert_eq!((response.status, response.body.as_str()), (204, ""));
    assert!(response.header("etag").is_some());
    server.answerer.leases.lock().unwrap().clear();
    server.request("GET", &location, &[], "").is_problem(404, "session");
    server.request("DELETE", &location, &[], "").is_problem(404, "session");
}

// --- other methods and paths ---

#[test]
fn get_and_head_succeed_without_content() {
    let server = Served::new("/a");
    let location = server.post(&offer(1)).location();
    for path in ["/a", &location] {
        for method in ["GET", "HEAD"] {
            let response = server.request(method, path, &[], "");
            assert_eq!((response.status, response.body.as_str()), (204, ""), "{method} {path}");
        }
    }
}

#[test]
fn other_methods_get_405_with_allow() {
    let server = Served::new("/a");
    for method in ["PUT", "DELETE", "PATCH", "BREW"] {
        let response = server.request(method, "/a", &[], "");
        response.is_problem(405, "POST");
        assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    }
}

#[test]
fn unknown_paths_are_404() {
    let server = Served::new("/whip/live");
    for path in ["/whip", "/whip/other", "/whip/live/x/y", "/.."] {
        server.request("POST", path, &[("Content-Type", "application/sdp")], &offer(1)).is_problem(404, path);
        server.request("GET", path, &[], "").is_problem(404, path);
    }
    server.request("GET", "/page/none.js", &[], "").is_problem(404, "/page/none.js");
}

#[test]
fn path_has_one_spelling_however_it_is_written() {
    let server = Served::new("/whip/my stream");
    assert!(server.mount.url().ends_with("/whip/my%20stream"));
    let response = server.request("POST", "/whip/%6dy%20stream", &[("Content-Type", "application/sdp")], &offer(1));
    assert!(response.location().starts_with("/whip/my%20stream/"));
}

// --- CORS ---

#[test]
fn preflight_passes_without_a_token() {
    let server = Served::with_token("/a", "s3cret");
    let asked = [("Origin", "https://example.com"), ("Access-Control-Request-Method", "POST")];
    let response = server.request("OPTIONS", "/a", &asked, "");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("accept-post"), Some("application/sdp"));
    assert_eq!(response.header("access-control-allow-origin"), Some("https://example.com"));
    let headers = response.header("access-control-allow-headers").unwrap();
    assert!(["authorization", "content-type", "if-match"].iter().all(|h| headers.contains(h)), "{headers}");
    assert!(response.header("access-control-allow-methods").unwrap().contains("DELETE"));
    assert_eq!(server.request("OPTIONS", "/a/whatever", &asked, "").status, 200);
}

#[test]
fn pages_that_may_publish_can_read_answers_and_refusals() {
    let server = Served::new("/a");
    let origin = ("Origin", "http://localhost:3000");
    let post = |body: &str| server.request("POST", "/a", &[("Content-Type", "application/sdp"), origin], body);
    for response in [post(&offer(1)), post(""), server.request("GET", "/a", &[origin], "")] {
        assert_eq!(response.header("access-control-allow-origin"), Some("http://localhost:3000"));
        assert_eq!(response.header("vary"), Some("origin"));
        let exposed = response.header("access-control-expose-headers").unwrap();
        assert!(["location", "etag", "link", "accept-post"].iter().all(|h| exposed.contains(h)), "{exposed}");
    }
}

// --- tokens ---

#[test]
fn token_is_required_on_endpoint_and_session() {
    let server = Served::with_token("/a", "s3cret");
    let post = |token: Option<&str>| {
        let authorization = token.map(|t| format!("Bearer {t}"));
        let mut headers = vec![("Content-Type", "application/sdp")];
        headers.extend(authorization.as_deref().map(|a| ("Authorization", a)));
        server.request("POST", "/a", &headers, &offer(1))
    };
    let missing = post(None);
    missing.is_problem(401, "needs a bearer token");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"webrtcbridge\""));
    let wrong = post(Some("s3cres"));
    wrong.is_problem(401, "not the right one");
    assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"));
    assert!(!wrong.body.contains("s3cre"), "no token in the answer");

    let location = post(Some("s3cret")).location();
    for (method, path) in
        [("DELETE", location.as_str()), ("GET", &location), ("PATCH", &location), ("DELETE", "/a/none"), ("GET", "/a")]
    {
        server.request(method, path, &[], "").is_problem(401, "token");
    }
    assert_eq!(server.answerer.closed.load(Ordering::SeqCst), 0);
    assert_eq!(server.request("DELETE", &location, &[("Authorization", "bearer s3cret")], "").status, 200);
}

#[test]
fn configuration_is_printed_without_its_token() {
    let config = EndpointConfig { auth_token: Some("s3cret".into()), ..config("/a", 0) };
    assert!(!format!("{config:?}").contains("s3cret"));
}

// --- the page ---

#[test]
fn page_is_served_with_its_files_under_a_strict_policy() {
    let server = Served::new("/a");
    let page = server.request("GET", "/", &[], "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(server.mount.page_url().ends_with(&format!(":{}/", server.addr().port())));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for (file, kind) in [
        ("main.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
    ] {
        let response = server.request("GET", &format!("/page/{file}"), &[], "");
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)), "{file}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn endpoint_list_tells_paths_and_whether_a_token_is_needed() {
    let server = Served::with_token("/b", "s3cret");
    let _other = server.also("/a").unwrap();
    let list = server.request("GET", "/endpoints.json", &[], "");
    assert_eq!(list.body, r#"{"endpoints":[{"path":"/a","token":false},{"path":"/b","token":true}]}"#);
}

// --- mounting ---

#[test]
fn two_endpoints_share_a_port_and_each_gets_its_own_offers() {
    let server = Served::new("/a");
    let other = Fake::default();
    let second = mount(RUNTIME.handle(), config("/b", server.addr().port()), Arc::new(other.clone())).unwrap();
    assert_eq!(second.local_addr(), server.addr());
    assert_eq!(server.request("POST", "/b", &[("Content-Type", "application/sdp")], &offer(1)).status, 201);
    assert_eq!((server.answerer.offers.lock().unwrap().len(), other.offers.lock().unwrap().len()), (0, 1));
    drop(second);
    server.request("GET", "/b", &[], "").is_problem(404, "/b");
    assert_eq!(server.post(&offer(1)).status, 201, "the first one stays");
}

#[test]
fn same_path_twice_is_refused() {
    let server = Served::new("/a");
    let error = server.also("/a/").unwrap_err();
    assert!(matches!(&error, MountError::PathTaken { path, .. } if path == "/a"), "{error}");
}

#[test]
fn port_zero_is_another_server_each_time() {
    let (first, second) = (Served::new("/a"), Served::new("/a"));
    assert_ne!(first.addr(), second.addr());
}

#[test]
fn port_in_use_is_told_at_once() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let error = mount(RUNTIME.handle(), config("/a", port), Arc::new(Fake::default())).unwrap_err();
    assert!(matches!(error, MountError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port} is in use")), "{error}");
}

#[test]
fn host_that_is_not_ours_is_told() {
    for host in ["192.0.2.1", "no-such-host.invalid"] {
        let listen = ListenAddress { host: host.into(), port: 0 };
        let config = EndpointConfig { listen, ..config("/a", 0) };
        let error = mount(RUNTIME.handle(), config, Arc::new(Fake::default())).unwrap_err();
        assert!(matches!(&error, MountError::Resolve { .. }) && error.to_string().contains(host), "{error}");
    }
}

#[test]
fn port_is_free_as_soon_as_the_last_mount_is_dropped() {
    let mut server = Served::new("/a");
    let address = server.addr();
    for _ in 0..20 {
        // A connection that is still open must not keep the port.
        let idle = TcpStream::connect(address).unwrap();
        let location = server.post(&offer(1)).location();
        drop(server);
        server = Served::from_config(config("/a", address.port()));
        server.request("DELETE", &location, &[], "").is_problem(404, "session");
        drop(idle);
    }
    drop(server);
    TcpListener::bind(address).unwrap();
}

#[test]
fn name_wildcard_and_ipv6_hosts_are_listened_on() {
    for (host, prefix) in
        [("localhost", "http://localhost:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
    {
        let listen = ListenAddress { host: host.into(), port: 0 };
        match mount(RUNTIME.handle(), EndpointConfig { listen, ..config("/a", 0) }, Arc::new(Fake::default())) {
            Ok(mount) => assert!(mount.url().starts_with(prefix), "{}", mount.url()),
            // A machine without IPv6 has no ::1.
            Err(error) => assert!(host == "::1", "{host}: {error}"),
        }
    }
}

// --- TLS ---

#[test]
fn offer_is_answered_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, certificate) = self_signed(dir.path());
    let config = EndpointConfig { tls: Some(tls), ..config("/a", 0) };
    let mount = mount(RUNTIME.handle(), config, Arc::new(Fake::default())).unwrap();
    assert!(mount.url().starts_with("https://127.0.0.1:"));

    let certificate = ureq::tls::Certificate::from_pem(certificate.as_bytes()).unwrap();
    let roots = ureq::tls::RootCerts::new_with_certs(&[certificate.to_owned()]);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build())
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let response = agent.post(mount.url()).content_type("application/sdp").send(offer(1)).unwrap();
    assert_eq!(response.status(), 201);
    assert!(response.headers()["location"].to_str().unwrap().starts_with("/a/"));
}

#[test]
fn other_tls_settings_on_the_same_port_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = self_signed(dir.path());
    let plain = Served::new("/a");
    let secure = EndpointConfig { tls: Some(tls), ..config("/b", plain.addr().port()) };
    let error = mount(RUNTIME.handle(), secure, Arc::new(Fake::default())).unwrap_err();
    assert!(matches!(error, MountError::TlsMismatch { .. }), "{error}");
}

#[test]
fn wrong_tls_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = self_signed(dir.path());
    let swapped = TlsFiles { certificate: tls.key, key: tls.certificate };
    let config = EndpointConfig { tls: Some(swapped), ..config("/a", 0) };
    let error = mount(RUNTIME.handle(), config, Arc::new(Fake::default())).unwrap_err();
    assert!(matches!(&error, MountError::TlsFile { path, .. } if path.ends_with("key.pem")), "{error}");
    assert!(error.to_string().contains("no certificate"), "{error}");
}
