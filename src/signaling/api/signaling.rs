//! The paths of signaling in the OpenAPI document. Those of WHIP have no handler each: one serves them all, and elements'
//! endpoints too (`signaling/whip.rs`, `signaling/whip_session.rs`). `/ws` is described by a schema of its own.

#![expect(dead_code, reason = "nobody calls these: utoipa reads what stands above them")]

use utoipa::IntoParams;

use super::doc::{
    ConditionFailed, Conflict, ContentType, Forbidden, Internal, Malformed, NoCondition, NotFound, Slow, TooLarge,
    TooOften, Unacceptable, Unauthorized, Unavailable, UpgradeRequired,
};

/// A session in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct SessionPath {
    /// The channel's id.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    channel: String,
    /// The session's id, as in the Location that the POST had.
    session: String,
}

/// The path of a channel's WHIP endpoint.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct WhipPath {
    /// The channel's id; a channel that does not exist is made.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    channel: String,
}

/// Publishes: WHIP (RFC 9725).
#[utoipa::path(
    post,
    path = "/whip/{channel}",
    tag = "signaling",
    operation_id = "publish",
    params(WhipPath),
    request_body(content = String, content_type = "application/sdp", description = "An SDP offer"),
    responses(
        (status = 201, description = "An SDP answer", body = String, content_type = "application/sdp", headers(
            ("Location" = String, description = "The session's URL"),
            ("ETag" = String, description = "Names the ICE session"),
            ("Link" = String, description = "STUN and TURN servers, a line for each"),
        )),
        (status = 400, response = Malformed),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 408, response = Slow),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 415, response = ContentType),
        (status = 422, response = Unacceptable),
        (status = 429, response = TooOften),
        (status = 500, response = Internal),
        (status = 503, response = Unavailable),
    ),
    security((), ("token" = [])),
)]
pub(super) fn publish() {}

/// Whether the token is one to publish with: there is nothing to read (RFC 9725 section 4.2).
#[utoipa::path(
    get,
    path = "/whip/{channel}",
    tag = "signaling",
    operation_id = "getEndpoint",
    params(WhipPath),
    responses(
        (status = 204, description = "It is"),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 429, response = TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) fn endpoint() {}

/// What may be sent here; never with a token.
#[utoipa::path(
    options,
    path = "/whip/{channel}",
    tag = "signaling",
    operation_id = "getEndpointOptions",
    params(WhipPath),
    responses(
        (status = 200, description = "What may be", headers(
            ("Allow" = String, description = "The methods"),
            ("Accept-Post" = String, description = "application/sdp"),
        )),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
    ),
    security(()),
)]
pub(super) fn preflight() {}

/// Adds ICE candidates, or restarts ICE.
#[utoipa::path(
    patch,
    path = "/whip/{channel}/{session}",
    tag = "signaling",
    operation_id = "updateSession",
    params(SessionPath, ("If-Match" = String, Header, description = "The session's ETag, or * for a restart")),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag", description = "RFC 8840"),
    responses(
        (status = 200, description = "Restarted: our side of it", body = String,
            content_type = "application/trickle-ice-sdpfrag", headers(("ETag" = String))),
        (status = 204, description = "The candidates were taken"),
        (status = 400, response = Malformed),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 408, response = Slow),
        (status = 412, response = ConditionFailed),
        (status = 413, response = TooLarge),
        (status = 415, response = ContentType),
        (status = 422, response = Unacceptable),
        (status = 428, response = NoCondition),
        (status = 429, response = TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) fn update() {}

/// Whether the session is there.
#[utoipa::path(
    get,
    path = "/whip/{channel}/{session}",
    tag = "signaling",
    operation_id = "getSession",
    params(SessionPath),
    responses(
        (status = 204, description = "It is", headers(("ETag" = String))),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 429, response = TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) fn session() {}

/// Ends the session.
#[utoipa::path(
    delete,
    path = "/whip/{channel}/{session}",
    tag = "signaling",
    operation_id = "endSession",
    params(SessionPath),
    responses(
        (status = 200, description = "It has ended"),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 429, response = TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) fn end() {}

/// Signaling over a WebSocket: channels, publishing, relaying between peers, chat.
#[utoipa::path(
    get,
    path = "/ws",
    tag = "signaling",
    operation_id = "openWebSocket",
    params(("token" = Option<String>, Query, description = "The token, for browsers, which cannot send it as a header")),
    responses(
        (status = 101, description = "A WebSocket; its messages are described by /api/v1/signaling.schema.json"),
        (status = 403, response = Forbidden),
        (status = 426, response = UpgradeRequired),
        (status = 503, response = Unavailable),
    ),
    security((), ("token" = [])),
)]
pub(super) fn web_socket() {}

/// What is said on /ws.
#[utoipa::path(
    get,
    path = "/api/v1/signaling.schema.json",
    tag = "signaling",
    operation_id = "getSignalingSchema",
    responses((status = 200, description = "JSON Schema, draft 2020-12", body = Object, content_type = "application/schema+json")),
)]
pub(super) fn web_socket_schema() {}
