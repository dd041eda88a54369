//! Who may do what: one question, asked by everything that serves requests, and what answers it.
//!
//! A [`Gate`] is asked with what a request showed; it says who that is, or why he is not let in. An endpoint that an
//! element mounts has one bearer token or none ([`TokenGate`]).

mod access;
mod token;

use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::{HeaderMap, header::AUTHORIZATION};

pub use access::Access;
pub(crate) use token::TokenGate;

use super::problem::Refusal;
use crate::channel::{ChannelId, Credential};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Send media.
    Publish,
    /// Receive media.
    View,
    /// See and change everything.
    Admin,
}

/// What a request wants, and what it shows for it.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) role: Role,
    /// Where, if it is about one channel.
    pub(crate) channel: Option<&'a ChannelId>,
    /// The bearer token (RFC 6750).
    pub(crate) token: Option<&'a str>,
    /// Who asks, as far as the TCP connection tells.
    pub(crate) from: IpAddr,
}

/// Lets requests pass, or not.
#[async_trait]
pub(crate) trait Gate: Send + Sync + 'static {
    /// Who asks; or why he may not.
    async fn admit(&self, ask: Ask<'_>) -> Result<Credential, Refusal>;

    /// Whether this needs a token at all.
    fn needs_token(&self, role: Role) -> bool;
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No bearer token came with it.
    Missing,
    /// The token is another one.
    Wrong,
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_the_scheme() {
        let read = |sent: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, sent.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc").as_deref(), Some("abc"));
        for none in ["Basic abc", "abc", "Bearer ", "Bearer", ""] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
