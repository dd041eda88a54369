//! WHIP (RFC 9725): POST an offer to an endpoint; what happens to the session that it leads to is `whip_session`'s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio::{sync::oneshot, time::timeout};
use tracing::{debug, info};

use super::{
    answerer::{Answer, AnswerError, Offer, abbreviate},
    body,
    connection::Peer,
    cors,
    limits::Limits,
    problem::Refusal,
    rules, sdp,
    table::{Endpoint, Table, Target},
    uri::normalise_path,
    whip_session::{self, etag},
};

/// Answers take milliseconds; OBS gives up after 8 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Serves every path that is not the page's.
pub(crate) async fn serve(
    State(table): State<Arc<Table>>,
    Extension(limits): Extension<Arc<Limits>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let path = normalise_path(request.uri().path());
    let method = request.method().clone();
    let target = table.find(&path);
    // A session's id is what protects its URL: logs have its beginning.
    let shown = match &target {
        Some(Target::Session(endpoint, id)) => format!("{}/{}…", endpoint.path, abbreviate(id)),
        _ => path.clone(),
    };
    let admitted = limits.admit(&method, peer.0.ip()).map_err(|wait| Refusal::TooOften { wait });
    let result = match (admitted, target) {
        (Err(refusal), _) => Err(refusal),
        (Ok(()), Some(Target::Endpoint(endpoint))) => on_endpoint(endpoint, peer, request).await,
        (Ok(()), Some(Target::Session(endpoint, id))) => whip_session::serve(&endpoint, &id, request).await,
        (Ok(()), None) => Err(Refusal::NoEndpoint(path.clone())),
    };
    let mut response = result.unwrap_or_else(|refusal| {
        debug!(%method, path = %shown, peer = %peer.0, %refusal, "refused");
        refusal.into_response()
    });
    cors::allow_any_origin(response.headers_mut());
    response
}

async fn on_endpoint(endpoint: Arc<Endpoint>, Peer(remote): Peer, request: Request) -> Result<Response, Refusal> {
    const ALLOW: &str = "GET, HEAD, OPTIONS, POST";
    match *request.method() {
        // Never with a token: a browser's preflight cannot carry one. Without ICE servers: RFC 9725 section 4.6.
        Method::OPTIONS => Ok((StatusCode::OK, [(header::ALLOW, ALLOW), (ACCEPT_POST, SDP)]).into_response()),
        Method::POST => {
            authorize(&endpoint, request.headers())?;
            post(endpoint, remote, request).await
        }
        // Reserved: a success without content (section 4.2).
        Method::GET | Method::HEAD => {
            authorize(&endpoint, request.headers())?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(Refusal::Method { allow: ALLOW }),
    }
}

/// Lets a request pass that has the endpoint's token, if it requires one.
pub(crate) fn authorize(endpoint: &Endpoint, headers: &HeaderMap) -> Result<(), Refusal> {
    match &endpoint.token {
        Some(token) => token.check(headers).map_err(Refusal::Unauthorized),
        None => Ok(()),
    }
}

async fn post(endpoint: Arc<Endpoint>, remote: SocketAddr, request: Request) -> Result<Response, Refusal> {
    body::must_be(SDP, request.headers())?;
    let body = body::read(request).await?;
    let sdp = sdp::check(&body)?.to_owned();
    rules::check_offer(&sdp)?;
    let (id, lease) = endpoint.reserve()?;
    let Answer { sdp, session } = answer(&endpoint, Offer { sdp, id: id.clone(), remote, lease }).await?;
    let sdp = match rules::complete_answer(&sdp) {
        Ok(sdp) => sdp,
        Err(broken) => {
            session.close().await;
            return Err(broken.into());
        }
    };

    let etag = etag(&*session);
    endpoint.establish(&id, session);
    info!(endpoint = %endpoint.path, session = abbreviate(id.as_str()), %remote, "offer answered");
    let location = format!("{}/{id}", endpoint.path);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(SDP)),
        (header::ETAG, etag),
        (header::LOCATION, HeaderValue::try_from(location).map_err(|e| AnswerError::Internal(e.to_string()))?),
    ];
    let mut response = (StatusCode::CREATED, headers, sdp).into_response();
    // A header line for each: some clients split at every comma.
    for link in &endpoint.links {
        response.headers_mut().append(header::LINK, link.clone());
    }
    Ok(response)
}

const SDP: &str = "application/sdp";

/// Linked Data Platform section 7.1, which WHIP uses; not among the `http` crate's names.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Asks the endpoint's owner, in a task of its own: a client that goes away must not leave it half way, and the session
/// that nobody will use is closed.
async fn answer(endpoint: &Endpoint, offer: Offer) -> Result<Answer, AnswerError> {
    let (tx, rx) = oneshot::channel();
    let answerer = endpoint.answerer.clone();
    tokio::spawn(async move {
        let id = offer.id.clone();
        if let Err(Ok(orphan)) = tx.send(answerer.answer(offer).await) {
            debug!(session = abbreviate(id.as_str()), "the client went away before the answer");
            orphan.session.close().await;
        }
    });
    match timeout(ANSWER_TIMEOUT, rx).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(AnswerError::Internal("answering the offer failed".into())),
        Err(_) => Err(AnswerError::Unavailable("answering the offer took too long".into())),
    }
}
