//! Why a message was not acted on: the one map from our errors to the codes of `/ws`.

use super::{
    hub::HubError,
    protocol::{Code, ServerMessage},
    request::BadMessage,
};
use crate::{
    channel::{CreateError, EnterError},
    signaling::{
        answerer::{AnswerError, IceRefused},
        problem::Refusal,
    },
};

/// A code for programs, and words for people.
#[derive(Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn into_message(self) -> ServerMessage {
        ServerMessage::Error { code: self.code, message: self.message }
    }
}

impl From<BadMessage> for Refused {
    fn from(bad: BadMessage) -> Self {
        Self::new(bad.code, bad.what)
    }
}

impl From<HubError> for Refused {
    fn from(error: HubError) -> Self {
        let code = match error {
            HubError::NotJoined => Code::NotJoined,
            HubError::AlreadyJoined(_) | HubError::Nameless => Code::BadState,
            HubError::Full | HubError::NoSeat(_) => Code::Unavailable,
            HubError::Alone | HubError::NoPeer(_) => Code::NotFound,
            HubError::ToWhom => Code::BadMessage,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CreateError> for Refused {
    fn from(error: CreateError) -> Self {
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<EnterError> for Refused {
    fn from(error: EnterError) -> Self {
        let code = match error {
            EnterError::NoChannel(_) => Code::NotFound,
            EnterError::Full(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<IceRefused> for Refused {
    fn from(error: IceRefused) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let is_not_live = matches!(refusal, Refusal::Answer(AnswerError::NotLive));
        let code = match refusal.status().as_u16() {
            409 if is_not_live => Code::NotFound, // the list tells when there is
            400 | 413 | 415 => Code::BadMessage,
            401 => Code::Unauthorized,
            403 => Code::Forbidden,
            404 => Code::NotFound,
            409 | 412 => Code::Conflict,
            422 => Code::Unacceptable,
            429 => Code::TooOften,
            503 => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, refusal.to_string())
    }
}
