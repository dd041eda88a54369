//! `/api/v1`: what programs ask a bridge server, and tell it. Described by `/api/v1/openapi.json`, from this code.
//!
//! Who may watch may list channels; what changes or tells of everything is for administrators.

mod channels;
pub(crate) mod doc;
mod offer;
mod openapi;
mod signaling;
mod status;
mod viewing;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{ConnectInfo, FromRequestParts, Path, Request, State},
    http::{HeaderMap, Method, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};

use super::{
    auth::{Ask, Role, bearer},
    connection::Peer,
    health,
    limits::Limits,
    metrics, page,
    problem::Refusal,
    site::Site,
    table::{Table, Target},
    uri::normalise_path,
    whip,
};
use crate::channel::ChannelId;

/// The routes for programs and for watching over the server.
pub(crate) fn routes() -> Router<Arc<Table>> {
    let not_for_all = Router::new()
        .route("/api/v1/channels", read_only(get(channels::list)))
        .route(
            "/api/v1/channels/{id}",
            get(channels::one).delete(channels::stop).fallback(async || Refusal::Method { allow: "DELETE, GET, HEAD" }),
        )
        .route("/offer", post(offer::exchange).fallback(async || Refusal::Method { allow: "POST" }))
        .route("/api/v1/status", read_only(get(status::status)))
        .route("/metrics", read_only(get(metrics::metrics)))
        .route("/status", read_only(get(page::status)))
        .route_layer(middleware::from_fn(read_within_limits));
    not_for_all
        .route("/api/v1/openapi.json", read_only(get(openapi::document)))
        .route("/healthz", read_only(get(health::healthz)))
        .route("/readyz", read_only(get(health::readyz)))
}

/// A route of GET and HEAD, which says so to who comes with another method.
pub(crate) fn read_only(handler: MethodRouter<Arc<Table>>) -> MethodRouter<Arc<Table>> {
    handler.fallback(only_get)
}

async fn only_get() -> Refusal {
    Refusal::Method { allow: "GET, HEAD" }
}

/// An element may have its endpoint at any path, also at one of ours: then the path is the endpoint's, and those below it are its
/// sessions', but for what our pages consist of.
pub(crate) async fn endpoints_first(
    State(table): State<Arc<Table>>,
    limits: Extension<Arc<Limits>>,
    peer: ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = normalise_path(request.uri().path());
    match table.find(&path) {
        Ok(Target::Session(..)) if page::is_asset(&path) => next.run(request).await,
        Ok(_) => whip::serve(State(table), limits, peer, request).await,
        Err(_) => next.run(request).await,
    }
}

/// Counts what is only read; what changes something is counted where that happens.
async fn read_within_limits(
    Extension(limits): Extension<Arc<Limits>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match if is_read { within_limits(&limits, request.method(), peer) } else { Ok(()) } {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The bridge server that this is: a route that asks for it is not there without one.
pub(crate) struct BridgeServer(pub(crate) Arc<Site>);

impl FromRequestParts<Arc<Table>> for BridgeServer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, table: &Arc<Table>) -> Result<Self, Refusal> {
        table.site().map(Self).ok_or_else(|| Refusal::NoEndpoint(parts.uri.path().to_owned()))
    }
}

/// What stands in the one variable place of a route. Where that is not UTF-8, nothing is there.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let segment = Path::<String>::from_request_parts(parts, state).await;
        segment.map(|Path(text)| Self(text)).map_err(|_| Refusal::NoEndpoint(parts.uri.path().to_owned()))
    }
}

/// Lets administrators pass.
pub(crate) async fn as_admin(site: &Site, headers: &HeaderMap, peer: Peer) -> Result<(), Refusal> {
    admit(site, Role::Admin, None, headers, peer).await
}

async fn admit(
    site: &Site,
    role: Role,
    channel: Option<&ChannelId>,
    headers: &HeaderMap,
    Peer(from): Peer,
) -> Result<(), Refusal> {
    site.gate.admit(Ask { role, channel, token: bearer(headers), from: from.ip() }).await.map(drop)
}

/// Counts a request that costs us something.
fn within_limits(limits: &Limits, method: &Method, Peer(from): Peer) -> Result<(), Refusal> {
    limits.admit(method, from.ip()).map_err(|wait| Refusal::TooOften { wait })
}

/// What is no channel id names no channel.
fn channel_id(text: &str) -> Result<ChannelId, Refusal> {
    Ok(text.parse()?)
}
