//! The HTTP half of the WHEP client against a server that says what the test wants: redirects, refusals, counter-offers,
//! tokens, TLS, and replies that no server should give.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use gstwebrtcbridge::signaling::{
    IceFragment, IceServer,
    client::{ClientConfig, ClientError, Negotiated, Resource, ServerUrl, Verdict, WhepClient, WhipClient},
};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
                   a=fingerprint:sha-256 00:11\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
const FRAGMENT: &str =
    "a=ice-ufrag:efgh\r\na=ice-pwd:0123456789012345678902\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";

/// One request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// A server that gives the replies that it was given, in that order.
#[derive(Clone, Default)]
struct Script {
    replies: Arc<Mutex<VecDeque<Response>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    fn reply(&self, status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> &Self {
        let mut response = (StatusCode::from_u16(status).expect("a status"), body.into()).into_response();
        response.headers_mut().remove("content-type");
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().expect("a value"));
        }
        self.replies.lock().expect("lock").push_back(response);
        self
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }

    async fn serve(State(script): State<Self>, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        script.seen.lock().expect("lock").push(Seen {
            line: format!("{} {}", head.method, head.uri),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
        });
        let reply = script.replies.lock().expect("lock").pop_front();
        reply.unwrap_or_else(|| StatusCode::IM_A_TEAPOT.into_response())
    }

    /// Starts serving, on a port of its own.
    async fn start(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = axum::Router::new().fallback(Self::serve).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}

fn client(url: &str, token: Option<&str>) -> WhepClient {
    let server: ServerUrl = url.parse().expect("a URL");
    let config = ClientConfig { server, auth_token: token.map(str::to_owned), trusted: None };
    WhepClient::new(&config).expect("a client")
}

/// A server with one reply, and what the client makes of it.
async fn offer(
    status: u16,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
) -> Result<Negotiated, ClientError> {
    let script = Script::default();
    script.reply(status, headers, body);
    let address = script.start().await;
    client(&format!("whep://{address}/whep/live"), None).offer(SDP).await
}

fn resource(negotiated: Negotiated) -> Resource {
    match negotiated {
        Negotiated::Answer { resource, .. } | Negotiated::CounterOffer { resource, .. } => resource,
    }
}

#[tokio::test]
async fn an_offer_is_answered_and_its_session_ended_with_the_token_on_both() {
    let script = Script::default();
    let link = "<stun:s:3478>; rel=\"ice-server\", <turn:t>; rel=\"ice-server\"; username=\"a,b\"; credential=\"c\"";
    script
        .reply(
            201,
            &[("location", "../session/7?k=1"), ("etag", "\"x\""), ("link", link), ("link", "<stun:u>;rel=ice-server")],
            SDP,
        )
        .reply(200, &[], "");
    let address = script.start().await;
    let negotiated =
        client(&format!("whep://{address}/whep/live?key=1"), Some("t0ken")).offer(SDP).await.expect("an answer");
    let Negotiated::Answer { sdp, resource } = negotiated else { panic!("{negotiated:?}") };
    assert_eq!(sdp, SDP);
    assert_eq!(
        resource.ice_servers().iter().map(IceServer::uri).collect::<Vec<_>>(),
        ["stun:s:3478", "turn:t", "stun:u"]
    );
    resource.delete().await.expect("gone");

    let seen = script.seen();
    assert_eq!(
        seen.iter().map(|seen| seen.line.as_str()).collect::<Vec<_>>(),
        ["POST /whep/live?key=1", "DELETE /session/7?k=1"]
    );
    assert_eq!(seen[0].header("content-type"), Some("application/sdp"));
    assert_eq!(seen[0].body, SDP);
    assert_eq!(seen[0].header("host"), Some(address.to_string().as_str()));
    assert!(seen.iter().all(|seen| seen.header("authorization") == Some("Bearer t0ken")), "{seen:?}");
    assert_eq!(seen[1].header("if-match"), None, "DELETE is not conditional");
}

#[tokio::test]
async fn a_session_whose_answer_is_of_no_use_is_ended() {
    for pushes in [false, true] {
        let script = Script::default();
        script.reply(201, &[("location", "/session")], "hello").reply(200, &[], "");
        let url = format!("http://{}/live", script.start().await);
        let error = match pushes {
            true => {
                let config = ClientConfig { server: url.parse().expect("a URL"), auth_token: None, trusted: None };
                WhipClient::new(&config).expect("a client").offer(SDP).await.map(drop)
            }
            false => client(&url, None).offer(SDP).await.map(drop),
        };
        assert!(error.is_err());
        let lines: Vec<_> = script.seen().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["POST /live", "DELETE /session"]);
    }
}

#[tokio::test]
async fn without_a_token_none_is_sent() {
    let script = Script::default();
    script.reply(201, &[("location", "/s")], SDP);
    let address = script.start().await;
    client(&format!("http://{address}/x"), None).offer(SDP).await.expect("an answer");
    assert_eq!(script.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn redirects_keep_the_post_and_the_token_stays_with_its_origin() {
    let (first, second) = (Script::default(), Script::default());
    let (a, b) = (first.start().await, second.start().await);
    first.reply(307, &[("location", "/elsewhere")], "").reply(308, &[("location", &format!("http://{b}/node"))], "");
    second.reply(201, &[("location", "/session")], SDP).reply(204, &[], "");
    let negotiated = client(&format!("whep://{a}/live"), Some("t0ken")).offer(SDP).await.expect("an answer");
    resource(negotiated).delete().await.expect("gone");

    let lines = |script: &Script| script.seen().iter().map(|seen| seen.line.clone()).collect::<Vec<_>>();
    assert_eq!(lines(&first), ["POST /live", "POST /elsewhere"]);
    assert_eq!(lines(&second), ["POST /node", "DELETE /session"]);
    assert!(first.seen().iter().all(|seen| seen.header("authorization").is_some()));
    assert!(second.seen().iter().all(|seen| seen.header("authorization").is_none()), "{:?}", second.seen());
    assert_eq!(second.seen()[0].body, SDP);

    first.reply(307, &[("location", &format!("http://{b}/node"))], "");
    second.reply(401, &[], "");
    let error = client(&format!("whep://{a}/live"), Some("t0ken")).offer(SDP).await.expect_err("refused");
    assert!(error.to_string().contains("not sent to a server that another one redirects to"), "{error}");
}

#[tokio::test]
async fn redirects_that_are_endless_or_lose_the_post_are_errors() {
    let script = Script::default();
    let address = script.start().await;
    for _ in 0..20 {
        script.reply(307, &[("location", "/again")], "");
    }
    let error = client(&format!("whep://{address}/live"), None).offer(SDP).await.expect_err("no end");
    assert!(matches!(error, ClientError::Redirect { .. }), "{error}");
    assert_eq!(script.seen().len(), 6);

    for (status, headers) in [(302, vec![("location", "/x")]), (307, vec![]), (307, vec![("location", "ftp://h/")])] {
        let error = offer(status, &headers, "").await.expect_err("not followed");
        assert!(matches!(error, ClientError::Redirect { .. }), "{error}");
        assert_eq!(error.verdict(), Verdict::Final);
    }
}

#[tokio::test]
async fn a_counter_offer_is_answered_by_patch() {
    let script = Script::default();
    script.reply(406, &[("location", "/session"), ("content-type", "application/sdp; charset=utf-8")], SDP).reply(
        204,
        &[],
        "",
    );
    let address = script.start().await;
    let negotiated =
        client(&format!("whep://{address}/live"), Some("t0ken")).offer("v=0 ours").await.expect("an offer");
    let Negotiated::CounterOffer { sdp, resource } = negotiated else { panic!("{negotiated:?}") };
    assert_eq!(sdp, SDP);
    resource.answer("v=0 our answer").await.expect("taken");
    let patch = &script.seen()[1];
    assert_eq!((patch.line.as_str(), patch.header("content-type")), ("PATCH /session", Some("application/sdp")));
    assert_eq!((patch.body.as_str(), patch.header("authorization")), ("v=0 our answer", Some("Bearer t0ken")));

    let error = offer(406, &[("content-type", "application/sdp")], SDP).await.expect_err("no Location");
    assert!(error.to_string().contains("without a Location"), "{error}");
    let error = offer(406, &[("content-type", "text/plain")], "no").await.expect_err("no counter-offer");
    assert_eq!(error.verdict(), Verdict::Final);
}

#[tokio::test]
async fn an_ice_restart_is_a_patch_whatever_the_entity_tag() {
    let script = Script::default();
    script
        .reply(201, &[("location", "/session"), ("etag", "\"x\"")], SDP)
        .reply(200, &[("etag", "\"y\"")], FRAGMENT)
        .reply(501, &[], "")
        .reply(200, &[], "rubbish")
        .reply(404, &[], "");
    let address = script.start().await;
    let resource = resource(client(&format!("whep://{address}/live"), None).offer(SDP).await.expect("an answer"));
    let ours = IceFragment::parse(FRAGMENT.replace("efgh", "ours").as_bytes()).expect("a fragment");
    let theirs = resource.restart_ice(&ours).await.expect("restarted").expect("the server's side");
    assert_eq!(theirs.credentials.expect("credentials").ufrag, "efgh");
    let patch = &script.seen()[1];
    assert_eq!(patch.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!((patch.header("if-match"), patch.body.as_str()), (Some("*"), ours.to_string().as_str()));
    assert_eq!(resource.restart_ice(&ours).await.expect("not supported"), None);
    assert!(matches!(resource.restart_ice(&ours).await, Err(ClientError::Reply { .. })));
    assert_eq!(resource.restart_ice(&ours).await.expect_err("gone").verdict(), Verdict::NoStream);
}

/// A session of a server that gives these replies to what follows, the first with an entity tag.
async fn session(etag: Option<&str>, replies: impl FnOnce(&Script)) -> (Script, Resource) {
    let script = Script::default();
    let mut headers = vec![("location", "/session")];
    headers.extend(etag.map(|etag| ("etag", etag)));
    script.reply(201, &headers, SDP);
    replies(&script);
    let address = script.start().await;
    let resource = resource(client(&format!("whep://{address}/live"), None).offer(SDP).await.expect("an answer"));
    (script, resource)
}

#[tokio::test]
async fn candidates_are_trickled_to_the_ice_session_that_the_server_named_last() {
    let (script, resource) = session(Some("\"first\""), |script| {
        script
            .reply(204, &[], "")
            .reply(200, &[("etag", "\"second\"")], FRAGMENT)
            .reply(204, &[], "")
            .reply(412, &[], "")
            .reply(503, &[("retry-after", "7")], "");
    })
    .await;
    let ours = IceFragment::parse(FRAGMENT.as_bytes()).expect("a fragment");
    assert!(resource.trickle(&ours).await.expect("taken"));
    resource.restart_ice(&ours).await.expect("restarted");
    assert!(resource.trickle(&ours).await.expect("taken"));
    assert!(!resource.trickle(&ours).await.expect("it has another ICE session by now"));
    let busy = resource.trickle(&ours).await.expect_err("not now");
    assert_eq!(busy.verdict(), Verdict::Retry(Some(Duration::from_secs(7))));

    let seen = script.seen();
    let if_match: Vec<_> = seen[1..].iter().map(|seen| seen.header("if-match").expect("If-Match")).collect();
    assert_eq!(if_match, ["\"first\"", "*", "\"second\"", "\"second\"", "\"second\""]);
    assert_eq!(seen[1].header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!(seen[1].line, "PATCH /session");
}

#[tokio::test]
async fn a_server_without_entity_tags_gets_candidates_for_whatever_it_has() {
    let (script, resource) = session(None, |script| _ = script.reply(204, &[], "")).await;
    let ours = IceFragment::parse(FRAGMENT.as_bytes()).expect("a fragment");
    assert!(resource.trickle(&ours).await.expect("taken"));
    assert_eq!(script.seen()[1].header("if-match"), Some("*"));
}

#[tokio::test]
async fn a_server_that_does_not_trickle_is_left_alone() {
    for status in [405, 415, 501] {
        let (script, resource) = session(None, |script| _ = script.reply(status, &[], "")).await;
        let ours = IceFragment::parse(FRAGMENT.as_bytes()).expect("a fragment");
        for _ in 0..3 {
            assert!(!resource.clone().trickle(&ours).await.expect("no error"));
        }
        assert_eq!(script.seen().len(), 2, "the offer and one PATCH");
    }
}

#[tokio::test]
async fn each_refusal_says_whether_to_try_again() {
    for (status, verdict) in [
        (400, Verdict::Final),
        (401, Verdict::Final),
        (403, Verdict::Final),
        (404, Verdict::NoStream),
        (409, Verdict::Retry(Some(Duration::from_secs(7)))),
        (429, Verdict::Retry(Some(Duration::from_secs(7)))),
        (500, Verdict::Retry(Some(Duration::from_secs(7)))),
        (503, Verdict::Retry(Some(Duration::from_secs(7)))),
    ] {
        let error = offer(status, &[("retry-after", "7")], "{\"detail\":\"so it is\"}").await.expect_err("refused");
        assert_eq!(error.verdict(), verdict, "{error}");
        assert!(error.to_string().contains("so it is") && error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_reply_without_location_is_played_and_not_ended() {
    let negotiated = offer(201, &[], SDP).await.expect("an answer");
    resource(negotiated).delete().await.expect("nothing to do");
}

#[tokio::test]
async fn replies_that_no_server_should_give_are_errors() {
    let too_many = format!("{SDP}{}", "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(101));
    let too_large = "x".repeat(1 << 20);
    for body in ["", "{}", "v=0\r\n", &too_many, &too_large] {
        let error = offer(201, &[("location", "/s")], body.to_owned()).await.expect_err("unusable");
        assert!(matches!(error, ClientError::Reply { .. }), "{error}");
        assert!(error.to_string().len() < 500);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_speaks_no_http_is_told_apart() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut server = client(&format!("whep://{address}/live"), None);
    let (offered, ()) = tokio::join!(server.offer(SDP), async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.read_u8().await.expect("a request");
        stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.expect("written");
    });
    assert!(matches!(offered, Err(ClientError::Reply { .. })), "{offered:?}");
    let (offered, ()) = tokio::join!(server.offer(SDP), async { drop(listener.accept().await.expect("a client")) });
    assert!(matches!(offered, Err(ClientError::Unreachable { .. })), "{offered:?}");
    drop(listener);
    let error = server.offer(SDP).await.expect_err("nobody there");
    assert_eq!(error.verdict(), Verdict::Retry(None), "{error}");
    server = client("whep://no-such-host.invalid/live", None);
    assert!(server.offer(SDP).await.expect_err("no such name").to_string().contains("cannot be resolved"));
    assert!(!server.is_local().await);
    assert!(client("whep://127.0.0.1:1/live", None).is_local().await);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = client(&format!("whep://{}/live", listener.local_addr().expect("an address")), None);
    let silence = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.read_u8().await.expect("a request");
        tokio::time::pause(); // from here on waiting takes no time
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        offered = server.offer(SDP) => offered.expect_err("silence"),
        () = silence => unreachable!(),
    };
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert_eq!(error.verdict(), Verdict::Retry(None));
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_once_its_certificate_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = dir.path().join("cert.pem");
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        )
        .expect("TLS");
    let script = Script::default();
    let router = axum::Router::new().fallback(Script::serve).with_state(script.clone());
    let handle = axum_server::Handle::new();
    let server = axum_server::bind_rustls(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(tls)),
    );
    tokio::spawn(server.handle(handle.clone()).serve(router.into_make_service()));
    let port = handle.listening().await.expect("listening").port();

    script.reply(201, &[("location", "/s")], SDP);
    let server: ServerUrl = format!("wheps://localhost:{port}/live").parse().expect("a URL");
    let mut config = ClientConfig { server, auth_token: None, trusted: None };
    let error = WhepClient::new(&config).expect("a client").offer(SDP).await.expect_err("not trusted");
    assert!(error.to_string().contains("tls-certificate"), "{error}");
    assert_eq!(error.verdict(), Verdict::Final);
    config.trusted = Some(certificate);
    WhepClient::new(&config).expect("a client").offer(SDP).await.expect("an answer");
    // To plain HTTP it would have gone unencrypted.
    script.reply(307, &[("location", "http://localhost/live")], "");
    let error = WhepClient::new(&config).expect("a client").offer(SDP).await.expect_err("not followed");
    assert!(error.to_string().contains("plain HTTP"), "{error}");
}
