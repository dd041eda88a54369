//! `webrtcegress` as a WHIP client, by the rules that RFC 9725 has for clients: to a server that does what servers may do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::http::Method;

use crate::common::{
    SOON,
    egress::Egress,
    ingest::Ingest,
    lossy::LossyPath,
    turn::{PASSWORD, Turn, USER},
    wait_until,
    whip_front::WhipFront,
};
use gst::prelude::*;

const SOURCES: &str = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=15/1 \
    ! out.video_0 audiotestsrc is-live=true ! out.audio_0";

/// A server, what stands in front of it, and the way of media.
struct Server {
    ingest: Ingest,
    front: WhipFront,
    down: Arc<AtomicBool>,
    path: LossyPath,
}

impl Server {
    fn start() -> Self {
        let ingest = Ingest::start("auth-token=secret");
        let down = Arc::new(AtomicBool::new(false));
        let loses = down.clone();
        let path = LossyPath::new(move |_, _| loses.load(SeqCst));
        let front = WhipFront::start(&ingest.url(), Some(path.clone()));
        Self { ingest, front, down, path }
    }

    fn push(&self, properties: &str) -> Egress {
        self.push_at("127.0.0.1", properties, SOURCES)
    }

    fn push_at(&self, host: &str, properties: &str, sources: &str) -> Egress {
        // A UDP port of its own: two ends of one connection cannot share one.
        let port = crate::common::free_udp_port();
        let properties = format!("auth-token=secret ice-udp-port={port} {properties}");
        Egress::start_at(&self.front.uri(host), &properties, sources)
    }

    fn wait_frames(&self, more: u64) {
        let enough = self.ingest.frames() + more;
        wait_until("frames", SOON, || (self.ingest.frames() >= enough).then_some(()));
    }

    fn methods(&self, method: Method) -> usize {
        self.front.seen(method).len()
    }
}

fn count(push: &Egress, field: &str) -> u64 {
    push.stats().get(field).expect("a count")
}

#[test]
fn the_offer_is_what_a_whip_server_may_expect_and_the_end_is_told() {
    let server = Server::start();
    let push = server.push("");
    server.wait_frames(50);
    let posts = server.front.seen(Method::POST);
    let [post] = &posts[..] else { panic!("{posts:?}") };
    assert_eq!(
        (post.header("content-type"), post.header("authorization")),
        (Some("application/sdp"), Some("Bearer secret"))
    );
    let offer = &post.body;
    assert_eq!(offer.matches("a=sendonly\r\n").count(), 2, "section 4.2: it only sends: {offer}");
    assert_eq!(offer.matches("m=").count(), 2, "one section each: {offer}");
    assert!(offer.contains("a=setup:actpass"), "section 4.2: the server chooses: {offer}");
    assert_eq!(offer.matches("a=rtcp-mux\r\n").count(), 2, "{offer}");
    assert!(offer.contains("a=group:BUNDLE ") && offer.contains("a=bundle-only\r\n"), "section 4.4.1: {offer}");
    assert!(offer.contains("a=candidate:") && offer.contains("a=ice-ufrag:"), "{offer}");
    drop(push);
    let deletes = server.front.seen(Method::DELETE);
    let [delete] = &deletes[..] else { panic!("{deletes:?}") };
    assert!(delete.path.starts_with("/whip/live/"), "the session's URL: {}", delete.path);
    assert_eq!(delete.header("authorization"), Some("Bearer secret"), "section 4.7: on the session too");
    assert_eq!(server.ingest.wait_ended(), "closed by the peer");
}

#[test]
fn redirections_are_followed_and_the_token_stays_where_it_belongs() {
    for status in [307, 308] {
        let server = Server::start();
        server.front.reply(Method::POST, status, &[("location", "/whip/live?by=redirection".to_owned())]);
        let push = server.push("");
        server.wait_frames(30);
        let posts = server.front.seen(Method::POST);
        assert_eq!(posts.len(), 2, "{posts:?}");
        assert_eq!((posts[0].body == posts[1].body, posts[1].path.as_str()), (true, "/whip/live?by=redirection"));
        assert_eq!(posts[1].header("authorization"), Some("Bearer secret"), "the same origin");
        drop(push);
        assert_eq!(server.methods(Method::DELETE), 1);
        // Another origin must not get it.
        let other = Server::start();
        let elsewhere = other.front.uri("localhost").replacen("whip", "http", 1);
        server.front.reply(Method::POST, status, &[("location", elsewhere)]);
        let push = server.push("");
        let error = wait_until("the refusal", SOON, || push.error());
        assert!(error.contains("401") || error.contains("token"), "{error}");
        assert_eq!(other.front.seen(Method::POST)[0].header("authorization"), None);
    }
}

#[test]
fn a_redirection_that_makes_a_post_a_get_is_not_followed() {
    let server = Server::start();
    server.front.reply(Method::POST, 302, &[("location", "/whip/live".to_owned())]);
    let push = server.push("");
    let error = wait_until("the error", SOON, || push.error());
    assert!(error.contains("302") && error.contains("307"), "{error}");
    assert_eq!((server.methods(Method::POST), server.methods(Method::GET)), (1, 0));
}

#[test]
fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let server = Server::start();
    server.front.reply(Method::POST, 503, &[("retry-after", "3".to_owned())]);
    let push = server.push("");
    server.wait_frames(30);
    let posts = server.front.seen(Method::POST);
    assert_eq!(posts.len(), 2, "{posts:?}");
    let waited = posts[1].at.duration_since(posts[0].at);
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert_eq!((push.error(), count(&push, "connect-attempts"), count(&push, "sessions")), (None, 2, 1));
}

#[test]
fn links_to_ice_servers_and_to_what_is_not_known_disturb_nothing() {
    let server = Server::start();
    server.front.link("<stun:stun.example.net>; rel=\"ice-server\"");
    server.front.link(
        "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"s3cret\"; credential-type=\"password\"",
    );
    server.front.link("<https://example.net/extension>; rel=\"urn:ietf:params:whip:ext:example\"; malformed");
    let push = server.push("");
    server.wait_frames(30);
    assert_eq!(push.error(), None);
}

#[test]
fn relays_that_the_server_names_are_used_by_the_session_that_it_names_them_for() {
    let turn = Turn::start();
    let server = Server::start();
    server.front.link(&format!(
        "<{}>; rel=\"ice-server\"; username=\"{USER}\"; credential=\"{PASSWORD}\"; credential-type=\"password\"",
        turn.uri("udp")
    ));
    let push = server.push("");
    server.wait_frames(30);
    // The relay may send to the server, which hears of it in turn.
    wait_until("a way by the relay", SOON, || {
        turn.log().contains("CREATE_PERMISSION processed, success").then_some(())
    });
    let patch = wait_until("the relay's candidate", SOON, || server.front.seen(Method::PATCH).into_iter().next());
    assert!(patch.body.contains(" typ relay "), "{}", patch.body);
    let offer = server.front.seen(Method::POST).remove(0).body;
    assert!(!offer.contains(" typ relay "), "{offer}");
    assert_eq!((push.error(), count(&push, "sessions")), (None, 1));
    // The next offer has it from the start.
    let (session, _) =
        server.front.seen(Method::POST).split_first().map(|(first, rest)| (first.at, rest.len())).expect("one");
    server.ingest.pipeline.set_state(gst::State::Ready).expect("stopped");
    server.ingest.pipeline.set_state(gst::State::Playing).expect("playing again");
    let again = wait_until("another offer", SOON, || {
        server.front.seen(Method::POST).into_iter().rfind(|post| post.at > session)
    });
    assert!(again.body.contains(" typ relay "), "{}", again.body);
}

#[test]
fn a_way_that_breaks_and_comes_back_from_another_port_costs_no_session_but_an_ice_restart() {
    let server = Server::start();
    let push = server.push("");
    server.wait_frames(50);
    server.down.store(true, SeqCst);
    wait_until("a restart", SOON, || (server.methods(Method::PATCH) > 0).then_some(()));
    server.path.rebind();
    server.down.store(false, SeqCst);
    server.wait_frames(60);
    let patch = server.front.seen(Method::PATCH).remove(0);
    assert_eq!(patch.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!(patch.header("if-match"), Some("*"), "section 4.3.3");
    assert_eq!(patch.header("authorization"), Some("Bearer secret"));
    let offer = server.front.seen(Method::POST).remove(0).body;
    let ufrag = |text: &str| text.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:").map(str::to_owned));
    assert!(ufrag(&patch.body).is_some() && ufrag(&patch.body) != ufrag(&offer), "new credentials: {}", patch.body);
    assert_eq!((server.methods(Method::POST), server.methods(Method::DELETE)), (1, 0), "the same session");
    assert_eq!((count(&push, "sessions"), count(&push, "ice-restarts")), (1, 1));
    drop(push);
    assert_eq!(server.methods(Method::DELETE), 1);
}

#[test]
fn a_server_that_cannot_restart_is_called_anew() {
    let server = Server::start();
    let push = server.push("");
    server.wait_frames(50);
    server.front.reply(Method::PATCH, 501, &[]);
    server.down.store(true, SeqCst);
    wait_until("a restart", SOON, || (server.methods(Method::PATCH) > 0).then_some(()));
    wait_until("another offer", SOON, || (server.methods(Method::POST) == 2).then_some(()));
    server.down.store(false, SeqCst);
    server.wait_frames(60);
    let patches = server.front.seen(Method::PATCH);
    let again = patches.iter().filter(|patch| patch.path == patches[0].path).count();
    assert_eq!(again, 1, "it is not asked again: {patches:?}");
    assert_eq!((push.error(), count(&push, "sessions")), (None, 2));
}

#[test]
fn an_answer_that_names_no_session_is_refused_and_one_that_is_none_is_explained() {
    let server = Server::start();
    server.front.reply(Method::POST, 201, &[("content-type", "application/sdp".to_owned())]);
    let push = server.push("");
    let error = wait_until("the error", SOON, || push.error());
    assert!(error.contains("Location"), "{error}");
    let server = Server::start();
    server.front.reply(Method::POST, 406, &[]);
    let push = server.push("");
    let error = wait_until("the error", SOON, || push.error());
    assert!(error.contains("406"), "{error}");
}
