//! WHIP (RFC 9725): POST an offer to an endpoint; what happens to the session that it leads to is `whip_session`'s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tracing::{debug, info};

use super::{
    answerer::{Answer, AnswerError, Offer, SessionId, SessionLease, SignaledSession, abbreviate},
    auth::{Ask, Role, bearer},
    body,
    connection::Peer,
    limits::Limits,
    problem::Refusal,
    rules::{self, Terms},
    sdp,
    table::{Place, Table, Target},
    uri::normalise_path,
    whep,
    whip_session::{self, etag},
};
use crate::channel::Credential;

/// For an answer, with what others are asked about whoever sends the offer; the body's time is the client's own. Answers take
/// milliseconds; OBS gives up after 8 s, and hears why before that.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);

/// What is left of that for an answer.
pub(crate) fn left_since(began: Instant) -> Duration {
    ANSWER_TIMEOUT.saturating_sub(began.elapsed())
}

/// Nothing is begun for who will not wait for it.
fn in_time(within: Duration) -> Result<(), AnswerError> {
    let late = || AnswerError::Unavailable("deciding who may do this took too long".into());
    if within.is_zero() { Err(late()) } else { Ok(()) }
}

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
        Ok(Target::Session(place, id) | Target::Extension(place, id, _)) => {
            format!("{}/{}…", place.path(), abbreviate(id))
        }
        _ => path.clone(),
    };
    let admitted = limits.admit(&method, peer.0.ip()).map_err(|wait| Refusal::TooOften { wait });
    let result = match (admitted, target) {
        (Err(refusal), _) => Err(refusal),
        (Ok(()), Ok(Target::Endpoint(place))) if place.endpoint.role == Role::View => {
            whep::on_endpoint(place, peer, request).await
        }
        (Ok(()), Ok(Target::Endpoint(place))) => on_endpoint(place, peer, request).await,
        (Ok(()), Ok(Target::Session(place, id))) => whip_session::serve(&place, &id, peer, request).await,
        (Ok(()), Ok(Target::Extension(place, id, extension))) => {
            whep::on_extension(&place, &id, extension, peer, request).await
        }
        (Ok(()), Err(refusal)) => Err(refusal),
    };
    result.unwrap_or_else(|refusal| {
        debug!(%method, path = %shown, peer = %peer.0, %refusal, "refused");
        refusal.into_response()
    })
}

async fn on_endpoint(place: Place, peer: Peer, request: Request) -> Result<Response, Refusal> {
    const ALLOW: &str = "GET, HEAD, OPTIONS, POST";
    match *request.method() {
        // Never with a token: a browser's preflight cannot carry one. Without ICE servers: RFC 9725 section 4.6.
        Method::OPTIONS => Ok((StatusCode::OK, [(header::ALLOW, ALLOW), (ACCEPT_POST, SDP)]).into_response()),
        Method::POST => {
            let began = Instant::now();
            let credential = authorize(&place, request.headers(), peer).await?;
            post(place, peer.0, (credential, left_since(began)), request).await
        }
        // Reserved: a success without content (section 4.2).
        Method::GET | Method::HEAD => {
            authorize(&place, request.headers(), peer).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(Refusal::Method { allow: ALLOW }),
    }
}

/// Lets a request pass whose sender may do here what he comes for.
pub(crate) async fn authorize(place: &Place, headers: &HeaderMap, Peer(from): Peer) -> Result<Credential, Refusal> {
    let Place { endpoint, channel } = place;
    let ask = Ask { role: endpoint.role, channel: channel.as_ref(), token: bearer(headers), from: from.ip() };
    endpoint.gate.admit(ask).await
}

async fn post(
    place: Place,
    remote: SocketAddr,
    (credential, within): (Credential, Duration),
    request: Request,
) -> Result<Response, Refusal> {
    body::must_be(SDP, request.headers())?;
    let body = body::read(request).await?;
    let sdp = sdp::check(&body)?.to_owned();
    let Accepted { id, sdp, session } =
        accept(&place, sdp, remote, credential, within, Terms::Ingest, |lease| lease).await?;
    let etag = etag(&*session);
    let location = format!("{}/{id}", place.path());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(SDP)),
        (header::ETAG, etag),
        (header::LOCATION, HeaderValue::try_from(location).map_err(|e| AnswerError::Internal(e.to_string()))?),
    ];
    let mut response = (StatusCode::CREATED, headers, sdp).into_response();
    // A header line for each: some clients split at every comma.
    for link in &place.endpoint.links {
        response.headers_mut().append(header::LINK, link.clone());
    }
    Ok(response)
}

/// A session that an offer led to.
pub(crate) struct Accepted {
    pub(crate) id: SessionId,
    /// The answer.
    pub(crate) sdp: String,
    pub(crate) session: Arc<dyn SignaledSession>,
}

/// Whether an offer would be taken if there were room for it.
pub(crate) fn check(place: &Place, sdp: &str, terms: Terms) -> Result<(), Refusal> {
    check_rules(place, sdp, terms)?;
    Ok(place.endpoint.answerer.check(sdp, terms != Terms::Ingest)?)
}

fn check_rules(place: &Place, sdp: &str, terms: Terms) -> Result<(), AnswerError> {
    match place.endpoint.role {
        Role::View => rules::check_viewers_offer(sdp),
        _ => rules::check_offer(sdp, terms),
    }
}

/// Takes an offer, however it came, from its rules to its session's URL; whoever wants to know of the session's end puts
/// something around its lease. Who has not been answered `within` that time is told so.
pub(crate) async fn accept(
    place: &Place,
    sdp: String,
    remote: SocketAddr,
    credential: Credential,
    within: Duration,
    terms: Terms,
    around: impl FnOnce(SessionLease) -> SessionLease,
) -> Result<Accepted, Refusal> {
    let views = place.endpoint.role == Role::View;
    check_rules(place, &sdp, terms)?;
    in_time(within)?;
    let Place { endpoint, channel } = place;
    let (id, lease) = endpoint.reserve(channel.clone())?;
    let (both_ways, is_private) = (terms != Terms::Ingest, terms == Terms::Private);
    let (channel, lease) = (channel.clone(), around(lease));
    let offer = Offer { sdp, id: id.clone(), remote, channel, credential, both_ways, is_private, lease };
    let answerer = endpoint.answerer.clone();
    let Answer { sdp, session } = answered(&id, within, async move { answerer.answer(offer).await }).await?;
    // A publisher is taken as a whole; to a viewer is sent what there is.
    let rules = if views { rules::complete_viewers_answer } else { rules::complete_answer };
    let sdp = match rules(&sdp) {
        Ok(sdp) => sdp,
        Err(broken) => {
            session.close().await;
            return Err(broken.into());
        }
    };
    endpoint.establish(&id, session.clone());
    info!(endpoint = %place.path(), session = abbreviate(id.as_str()), %remote, "offer answered");
    Ok(Accepted { id, sdp, session })
}

/// Makes a viewer an offer in place of his own, if that is of use.
pub(crate) async fn counter(
    place: &Place,
    sdp: String,
    remote: SocketAddr,
    credential: Credential,
    within: Duration,
    around: impl FnOnce(SessionLease) -> SessionLease,
) -> Result<Option<Accepted>, Refusal> {
    in_time(within)?;
    let Place { endpoint, channel } = place;
    let (id, lease) = endpoint.reserve(channel.clone())?;
    let (channel, lease) = (channel.clone(), around(lease));
    let offer = Offer { sdp, id: id.clone(), remote, channel, credential, both_ways: false, is_private: false, lease };
    let answerer = endpoint.answerer.clone();
    let Some(Answer { sdp, session }) =
        answered(&id, within, async move { Ok(answerer.counter_offer(offer).await) }).await?
    else {
        return Ok(None);
    };
    endpoint.establish(&id, session.clone());
    Ok(Some(Accepted { id, sdp, session }))
}

pub(crate) const SDP: &str = "application/sdp";

/// Linked Data Platform section 7.1, which WHIP uses; not among the `http` crate's names.
pub(crate) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Asks the endpoint's owner, in a task of its own: a client that goes away must not leave it half way, and the session
/// that nobody will use is closed.
async fn answered<A: Orphan>(
    id: &SessionId,
    within: Duration,
    answering: impl Future<Output = Result<A, AnswerError>> + Send + 'static,
) -> Result<A, AnswerError> {
    let (tx, rx) = oneshot::channel();
    let id = id.clone();
    tokio::spawn(async move {
        if let Err(Ok(orphan)) = tx.send(answering.await)
            && let Some(session) = orphan.session()
        {
            debug!(session = abbreviate(id.as_str()), "the client went away before the answer");
            session.close().await;
        }
    });
    match timeout(within, rx).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(AnswerError::Internal("answering the offer failed".into())),
        Err(_) => Err(AnswerError::Unavailable("answering the offer took too long".into())),
    }
}

/// What nobody may be left to use.
trait Orphan: Send + 'static {
    fn session(&self) -> Option<&Arc<dyn SignaledSession>>;
}

impl Orphan for Answer {
    fn session(&self) -> Option<&Arc<dyn SignaledSession>> {
        Some(&self.session)
    }
}

impl Orphan for Option<Answer> {
    fn session(&self) -> Option<&Arc<dyn SignaledSession>> {
        self.as_ref().map(|answer| &answer.session)
    }
}
