//! The paths of WHEP in the OpenAPI document, which have no handler each either (`signaling/whep.rs`,
//! `signaling/whip_session.rs`).

#![expect(dead_code, reason = "nobody calls these: utoipa reads what stands above them")]

use utoipa::IntoParams;

use super::doc::{
    ConditionFailed, ContentType, Forbidden, Internal, Malformed, NoCondition, NotFound, Slow, TooLarge, TooOften,
    Unacceptable, Unauthorized, Unavailable,
};
use super::signaling::SessionPath;

/// The path of a channel's WHEP endpoint.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct WhepPath {
    /// The channel's id.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    channel: String,
}

/// An event stream in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct StreamPath {
    /// The channel's id.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    channel: String,
    /// The session's id, as in the Location that the POST had.
    session: String,
    /// The stream's id, as in the Location that its POST had.
    stream: String,
}

/// Watches: WHEP (draft-ietf-wish-whep-03).
#[utoipa::path(
    post,
    path = "/whep/{channel}",
    tag = "viewing",
    operation_id = "watch",
    params(WhepPath),
    request_body(content = String, content_type = "application/sdp", description = "An SDP offer to receive"),
    responses(
        (status = 201, description = "An SDP answer", body = String, content_type = "application/sdp", headers(
            ("Location" = String, description = "The session's URL"),
            ("ETag" = String, description = "Names the ICE session"),
            ("Link" = String, description = "STUN and TURN servers, and where events and layers are asked for, a line for each"),
        )),
        (status = 400, response = Malformed),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 406, description = "An offer in place of the one that cannot be answered: its answer is a PATCH of the session",
            body = String, content_type = "application/sdp", headers(("Location" = String), ("ETag" = String))),
        (status = 408, response = Slow),
        (status = 413, response = TooLarge),
        (status = 415, response = ContentType),
        (status = 422, response = Unacceptable),
        (status = 429, response = TooOften),
        (status = 500, response = Internal),
        (status = 503, response = Unavailable),
    ),
    security((), ("token" = [])),
)]
pub(super) fn watch() {}

/// Whether the token is one to watch with; the Content-Type tells a WHEP endpoint from a WHIP one.
#[utoipa::path(
    get,
    path = "/whep/{channel}",
    tag = "viewing",
    operation_id = "getWatchingEndpoint",
    params(WhepPath),
    responses(
        (status = 200, description = "It is; there is nothing to read", body = String, content_type = "application/sdp"),
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
    path = "/whep/{channel}",
    tag = "viewing",
    operation_id = "getWatchingEndpointOptions",
    params(WhepPath),
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

/// Adds ICE candidates, restarts ICE, or answers an offer of the server's.
#[utoipa::path(
    patch,
    path = "/whep/{channel}/{session}",
    tag = "viewing",
    operation_id = "updateViewer",
    params(SessionPath, ("If-Match" = Option<String>, Header,
        description = "The session's ETag, or * for a restart; not with an answer")),
    request_body(content(
        (String = "application/trickle-ice-sdpfrag"),
        (String = "application/sdp"),
    ), description = "RFC 8840, or an SDP answer"),
    responses(
        (status = 200, description = "Restarted: our side of it", body = String,
            content_type = "application/trickle-ice-sdpfrag", headers(("ETag" = String))),
        (status = 204, description = "The candidates, or the answer, were taken"),
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
    path = "/whep/{channel}/{session}",
    tag = "viewing",
    operation_id = "getViewer",
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
    path = "/whep/{channel}/{session}",
    tag = "viewing",
    operation_id = "endViewer",
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

/// Chooses a layer, the most that the viewer gets from then on; an empty object undoes it.
#[utoipa::path(
    post,
    path = "/whep/{channel}/{session}/layer",
    tag = "viewing",
    operation_id = "chooseLayer",
    params(SessionPath),
    request_body(content = Object, description = "mediaId, rid, spatialLayerId, temporalLayerId, maxSpatialLayerId, \
        maxTemporalLayerId, maxWidth, maxHeight; each may be left out"),
    responses(
        (status = 200, description = "It is chosen"),
        (status = 400, response = Malformed),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 408, response = Slow),
        (status = 413, response = TooLarge),
        (status = 415, response = ContentType),
        (status = 429, response = TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) fn layer() {}

/// Makes an event stream of the session.
#[utoipa::path(
    post,
    path = "/whep/{channel}/{session}/sse",
    tag = "viewing",
    operation_id = "createEventStream",
    params(SessionPath),
    request_body(content = Vec<String>, description = "The events: active, inactive, layers, reconnect, viewercount; without a body all"),
    responses(
        (status = 201, description = "It is made", headers(("Location" = String, description = "The stream's URL"))),
        (status = 400, response = Malformed),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 408, response = Slow),
        (status = 413, response = TooLarge),
        (status = 415, response = ContentType),
        (status = 429, response = TooOften),
        (status = 503, response = Unavailable),
    ),
    security((), ("token" = [])),
)]
pub(super) fn events() {}

/// Reads an event stream; its reader of before is ended.
#[utoipa::path(
    get,
    path = "/whep/{channel}/{session}/sse/{stream}",
    tag = "viewing",
    operation_id = "readEventStream",
    params(StreamPath),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 429, response = TooOften),
        (status = 503, response = Unavailable),
    ),
    security((), ("token" = [])),
)]
pub(super) fn stream() {}

/// Ends an event stream.
#[utoipa::path(
    delete,
    path = "/whep/{channel}/{session}/sse/{stream}",
    tag = "viewing",
    operation_id = "deleteEventStream",
    params(StreamPath),
    responses(
        (status = 200, description = "It has ended"),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 429, response = TooOften),
    ),
    security((), ("token" = [])),
)]
pub(super) fn end_stream() {}
