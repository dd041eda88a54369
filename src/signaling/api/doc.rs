//! Words of the OpenAPI document that several paths share.

use utoipa::{IntoParams, ToResponse};

use crate::signaling::problem::Problem;

/// A channel in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document")]
pub(crate) struct ChannelPath {
    /// The channel's id.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    id: String,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(ToResponse)]
        #[response(content_type = "application/problem+json")]
        #[expect(dead_code, reason = "for the document")]
        pub(crate) struct $name(Problem);
    )*};
}

problems! {
    /// Something of the request is malformed
    Malformed
    /// A bearer token is missing, or is not the right one
    Unauthorized
    /// The request comes from where it may not, such as another site's page
    Forbidden
    /// There is nothing of this name
    NotFound
    /// Another publisher is live on the channel
    Conflict
    /// The Content-Type is not the right one
    ContentType
    /// The body is too large
    TooLarge
    /// The body did not arrive in time
    Slow
    /// Nothing in the offer can be used
    Unacceptable
    /// Too many requests came from this address; Retry-After says when to come back
    TooOften
    /// Something in the server failed
    Internal
    /// No room, or the server is about to end; Retry-After says when to come back
    Unavailable
    /// If-Match is missing
    NoCondition
    /// The request is not one for a WebSocket
    UpgradeRequired
    /// If-Match names an ICE session that has been replaced
    ConditionFailed
}
