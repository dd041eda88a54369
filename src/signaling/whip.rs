//! WHIP (RFC 9725): POST an offer to an endpoint, DELETE the session it led to.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, time::timeout};
use tracing::{debug, info};

use super::{
    answerer::{Answer, AnswerError, Offer, SignaledSession},
    connection::Peer,
    cors,
    problem::Refusal,
    sdp,
    table::{Endpoint, Table, Target},
    uri::normalise_path,
};

/// Browsers' offers have 5 to 10 KiB.
const MAX_BODY: usize = 64 * 1024;

/// What a client may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers take milliseconds; OBS gives up after 8 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Serves every path that is not the page's.
pub(crate) async fn serve(
    State(table): State<Arc<Table>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let path = normalise_path(request.uri().path());
    let method = request.method().clone();
    let result = match table.find(&path) {
        Some(Target::Endpoint(endpoint)) => on_endpoint(endpoint, peer, request).await,
        Some(Target::Session(endpoint, id)) => on_session(&endpoint, &id, &method, request.headers()).await,
        None => Err(Refusal::NoEndpoint(path.clone())),
    };
    let mut response = result.unwrap_or_else(|refusal| {
        debug!(%method, %path, peer = %peer.0, %refusal, "refused");
        refusal.into_response()
    });
    cors::allow_any_origin(response.headers_mut());
    response
}

async fn on_endpoint(endpoint: Arc<Endpoint>, Peer(remote): Peer, request: Request) -> Result<Response, Refusal> {
    const ALLOW: &str = "GET, HEAD, OPTIONS, POST";
    match *request.method() {
        // Never with a token: a browser's preflight cannot carry one.
        Method::OPTIONS => Ok((StatusCode::NO_CONTENT, [(header::ALLOW, ALLOW), (ACCEPT_POST, SDP)]).into_response()),
        Method::POST => {
            authorize(&endpoint, request.headers())?;
            post(endpoint, remote, request).await
        }
        Method::GET | Method::HEAD => {
            authorize(&endpoint, request.headers())?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(Refusal::Method { allow: ALLOW }),
    }
}

async fn on_session(endpoint: &Endpoint, id: &str, method: &Method, headers: &HeaderMap) -> Result<Response, Refusal> {
    const ALLOW: &str = "DELETE, GET, HEAD, OPTIONS";
    match *method {
        Method::OPTIONS => Ok((StatusCode::NO_CONTENT, [(header::ALLOW, ALLOW)]).into_response()),
        Method::DELETE => {
            authorize(endpoint, headers)?;
            // The URL goes first, so that a second DELETE finds nothing. Its If-Match, if any, does not matter.
            let session = endpoint.take(id).ok_or(Refusal::NoSession)?;
            // In a task of its own: a page that is being closed does not wait for the answer.
            let closed = tokio::spawn(async move { session.close().await }).await;
            info!(endpoint = %endpoint.path, session = %id, ok = closed.is_ok(), "session deleted by its peer");
            Ok(StatusCode::OK.into_response())
        }
        Method::GET | Method::HEAD => {
            authorize(endpoint, headers)?;
            let session = endpoint.session(id).ok_or(Refusal::NoSession)?;
            Ok((StatusCode::NO_CONTENT, [(header::ETAG, etag(&*session))]).into_response())
        }
        _ => {
            authorize(endpoint, headers)?;
            endpoint.session(id).ok_or(Refusal::NoSession)?;
            Err(Refusal::Method { allow: ALLOW })
        }
    }
}

fn authorize(endpoint: &Endpoint, headers: &HeaderMap) -> Result<(), Refusal> {
    match &endpoint.token {
        Some(token) => token.check(headers).map_err(Refusal::Unauthorized),
        None => Ok(()),
    }
}

async fn post(endpoint: Arc<Endpoint>, remote: std::net::SocketAddr, request: Request) -> Result<Response, Refusal> {
    must_be_sdp(request.headers())?;
    let body = read(request).await?;
    let sdp = sdp::check(&body)?.to_owned();
    let (id, lease) = endpoint.reserve()?;
    let Answer { sdp, session } = answer(&endpoint, Offer { sdp, id: id.clone(), remote, lease }).await?;

    let etag = etag(&*session);
    endpoint.establish(&id, session);
    info!(endpoint = %endpoint.path, session = %id, %remote, "offer answered");
    let location = format!("{}/{id}", endpoint.path);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(SDP)),
        (header::ETAG, etag),
        (header::LOCATION, HeaderValue::try_from(location).map_err(|e| AnswerError::Internal(e.to_string()))?),
    ];
    Ok((StatusCode::CREATED, headers, sdp).into_response())
}

const SDP: &str = "application/sdp";

/// Linked Data Platform section 7.1, which WHIP uses; not among the `http` crate's names.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

fn must_be_sdp(headers: &HeaderMap) -> Result<(), Refusal> {
    let value = headers.get(header::CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes())).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case(SDP) {
        true => Ok(()),
        false if essence.is_empty() => Err(Refusal::ContentType("missing".into())),
        false => Err(Refusal::ContentType(format!("{essence:?}"))),
    }
}

async fn read(request: Request) -> Result<Vec<u8>, Refusal> {
    timeout(BODY_TIMEOUT, read_all(request.into_body()))
        .await
        .unwrap_or(Err(Refusal::Slow { seconds: BODY_TIMEOUT.as_secs() }))
}

/// Reads past the limit, up to another one, and throws that away: closing on a client that is still writing makes it see
/// a reset instead of the refusal.
async fn read_all(mut body: Body) -> Result<Vec<u8>, Refusal> {
    const MAX_DISCARDED: u64 = 1024 * 1024;
    if body.size_hint().lower() > MAX_DISCARDED {
        return Err(Refusal::TooLarge { max: MAX_BODY });
    }
    let mut kept = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Body(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        total += data.len() as u64;
        if total <= MAX_BODY as u64 {
            kept.extend_from_slice(data);
        } else if total > MAX_DISCARDED {
            break;
        }
    }
    match total <= MAX_BODY as u64 {
        true => Ok(kept),
        false => Err(Refusal::TooLarge { max: MAX_BODY }),
    }
}

/// Asks the endpoint's owner, in a task of its own: a client that goes away must not leave it half way, and the session
/// that nobody will use is closed.
async fn answer(endpoint: &Endpoint, offer: Offer) -> Result<Answer, AnswerError> {
    let (tx, rx) = oneshot::channel();
    let answerer = endpoint.answerer.clone();
    tokio::spawn(async move {
        let id = offer.id.clone();
        if let Err(Ok(orphan)) = tx.send(answerer.answer(offer).await) {
            debug!(session = %id, "the client went away before the answer");
            orphan.session.close().await;
        }
    });
    match timeout(ANSWER_TIMEOUT, rx).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(AnswerError::Internal("answering the offer failed".into())),
        Err(_) => Err(AnswerError::Unavailable("answering the offer took too long".into())),
    }
}

/// A strong tag that changes with the ICE session (RFC 9725 section 4.3.1) and tells nothing of it.
fn etag(session: &dyn SignaledSession) -> HeaderValue {
    let digest = Sha256::digest(session.ice_session_tag());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_is_told_by_its_essence() {
        let check = |value: Option<&'static str>| {
            let headers = value.map(|v| (header::CONTENT_TYPE, HeaderValue::from_static(v)));
            must_be_sdp(&headers.into_iter().collect())
        };
        assert!(check(Some("application/sdp")).is_ok());
        assert!(check(Some("Application/SDP; charset=utf-8")).is_ok());
        assert!(check(Some("application/sdpx")).is_err());
        assert!(check(None).is_err());
    }
}
