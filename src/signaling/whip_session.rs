//! A session's own URL (RFC 9725 sections 4.2 and 4.3; the same for WHEP): PATCH trickles and restarts, DELETE ends.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use tracing::info;

use super::{
    answerer::{IceUpdated, SignaledSession, abbreviate},
    body,
    connection::Peer,
    fragment::{self, IceFragment},
    problem::Refusal,
    table::Place,
    whep,
    whip::{SDP, authorize},
};

const ALLOW: &str = "DELETE, GET, HEAD, OPTIONS, PATCH";

/// RFC 5789 section 3.1; not among the `http` crate's names.
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// What a viewer's session takes: the answer to an offer of ours as well.
const ACCEPT_PATCH_OF_VIEWERS: &str = "application/trickle-ice-sdpfrag, application/sdp";

pub(crate) async fn serve(place: &Place, id: &str, peer: Peer, request: Request) -> Result<Response, Refusal> {
    let method = request.method().clone();
    if method == Method::OPTIONS {
        // Never with a token: a browser's preflight cannot carry one.
        let views = place.endpoint.seating.is_some();
        let patches = if views { ACCEPT_PATCH_OF_VIEWERS } else { fragment::MEDIA_TYPE };
        let headers = [(header::ALLOW, ALLOW), (ACCEPT_PATCH, patches)];
        return Ok((StatusCode::OK, headers).into_response());
    }
    authorize(place, request.headers(), peer).await?;
    match method {
        Method::PATCH => patch(place, id, request).await,
        Method::DELETE => delete(place, id).await,
        Method::GET | Method::HEAD => {
            let session = place.session(id).ok_or(Refusal::NoSession)?;
            Ok((StatusCode::NO_CONTENT, [(header::ETAG, etag(session.inner()))]).into_response())
        }
        _ => {
            place.session(id).ok_or(Refusal::NoSession)?;
            Err(Refusal::Method { allow: ALLOW })
        }
    }
}

/// Ends the session. If-Match, if there is any, does not matter (section 4.3.1).
async fn delete(place: &Place, id: &str) -> Result<Response, Refusal> {
    // The URL goes first, so that a second DELETE finds nothing.
    let session = place.endpoint.take(place.channel.as_ref(), id).ok_or(Refusal::NoSession)?;
    // In a task of its own: a page that is being closed does not wait for the answer.
    let closed = tokio::spawn(async move {
        // What is being made of it now, such as an answer to our own offer, is made first: else it would outlive this.
        let _turn = session.turn().await;
        session.inner().close().await;
    })
    .await;
    info!(endpoint = %place.path(), session = abbreviate(id), ok = closed.is_ok(), "session deleted by its peer");
    Ok(StatusCode::OK.into_response())
}

/// More candidates (204), or an ICE restart (200 with our new credentials and a new ETag).
async fn patch(place: &Place, id: &str, request: Request) -> Result<Response, Refusal> {
    let session = place.session(id).ok_or(Refusal::NoSession)?;
    if place.endpoint.seating.is_some() && body::must_be(SDP, request.headers()).is_ok() {
        return whep::take_answer(session, request).await;
    }
    body::must_be(fragment::MEDIA_TYPE, request.headers())?;
    let condition = Condition::of(request.headers()).ok_or(Refusal::NoCondition)?;
    let body = body::read(request).await?;
    let fragment = IceFragment::parse(&body)?;

    // Requests overlap, and a restart changes what the next is compared with.
    let _turn = session.turn().await;
    let current = etag(session.inner());
    if !condition.holds_for(&current) {
        return Err(Refusal::ConditionFailed);
    }
    match session.inner().update_ice(fragment).await? {
        IceUpdated::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
        IceUpdated::Restarted(ours) => {
            info!(endpoint = %place.path(), session = abbreviate(id), "ICE restarted by its peer");
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(fragment::MEDIA_TYPE)),
                (header::ETAG, etag(session.inner())),
            ];
            Ok((StatusCode::OK, headers, ours.to_string()).into_response())
        }
    }
}

/// An If-Match (RFC 9110 section 13.1.1).
enum Condition {
    /// `*`: restarts have it, and clients that do not keep the tag.
    Any,
    /// Any of these tags.
    Tags(Vec<String>),
}

impl Condition {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let values: Vec<_> = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return None;
        }
        let tags: Vec<_> = values.iter().flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
        Some(if tags.iter().any(|tag| tag == "*") { Self::Any } else { Self::Tags(tags) })
    }

    /// Compares strongly, so that a weak tag never matches. Clients that lost the quotes are served.
    fn holds_for(&self, current: &HeaderValue) -> bool {
        let current = current.to_str().unwrap_or_default();
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag == current || tag == current.trim_matches('"')),
        }
    }
}

/// A strong tag that changes with the ICE session (RFC 9725 section 4.3.1) and tells nothing of it.
pub(crate) fn etag(session: &dyn SignaledSession) -> HeaderValue {
    let digest = Sha256::digest(session.ice_session_tag());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Reads an If-Match: nothing fits a tag but the tag and what fits all.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(headers: &HeaderMap) {
    let current = HeaderValue::from_static("\"7b21\"");
    if Condition::of(headers).is_some_and(|condition| condition.holds_for(&current)) {
        let mut values = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
        assert!(values.any(|value| value.contains('*') || value.contains("7b21")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(values: &[&'static str]) -> Option<bool> {
        let headers = values.iter().map(|value| (header::IF_MATCH, HeaderValue::from_static(value))).collect();
        Condition::of(&headers).map(|condition| condition.holds_for(&HeaderValue::from_static("\"abc\"")))
    }

    #[test]
    fn if_match_is_compared_strongly_and_star_fits_all() {
        assert_eq!(holds(&[]), None);
        for fits in [&["\"abc\""][..], &["\"x\", \"abc\""], &["\"x\"", "\"abc\""], &["*"], &["abc"]] {
            assert_eq!(holds(fits), Some(true), "{fits:?}");
        }
        for other in ["\"abd\"", "W/\"abc\"", "", "\"\""] {
            assert_eq!(holds(&[other]), Some(false), "{other}");
        }
    }
}
