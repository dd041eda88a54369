//! `POST /offer`: an offer and its answer as JSON, in one request, as the tests of webrtc-echoes have it.
//!
//! The session has a channel of its own that nobody else knows, and no URL: it ends with its connection.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{ConnectInfo, Request},
    http::Method,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{BridgeServer, within_limits};
use crate::signaling::{
    api::doc,
    auth::{Ask, Role, bearer},
    body,
    connection::Peer,
    limits::Limits,
    problem::Refusal,
    rules::Terms,
    sdp,
    whip::{self, Accepted},
};

/// An `RTCSessionDescriptionInit` of the W3C's, as browsers make it.
#[derive(Deserialize, Serialize, ToSchema)]
pub(super) struct Description {
    r#type: Type,
    /// The description (RFC 8866).
    sdp: String,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Type {
    Offer,
    Answer,
}

/// Begins a session on a channel of its own, in one request. What it sends is answered with what its pipeline sends.
#[utoipa::path(
    post,
    path = "/offer",
    tag = "signaling",
    operation_id = "exchange",
    request_body(content = Description, description = "The offer, with its candidates"),
    responses(
        (status = 200, description = "The answer, with its candidates", body = Description),
        (status = 400, response = doc::Malformed),
        (status = 401, response = doc::Unauthorized),
        (status = 403, response = doc::Forbidden),
        (status = 413, response = doc::TooLarge),
        (status = 415, response = doc::ContentType),
        (status = 422, response = doc::Unacceptable),
        (status = 429, response = doc::TooOften),
        (status = 500, response = doc::Internal),
        (status = 503, response = doc::Unavailable),
    ),
    security((), ("token" = [])),
)]
pub(super) async fn exchange(
    BridgeServer(site): BridgeServer,
    Extension(limits): Extension<Arc<Limits>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Result<Response, Refusal> {
    within_limits(&limits, &Method::POST, peer)?;
    let place = site.anywhere();
    let ask = Ask {
        role: Role::Publish,
        channel: place.channel.as_ref(),
        token: bearer(request.headers()),
        from: peer.0.ip(),
    };
    let began = Instant::now();
    let credential = site.gate.admit(ask).await?;
    let within = whip::left_since(began);
    body::must_be("application/json", request.headers())?;
    let offer = read(&body::read(request).await?)?;
    let accepted = whip::accept(&place, offer, peer.0, credential, within, Terms::Private, |lease| lease).await?;
    let Accepted { sdp, .. } = accepted;
    Ok(Json(Description { r#type: Type::Answer, sdp }).into_response())
}

fn read(body: &[u8]) -> Result<String, Refusal> {
    let bad = |why: String| Refusal::Description(why);
    let Description { r#type, sdp } = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    if r#type != Type::Offer {
        return Err(bad("its type is not \"offer\"".into()));
    }
    sdp::check(sdp.as_bytes())?;
    Ok(sdp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_offer_is_taken_and_what_is_wrong_is_named() {
        let wrong = |body: &str| read(body.as_bytes()).expect_err(body).to_string();
        assert!(wrong("").contains("no session description"));
        assert!(wrong(r#"{"sdp":"v=0"}"#).contains("missing field `type`"));
        assert!(wrong(r#"{"type":"answer","sdp":"v=0"}"#).contains("not \"offer\""));
        assert!(wrong(r#"{"type":"pranswer","sdp":"v=0"}"#).contains("pranswer"));
        assert!(wrong(r#"{"type":"offer","sdp":"hello"}"#).contains("does not start with v=0"));
        let sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\na=ice-ufrag:abcd\r\n\
            a=ice-pwd:0123456789\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
        let body = serde_json::json!({"type": "offer", "sdp": sdp, "toJSON": {}}).to_string();
        assert_eq!(read(body.as_bytes()).unwrap(), sdp, "what else is in it does not matter");
    }
}
