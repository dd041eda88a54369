//! A WHIP server that does what servers may do: in front of one of ours, it remembers every request, answers some of them
//! itself as it is told to, and passes the others on.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    response::{IntoResponse as _, Response},
};

use super::{http, lossy::LossyPath};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What is answered in place of the server.
#[derive(Clone, Debug)]
pub struct Reply {
    pub to: Method,
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
}

/// A running server; killed when dropped.
pub struct WhipFront {
    port: u16,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    /// `http://HOST:PORT` of the one behind.
    behind: String,
    path: Option<LossyPath>,
    /// What is answered next to each method.
    replies: Mutex<VecDeque<Reply>>,
    /// Added to every answer (201).
    links: Mutex<Vec<String>>,
    seen: Mutex<Vec<Seen>>,
}

impl WhipFront {
    /// In front of this endpoint; media goes through `path`, if there is one.
    pub fn start(endpoint: &str, path: Option<LossyPath>) -> Self {
        let behind = url::Url::parse(endpoint).expect("a URL").origin().ascii_serialization();
        let (replies, links, seen) = Default::default();
        let shared = Arc::new(Shared { behind, path, replies, links, seen });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
        let router = axum::Router::new().fallback(serve).with_state(shared.clone());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { port, shared, _runtime: runtime }
    }

    /// The endpoint as a client's URI, by this name of the host.
    pub fn uri(&self, host: &str) -> String {
        format!("whip://{host}:{}/whip/live", self.port)
    }

    /// The next request of this method is answered so, and not passed on.
    pub fn reply(&self, to: Method, status: u16, headers: &[(&'static str, String)]) {
        self.shared.replies.lock().expect("lock").push_back(Reply { to, status, headers: headers.to_vec() });
    }

    /// Every answer has this Link from here on.
    pub fn link(&self, link: &str) {
        self.shared.links.lock().expect("lock").push(link.to_owned());
    }

    /// Requests of this method so far.
    pub fn seen(&self, method: Method) -> Vec<Seen> {
        self.shared.seen.lock().expect("lock").iter().filter(|seen| seen.method == method).cloned().collect()
    }
}

impl Shared {
    fn respond(&self, seen: Seen) -> Response {
        self.seen.lock().expect("lock").push(seen.clone());
        let canned = {
            let mut replies = self.replies.lock().expect("lock");
            let place = replies.iter().position(|reply| reply.to == seen.method);
            place.and_then(|place| replies.remove(place))
        };
        if let Some(Reply { status, headers, .. }) = canned {
            let mut response = StatusCode::from_u16(status).expect("a status").into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().expect("a value"));
            }
            return response;
        }
        self.pass_on(&seen)
    }

    fn pass_on(&self, seen: &Seen) -> Response {
        let url = format!("{}{}", self.behind, seen.path);
        let mut request = axum::http::Request::builder().method(seen.method.clone()).uri(&url);
        for name in ["content-type", "authorization", "if-match"] {
            if let Some(value) = seen.header(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(seen.body.clone()).expect("a request");
        let mut reply = http().run(request).expect("the server behind answers");
        let status = reply.status();
        let location = reply.headers().get("location").and_then(|location| location.to_str().ok()).map(|location| {
            let url = url::Url::parse(&self.behind).and_then(|base| base.join(location)).expect("a URL");
            HeaderValue::from_str(url.path()).expect("a path")
        });
        let kept = ["content-type", "etag", "link", "retry-after", "www-authenticate"];
        let mut headers: Vec<(HeaderName, HeaderValue)> = reply
            .headers()
            .iter()
            .filter(|(name, _)| kept.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut body = reply.body_mut().read_to_string().expect("a body");
        if let (Some(path), StatusCode::CREATED) = (&self.path, status) {
            body = path.reroute(&body);
        }
        let mut response = (status, body).into_response();
        response.headers_mut().remove("content-type");
        headers.extend(location.map(|location| (axum::http::header::LOCATION, location)));
        if status == StatusCode::CREATED {
            let links = self.links.lock().expect("lock");
            headers.extend(links.iter().map(|link| (axum::http::header::LINK, link.parse().expect("a link"))));
        }
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let body = String::from_utf8_lossy(&body).into_owned();
    let seen = Seen { method: head.method, path, headers: head.headers, body, at: Instant::now() };
    tokio::task::spawn_blocking(move || shared.respond(seen)).await.expect("a response")
}
