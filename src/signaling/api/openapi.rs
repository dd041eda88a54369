//! `GET /api/v1/openapi.json`: this API described by OpenAPI 3.1, put together from the handlers and their types.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use super::{BridgeServer, channels, doc, offer, signaling, status, viewing};
use crate::signaling::{health, metrics, problem::Problem};

#[derive(OpenApi)]
#[openapi(
    info(title = "webrtcbridge", description = "A bridge server: publishers by WHIP, viewers by WHEP, their channels and what they do."),
    paths(
        channels::list,
        channels::one,
        channels::stop,
        status::status,
        document,
        signaling::publish,
        signaling::endpoint,
        signaling::preflight,
        offer::exchange,
        signaling::session,
        signaling::update,
        signaling::end,
        viewing::watch,
        viewing::endpoint,
        viewing::preflight,
        viewing::session,
        viewing::update,
        viewing::end,
        viewing::layer,
        viewing::events,
        viewing::stream,
        viewing::end_stream,
        signaling::web_socket,
        signaling::web_socket_schema,
        metrics::metrics,
        health::healthz,
        health::readyz,
    ),
    components(schemas(Problem), responses(
        doc::Malformed,
        doc::Unauthorized,
        doc::Forbidden,
        doc::NotFound,
        doc::Conflict,
        doc::ContentType,
        doc::TooLarge,
        doc::Slow,
        doc::Unacceptable,
        doc::TooOften,
        doc::Internal,
        doc::Unavailable,
        doc::NoCondition,
        doc::ConditionFailed,
        doc::UpgradeRequired,
    )),
    modifiers(&Token),
    tags(
        (name = "channels", description = "What can be published to and watched"),
        (name = "signaling", description = "Publishing (WHIP, RFC 9725), and signaling over a WebSocket"),
        (name = "viewing", description = "Watching (WHEP, draft-ietf-wish-whep-03)"),
        (name = "monitoring", description = "Watching over the server"),
    ),
)]
struct Api;

/// How a token is shown.
struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "monitoring",
    operation_id = "getApi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn document(BridgeServer(_): BridgeServer) -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| Api::openapi().to_json().unwrap_or_default());
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, TEXT.as_str()).into_response()
}
