//! RFC 9725, requirement by requirement, as a client sees it over HTTP. The section stands at each test.

use crate::whip_support::{Response, Served, config, offer};
use gstwebrtcbridge::signaling::{EndpointConfig, IceRefused, IceServer};

const TRICKLE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag abcd network-id 1\r\n\
    a=end-of-candidates\r\n";
const RESTART: &str = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

fn live() -> (Served, String, String) {
    let server = Served::new("/whip/live");
    let response = server.post(&offer(1));
    let (location, etag) = (response.location(), response.header("etag").expect("an ETag").to_owned());
    (server, location, etag)
}

// --- 4.2 the operation ---

#[test]
fn s4_2_an_offer_of_another_content_type_is_415() {
    let (server, ..) = live();
    server.request("POST", "/whip/live", &[("Content-Type", FRAGMENT)], &offer(1)).is_problem(415, FRAGMENT);
}

#[test]
fn s4_2_a_malformed_offer_is_400() {
    live().0.post("v=0\r\nnonsense").is_problem(400, "m=");
}

#[test]
fn s4_2_the_answer_is_201_with_its_type_a_location_and_the_sdp() {
    let (server, ..) = live();
    let response = server.post(&offer(1));
    assert_eq!(response.status, 201);
    assert_eq!(response.header("content-type"), Some("application/sdp"));
    assert!(response.header("location").is_some() && response.body.starts_with("v=0"));
}

#[test]
fn s4_2_offers_that_do_not_send_are_refused() {
    let (server, ..) = live();
    for direction in ["recvonly", "inactive"] {
        server.post(&format!("{}a={direction}\r\n", offer(1))).is_problem(422, direction);
    }
    for direction in ["sendonly", "sendrecv"] {
        assert_eq!(server.post(&format!("{}a={direction}\r\n", offer(1))).status, 201);
    }
}

#[test]
fn s4_2_delete_ends_the_session_with_200_and_frees_the_url() {
    let (server, location, _) = live();
    assert_eq!(server.request("DELETE", &location, &[], "").status, 200);
    server.request("GET", &location, &[], "").is_problem(404, "session");
}

#[test]
fn s4_2_get_and_head_are_reserved_and_succeed_without_content() {
    let (server, location, _) = live();
    for path in ["/whip/live", &location] {
        for method in ["GET", "HEAD"] {
            let response = server.request(method, path, &[], "");
            assert!((200..300).contains(&response.status) && response.body.is_empty(), "{method} {path}");
        }
    }
}

#[test]
fn s4_2_options_tells_what_can_be_posted_and_patched() {
    let (server, location, _) = live();
    let response = server.request("OPTIONS", "/whip/live", &[], "");
    assert_eq!((response.status, response.header("accept-post")), (200, Some("application/sdp")));
    assert!(response.header("access-control-allow-methods").expect("CORS").contains("POST"));
    let response = server.request("OPTIONS", &location, &[], "");
    assert_eq!((response.status, response.header("accept-patch")), (200, Some(FRAGMENT)));
    assert!(response.header("access-control-allow-methods").expect("CORS").contains("PATCH"));
}

#[test]
fn s4_2_other_methods_are_405_and_allow_says_what_is() {
    let (server, location, _) = live();
    let response = server.request("PUT", &location, &[], "");
    response.is_problem(405, "PATCH");
    assert_eq!(response.header("allow"), Some("DELETE, GET, HEAD, OPTIONS, PATCH"));
    assert_eq!(server.request("PATCH", "/whip/live", &[], "").status, 405);
}

// --- 4.3.1 PATCH ---

#[test]
fn s4_3_1_a_fragment_of_another_content_type_is_415() {
    let (server, location, etag) = live();
    let headers = [("Content-Type", "application/sdp"), ("If-Match", etag.as_str())];
    server.request("PATCH", &location, &headers, TRICKLE).is_problem(415, FRAGMENT);
    server.request("PATCH", &location, &[("If-Match", etag.as_str())], TRICKLE).is_problem(415, "missing");
}

#[test]
fn s4_3_1_a_malformed_fragment_is_400_and_names_the_line() {
    let (server, location, etag) = live();
    server.patch(&location, &etag, "hello").is_problem(400, "line 1");
    server.patch(&location, &etag, "").is_problem(400, "neither");
    server.patch(&location, &etag, "a=ice-ufrag:ab cd\r\n").is_problem(400, "ice-ufrag");
    *server.answerer.refuse_ice.lock().expect("lock") = Some(IceRefused::Malformed("\"x\" is no candidate".into()));
    server.patch(&location, &etag, TRICKLE).is_problem(400, "no candidate");
}

#[test]
fn s4_3_1_an_oversize_fragment_is_413() {
    let (server, location, etag) = live();
    server.patch(&location, &etag, &"a=x\r\n".repeat(20_000)).is_problem(413, "65536");
}

#[test]
fn s4_3_1_the_entity_tag_is_strong_and_unique_to_the_ice_session() {
    let (server, location, etag) = live();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    let restarted = server.patch(&location, "*", RESTART);
    assert_ne!(restarted.header("etag"), Some(etag.as_str()));
}

#[test]
fn s4_3_1_delete_ignores_the_entity_tag() {
    let (server, location, _) = live();
    assert_eq!(server.request("DELETE", &location, &[("If-Match", "\"other\"")], "").status, 200);
}

#[test]
fn s4_3_1_requests_that_overlap_are_taken_one_by_one() {
    let (server, location, etag) = live();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let patches: Vec<_> = (0..8).map(|_| scope.spawn(|| server.patch(&location, &etag, RESTART).status)).collect();
        patches.into_iter().map(|patch| patch.join().expect("a response")).collect()
    });
    let of = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((of(200), of(412)), (1, 7), "the first changes the tag that all others came with");
}

// --- 4.3.2 trickle ---

#[test]
fn s4_3_2_candidates_are_204_without_body_and_without_etag() {
    let (server, location, etag) = live();
    let response = server.patch(&location, &etag, TRICKLE);
    assert_eq!((response.status, response.body.as_str(), response.header("etag")), (204, "", None));
    let fragments = server.answerer.fragments.lock().expect("lock");
    assert!(fragments[0].candidates[0].line.contains("61764") && fragments[0].end_of_candidates);
}

#[test]
fn s4_3_2_a_missing_if_match_is_428() {
    let (server, location, _) = live();
    server.request("PATCH", &location, &[("Content-Type", FRAGMENT)], TRICKLE).is_problem(428, "If-Match");
}

#[test]
fn s4_3_2_another_entity_tag_is_412() {
    let (server, location, etag) = live();
    for other in ["\"other\"", &format!("W/{etag}")] {
        server.patch(&location, other, TRICKLE).is_problem(412, "ETag");
    }
    assert!(server.answerer.fragments.lock().expect("lock").is_empty());
}

#[test]
fn s4_3_2_the_tag_of_before_a_restart_is_412_afterwards() {
    let (server, location, etag) = live();
    let restarted = server.patch(&location, "*", RESTART);
    server.patch(&location, &etag, TRICKLE).is_problem(412, "restarted");
    assert_eq!(server.patch(&location, restarted.header("etag").expect("an ETag"), TRICKLE).status, 204);
}

#[test]
fn s4_3_2_clients_that_trickle_with_a_star_are_served() {
    let (server, location, _) = live();
    assert_eq!(server.patch(&location, "*", TRICKLE).status, 204);
}

// --- 4.3.3 restart ---

#[test]
fn s4_3_3_a_restart_is_200_with_new_credentials_and_a_new_etag() {
    let (server, location, etag) = live();
    let response = server.patch(&location, "*", RESTART);
    assert_eq!((response.status, response.header("content-type")), (200, Some(FRAGMENT)));
    assert!(response.body.contains("a=ice-ufrag:ours0\r\na=ice-pwd:"), "{}", response.body);
    let new = response.header("etag").expect("an ETag");
    assert!(new != etag && new.starts_with('"'));
    assert_eq!(server.request("GET", &location, &[], "").header("etag"), Some(new));
}

#[test]
fn s4_3_3_a_restart_that_cannot_be_done_is_an_error_and_the_session_stays() {
    let (server, location, etag) = live();
    *server.answerer.refuse_ice.lock().expect("lock") = Some(IceRefused::Unacceptable("not now".into()));
    server.patch(&location, "*", RESTART).is_problem(422, "not now");
    assert_eq!(server.request("GET", &location, &[], "").header("etag"), Some(etag.as_str()), "the same as before");
    assert_eq!(server.answerer.closed.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(server.patch(&location, "*", RESTART).status, 200, "it may be tried again");
}

// --- 4.4 constraints ---

#[test]
fn s4_4_1_sections_that_are_not_bundled_are_refused() {
    let (server, ..) = live();
    let two = format!("{}a=mid:0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n", offer(1));
    server.post(&two).is_problem(422, "BUNDLE");
    assert_eq!(server.post(&two.replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0 1\r\n")).status, 201);
}

#[test]
fn s4_4_2_more_than_one_track_of_a_kind_or_one_stream_is_refused() {
    let (server, ..) = live();
    let bundled = offer(1).replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0 1\r\n");
    let second = |kind, msid| {
        format!("{bundled}a=mid:0\r\na=msid:s a\r\nm={kind} 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=msid:{msid} b\r\n")
    };
    server.post(&second("audio", "s")).is_problem(422, "2 audio tracks");
    server.post(&second("video", "other")).is_problem(422, "2 MediaStreams");
    assert_eq!(server.post(&second("video", "s")).status, 201);
}

#[test]
fn s4_4_3_an_offer_that_cannot_be_taken_whole_is_not_taken() {
    let (server, ..) = live();
    let disabled = format!("{}a=mid:0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n", offer(1));
    server.post(&disabled.replace("t=0 0\r\n", "t=0 0\r\na=group:BUNDLE 0 1\r\n")).is_problem(422, "port 0");
}

#[test]
fn s4_4_4_the_roles_of_dtls_that_a_client_may_have_are_accepted() {
    let (server, ..) = live();
    for role in ["actpass", "active"] {
        assert_eq!(server.post(&offer(1).replace("actpass", role)).status, 201, "{role}");
    }
    server.post(&offer(1).replace("actpass", "holdconn")).is_problem(400, "holdconn");
}

// --- 4.5 load ---

#[test]
fn s4_5_no_room_is_503_with_retry_after() {
    let (server, ..) = live();
    *server.answerer.refuse.lock().expect("lock") =
        Some(gstwebrtcbridge::signaling::AnswerError::Unavailable("no room".into()));
    let response = server.post(&offer(1));
    response.is_problem(503, "no room");
    assert!(response.header("retry-after").expect("Retry-After").parse::<u32>().expect("seconds") > 0);
}

// --- 4.6 STUN and TURN ---

#[test]
fn s4_6_ice_servers_come_with_the_answer_one_link_a_line_without_commas() {
    let servers = ["stun://stun.example.net:3478", "turn://me:p%40ss@turn.example.net?transport=udp"];
    let ice_servers = servers.iter().map(|server| IceServer::parse(server).expect("a server")).collect();
    let server = Served::from_config(EndpointConfig { ice_servers, ..config("/a", 0) });
    let response = server.post(&offer(1));
    let links = response.all("link");
    assert_eq!(links.len(), 2);
    assert_eq!(links[0], "<stun:stun.example.net:3478>; rel=\"ice-server\"");
    assert!(links[1].contains("username=\"me\"; credential=\"p@ss\"; credential-type=\"password\""), "{}", links[1]);
    assert!(links.iter().all(|link| !link.contains(',')));
}

#[test]
fn s4_6_a_preflight_and_a_refused_offer_are_told_no_servers() {
    let ice_servers = vec![IceServer::parse("turn://me:secret@turn.example.net").expect("a server")];
    let server = Served::from_config(EndpointConfig { ice_servers, ..config("/a", 0) });
    let asked = [("Origin", "https://example.com"), ("Access-Control-Request-Method", "POST")];
    for response in [server.request("OPTIONS", "/a", &asked, ""), server.post("nonsense")] {
        assert!(response.all("link").is_empty());
    }
}

// --- 4.7 authentication ---

#[test]
fn s4_7_bearer_tokens_are_required_on_session_urls_too() {
    let server = Served::with_token("/a", "s3cret");
    let authorized = ("Authorization", "Bearer s3cret");
    let post = server.request("POST", "/a", &[("Content-Type", "application/sdp"), authorized], &offer(1));
    let (location, etag) = (post.location(), post.header("etag").expect("an ETag").to_owned());
    for method in ["PATCH", "DELETE", "GET"] {
        let response = server.request(method, &location, &[], TRICKLE);
        response.is_problem(401, "token");
        assert!(response.header("www-authenticate").expect("a challenge").starts_with("Bearer"));
    }
    let headers = [("Content-Type", FRAGMENT), ("If-Match", etag.as_str()), authorized];
    assert_eq!(server.request("PATCH", &location, &headers, TRICKLE).status, 204);
}

// --- 5 security ---

fn flood(server: &Served, request: impl Fn(&Served) -> Response) -> Option<Response> {
    (0..2000).map(|_| request(server)).find(|response| response.status == 429)
}

#[test]
fn s5_post_patch_and_delete_are_limited_each_for_itself() {
    let (server, location, etag) = live();
    let limited = [
        flood(&server, |s| s.post("nonsense")),
        flood(&server, |s| s.patch(&location, &etag, TRICKLE)),
        flood(&server, |s| s.request("DELETE", "/whip/live/guess", &[], "")),
    ];
    for response in limited {
        let response = response.expect("a limit");
        response.is_problem(429, "too many");
        assert!(response.header("retry-after").expect("Retry-After").parse::<u32>().expect("seconds") > 0);
    }
    assert_eq!(server.request("GET", &location, &[], "").status, 204, "the session is untouched");
}

#[test]
fn s5_session_urls_cannot_be_guessed() {
    let (server, location, _) = live();
    let id = location.rsplit('/').next().expect("an id");
    assert!(id.len() >= 22, "at least 128 bits");
    assert_ne!(server.post(&offer(1)).location(), location);
}
