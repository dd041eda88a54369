//! Refusals as RFC 9457 problem documents: the one map from errors to HTTP statuses.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    answerer::{AnswerError, IceRefused},
    auth::{Denied, claims::Lacks},
    fragment::FragmentError,
    sdp::SdpError,
    viewing::NoSeat,
    whep_events::EVENTS,
};
use crate::channel::{BadChannelId, ChannelId, EnterError};

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong, for people.
    detail: String,
}

/// Why a request is refused. The text is for the client: it names what was wrong and holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is nothing at {0}; /endpoints.json lists the endpoints of this server")]
    NoEndpoint(String),
    #[error(transparent)]
    BadChannel(#[from] BadChannelId),
    #[error("there is no such session; it may have ended")]
    NoSession,
    #[error("there is no channel {0}")]
    NoChannel(ChannelId),
    #[error("this server takes no new sessions: it is about to end")]
    Draining,
    #[error("this URL takes {allow}")]
    Method { allow: &'static str },
    #[error("{}", match .0 {
        Denied::Missing => "this endpoint needs a bearer token (Authorization: Bearer …)",
        Denied::Wrong => "the bearer token is not the right one",
        Denied::OutOfTime => "the bearer token has expired, or is not yet good",
        Denied::Unanswered => "whoever decides about tokens here could not be asked; try again later",
    })]
    Unauthorized(Denied),
    #[error(transparent)]
    Forbidden(Lacks),
    #[error("too many wrong tokens came from this address; come back in {} s", seconds(*.wait))]
    TooManyFailures { wait: Duration },
    #[error(
        "pages of {origin} may not use this: where no token is needed only its own pages and those of this machine may; \
         set a token here, or name the origin in allowed-origins"
    )]
    ForeignOrigin { origin: String },
    #[error(
        "this server does not know itself as {host}: where no token is needed it is served by address, as localhost and by \
         this machine's name; set a token here, or name http://{host} in allowed-origins"
    )]
    ForeignHost { host: String },
    #[error("the Content-Type must be {must}, not {came}")]
    ContentType { must: &'static str, came: String },
    #[error("the body is larger than {max} bytes")]
    TooLarge { max: usize },
    #[error("the body did not arrive within {seconds} s")]
    Slow { seconds: u64 },
    #[error("the body could not be read: {0}")]
    Body(String),
    #[error("the offer is malformed: {0}")]
    Sdp(#[from] SdpError),
    #[error("the body is no session description: {0}; send {{\"type\":\"offer\",\"sdp\":\"v=0…\"}}")]
    Description(String),
    #[error("this endpoint has {0} sessions already")]
    TooManySessions(usize),
    #[error(transparent)]
    NoSeat(#[from] NoSeat),
    #[error(transparent)]
    NothingToWatch(#[from] EnterError),
    #[error("the answer is malformed: {0}")]
    ViewersAnswer(SdpError),
    #[error("there is no such event stream; its session may have ended")]
    NoStream,
    #[error("the events must be a JSON array of names, each one of {EVENTS}: {0}")]
    Events(String),
    #[error("there are {0} event streams of this session already; delete one")]
    TooManyStreams(usize),
    #[error("the layer cannot be chosen: {0}")]
    Layer(String),
    #[error("a PATCH needs If-Match: the session's ETag, or * for an ICE restart")]
    NoCondition,
    #[error("If-Match is not the session's ETag: its ICE has been restarted meanwhile")]
    ConditionFailed,
    #[error("the fragment is malformed: {0}")]
    Fragment(#[from] FragmentError),
    #[error("too many requests from this address; come back in {} s", seconds(*.wait))]
    TooOften { wait: Duration },
    #[error("this URL is for WebSockets: {0}")]
    NotWebSocket(String),
    #[error("{0}; come back later")]
    TooManyConnections(&'static str),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Ice(#[from] IceRefused),
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoEndpoint(_) | Self::BadChannel(_) | Self::NoSession | Self::NoChannel(_) => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::ForeignOrigin { .. } | Self::ForeignHost { .. } => StatusCode::FORBIDDEN,
            Self::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Body(_) | Self::Sdp(_) | Self::Description(_) | Self::Fragment(_) | Self::ViewersAnswer(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Events(_) | Self::Layer(_) => StatusCode::BAD_REQUEST,
            Self::NoStream | Self::NothingToWatch(EnterError::NoChannel(_)) => StatusCode::NOT_FOUND,
            Self::NoSeat(_) | Self::NothingToWatch(_) | Self::TooManyStreams(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoCondition => StatusCode::PRECONDITION_REQUIRED,
            Self::ConditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::TooOften { .. } | Self::TooManyFailures { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManySessions(_) | Self::TooManyConnections(_) | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotWebSocket(_) => StatusCode::UPGRADE_REQUIRED,
            Self::Answer(error) => match error {
                AnswerError::Malformed(_) => StatusCode::BAD_REQUEST,
                AnswerError::Unacceptable(_) => StatusCode::UNPROCESSABLE_ENTITY,
                AnswerError::Conflict | AnswerError::NotLive => StatusCode::CONFLICT,
                AnswerError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                AnswerError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Ice(error) => match error {
                IceRefused::Stale => StatusCode::PRECONDITION_FAILED,
                IceRefused::Malformed(_) => StatusCode::BAD_REQUEST,
                IceRefused::Unacceptable(_) => StatusCode::UNPROCESSABLE_ENTITY,
                IceRefused::Over => StatusCode::NOT_FOUND,
            },
        }
    }

    fn is_not_live(&self) -> bool {
        matches!(self, Self::Answer(AnswerError::NotLive))
    }

    /// The header that the status calls for, if any.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Method { allow } => Some((header::ALLOW, HeaderValue::from_static(allow))),
            Self::Unauthorized(denied) => Some((
                header::WWW_AUTHENTICATE,
                // RFC 6750 section 3.1: no error code when no credentials came.
                HeaderValue::from_static(match denied {
                    Denied::Missing | Denied::Unanswered => "Bearer realm=\"webrtcbridge\"",
                    Denied::Wrong | Denied::OutOfTime => "Bearer realm=\"webrtcbridge\", error=\"invalid_token\"",
                }),
            )),
            Self::Forbidden(_) => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"webrtcbridge\", error=\"insufficient_scope\""),
            )),
            Self::TooOften { wait } | Self::TooManyFailures { wait } => {
                Some((header::RETRY_AFTER, HeaderValue::from(seconds(*wait))))
            }
            Self::NotWebSocket(_) => Some((header::UPGRADE, HeaderValue::from_static("websocket"))),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE || self.is_not_live() => {
                Some((header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS)))
            }
            _ => None,
        }
    }
}

/// Whole seconds, at least one: Retry-After knows no fractions (RFC 9110 section 10.2.3).
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

/// About what a session takes to end when its peer has gone silently.
const RETRY_AFTER_SECONDS: &str = "5";

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let problem = Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.to_string(),
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.header().map(|(name, value)| (Some(name), value)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_error_has_its_status() {
        for (error, status) in [
            (AnswerError::Malformed("x".into()), 400),
            (AnswerError::Unacceptable("x".into()), 422),
            (AnswerError::Conflict, 409),
            (AnswerError::NotLive, 409),
            (AnswerError::Unavailable("x".into()), 503),
            (AnswerError::Internal("x".into()), 500),
        ] {
            assert_eq!(Refusal::from(error).into_response().status().as_u16(), status);
        }
    }

    #[test]
    fn every_refused_fragment_has_its_status() {
        for (error, status) in [
            (IceRefused::Stale, 412),
            (IceRefused::Malformed("x".into()), 400),
            (IceRefused::Unacceptable("x".into()), 422),
            (IceRefused::Over, 404),
        ] {
            assert_eq!(Refusal::from(error).into_response().status().as_u16(), status);
        }
    }

    #[test]
    fn unavailable_says_when_to_come_back() {
        let not_live = Refusal::from(AnswerError::NotLive);
        for refusal in [Refusal::TooManySessions(1), Refusal::from(NoSeat(5)), not_live] {
            assert!(refusal.into_response().headers().contains_key(header::RETRY_AFTER));
        }
        assert!(!Refusal::from(AnswerError::Conflict).into_response().headers().contains_key(header::RETRY_AFTER));
    }
}
