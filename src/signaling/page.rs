//! The page at `/`, its files, and the list of endpoints that it reads.

use std::sync::Arc;

use axum::{
    Json,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    api::{BridgeServer, Segment, as_admin},
    auth::Role,
    connection::Peer,
    problem::Refusal,
    table::Table,
};

/// Scripts and styles are files of ours only. Playback comes from loopback hosts (which CSP cannot name as IPv6), through
/// blobs that mpegts.js fills.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self' http://127.0.0.1:* http://localhost:* https://127.0.0.1:* https://localhost:*; \
    media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Name under `/page/`, content type, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("style.css", CSS, include_str!("../page/style.css")),
    ("main.js", JS, include_str!("../page/main.js")),
    ("whip.js", JS, include_str!("../page/whip.js")),
    ("ice.js", JS, include_str!("../page/ice.js")),
    ("camera.js", JS, include_str!("../page/camera.js")),
    ("player.js", JS, include_str!("../page/player.js")),
    ("words.js", JS, include_str!("../page/words.js")),
    ("live.css", CSS, include_str!("../page/live.css")),
    ("live.js", JS, include_str!("../page/live.js")),
    ("address.js", JS, include_str!("../page/address.js")),
    ("broadcaster.js", JS, include_str!("../page/broadcaster.js")),
    ("viewer.js", JS, include_str!("../page/viewer.js")),
    ("socket.js", JS, include_str!("../page/socket.js")),
    ("studio.js", JS, include_str!("../page/studio.js")),
    ("ownchannel.js", JS, include_str!("../page/ownchannel.js")),
    ("codecs.js", JS, include_str!("../page/codecs.js")),
    ("echo.js", JS, include_str!("../page/echo.js")),
    ("loop.js", JS, include_str!("../page/loop.js")),
    ("pings.js", JS, include_str!("../page/pings.js")),
    ("hosting.js", JS, include_str!("../page/hosting.js")),
    ("reception.js", JS, include_str!("../page/reception.js")),
    ("sources.js", JS, include_str!("../page/sources.js")),
    ("chat.js", JS, include_str!("../page/chat.js")),
    ("view.js", JS, include_str!("../page/view.js")),
    ("numbers.js", JS, include_str!("../page/numbers.js")),
    ("status.css", CSS, include_str!("../page/status.css")),
    ("status.js", JS, include_str!("../page/status.js")),
    ("chart.js", JS, include_str!("../page/chart.js")),
    ("history.js", JS, include_str!("../page/history.js")),
    ("favicon.svg", "image/svg+xml", include_str!("../page/favicon.svg")),
    ("mpegts.js", JS, include_str!("../page/vendor/mpegts.js")),
];

/// Those of `/status`, which is there without a page as well.
const STATUS_ASSETS: &[&str] =
    &["favicon.svg", "style.css", "status.css", "status.js", "chart.js", "history.js", "words.js"];

/// `GET /`: a bridge server's page is for broadcasters and viewers, an element's for its one publisher.
pub(crate) async fn index(State(table): State<Arc<Table>>) -> Result<Response, Refusal> {
    match table.site() {
        Some(site) if site.page => Ok(file(HTML, include_str!("../page/live.html"))),
        _ if !has_page(&table) => Err(Refusal::NoEndpoint("/".into())),
        _ => Ok(file(HTML, include_str!("../page/index.html"))),
    }
}

/// `GET /status`, for administrators. A browser that just opens the address has no token to show: it gets the page with
/// the refusal, to type the token in; the page holds nothing by itself.
pub(crate) async fn status(
    BridgeServer(site): BridgeServer,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    let page = file(HTML, include_str!("../page/status.html"));
    let Err(refusal) = as_admin(&site, &headers, peer).await else { return page };
    let mut response = refusal.into_response();
    if response.status() == StatusCode::UNAUTHORIZED && takes_html(&headers) {
        let (parts, body) = page.into_parts();
        response.headers_mut().extend(parts.headers);
        *response.body_mut() = body;
    }
    response
}

fn takes_html(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains("text/html")))
}

/// `GET /page/{file}`: with no page at `/` only what `/status` needs.
pub(crate) async fn asset(State(table): State<Arc<Table>>, Segment(name): Segment) -> Result<Response, Refusal> {
    let is_served = has_page(&table) || STATUS_ASSETS.contains(&name.as_str());
    let asset = ASSETS.iter().find(|(known, ..)| is_served && *known == name);
    let (_, content_type, content) = asset.ok_or_else(|| Refusal::NoEndpoint(format!("/page/{name}")))?;
    Ok(file(content_type, content))
}

/// Whether this is the path of something that our pages consist of.
pub(crate) fn is_asset(path: &str) -> bool {
    path.strip_prefix("/page/").is_some_and(|name| ASSETS.iter().any(|(known, ..)| *known == name))
}

/// Whether there is a page at `/`: the bridge server's own, or that of an element on the same HOST:PORT.
fn has_page(table: &Table) -> bool {
    table.site().is_none_or(|site| site.page) || !table.endpoints().is_empty()
}

/// `GET /endpoints.json`: where an element's page can publish, and whether a token is needed.
pub(crate) async fn endpoints(State(table): State<Arc<Table>>) -> Response {
    let endpoints = table
        .endpoints()
        .into_iter()
        .filter(|endpoint| endpoint.role == Role::Publish)
        .map(|endpoint| EndpointEntry { path: endpoint.path.clone(), token: endpoint.gate.needs_token(endpoint.role) })
        .collect();
    ([(header::CACHE_CONTROL, "no-store")], Json(EndpointList { endpoints })).into_response()
}

#[derive(Serialize)]
struct EndpointList {
    endpoints: Vec<EndpointEntry>,
}

#[derive(Serialize)]
struct EndpointEntry {
    path: String,
    token: bool,
}

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The files change with the plugin, and together.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn vendored_player_is_the_published_one() {
        let digest = Sha256::digest(include_bytes!("../page/vendor/mpegts.js"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "bda31748736a69cb610c2edf4623e633f1f4f47b5bda83668c8d287e51b0c3a8");
        assert!(include_str!("../page/vendor/README.md").contains(&hex));
    }

    #[test]
    fn pages_have_no_inline_script_or_style() {
        let pages = [
            ("main.js", include_str!("../page/index.html")),
            ("live.js", include_str!("../page/live.html")),
            ("status.js", include_str!("../page/status.html")),
        ];
        for (script, html) in pages {
            assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick="));
            let tag = format!(" type=\"module\" src=\"page/{script}\"></script>");
            assert!(html.split("<script").skip(1).all(|script| script.starts_with(&tag)));
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let sources = ASSETS.iter().filter(|(name, ..)| *name != "mpegts.js").map(|(.., content)| *content);
        let pages = ["index.html", "live.html", "status.html"].map(|name| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page").join(name);
            std::fs::read_to_string(path).unwrap()
        });
        for source in sources.chain(pages.iter().map(String::as_str)) {
            for name in names(source) {
                assert!(ASSETS.iter().any(|(known, ..)| *known == name), "{name} is not served");
            }
        }
    }

    #[test]
    fn every_file_that_the_status_page_names_is_served_without_a_page() {
        let content = |name: &&str| ASSETS.iter().find(|(known, ..)| known == name).map(|(.., content)| *content);
        let sources =
            STATUS_ASSETS.iter().map(|name| content(name).unwrap()).chain([include_str!("../page/status.html")]);
        for source in sources {
            for name in names(source) {
                assert!(STATUS_ASSETS.contains(&name), "{name} is not served");
            }
        }
    }

    /// The files that a source names.
    fn names(source: &str) -> impl Iterator<Item = &str> {
        source.split(['"', '\'']).filter_map(|s| s.strip_prefix("./").or(s.strip_prefix("page/")))
    }
}
