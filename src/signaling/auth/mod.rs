//! Who may do what: one question, asked by everything that serves requests, and what answers it.
//!
//! A [`Gate`] is asked with what a request showed; it says who that is, or why he is not let in. An endpoint that an
//! element mounts has one bearer token or none ([`TokenGate`]), or an application that decides ([`ApplicationGate`]); a
//! bridge server has [`Access`]. Before either stands
//! [`Patient`], which asks nobody about those who guess.
//!
//! ```text
//!   Ask ──▶ failures ──▶ access ──▶ token, Registry::key_fits, jwt (claims, jwks, signatures), authorizer, webhook
//!                  └───▶ token, or application: token, authorizer (an element's endpoint)
//! ```

mod access;
mod application;
mod authorizer;
pub(crate) mod claims;
pub(crate) mod counters;
mod failures;
pub(crate) mod jwks;
pub(crate) mod jwt;
pub(crate) mod signatures;
mod token;
mod turns;
mod webhook;

use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::{HeaderMap, header::AUTHORIZATION};

pub use {access::Access, authorizer::Authorizer};
pub(crate) use {application::ApplicationGate, failures::Patient, token::TokenGate};

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

impl Role {
    /// As claims and questions to `auth-url` name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::View => "view",
            Self::Admin => "admin",
        }
    }
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

    /// The same for what either of two roles may do: one question, so that who has the second has not failed at the first.
    async fn admit_either(&self, ask: Ask<'_>, or: Role) -> Result<Credential, Refusal> {
        match self.admit(ask).await {
            Ok(credential) => Ok(credential),
            Err(_) => self.admit(Ask { role: or, ..ask }).await,
        }
    }

    /// Who asks, if he may and that can be told here and now, at the cost of some comparisons and signatures. Nobody else
    /// is asked for it.
    async fn recognise(&self, ask: Ask<'_>) -> Option<Credential>;

    /// Whether this needs a token at all.
    fn needs_token(&self, role: Role) -> bool;

    /// What stands between a role and somebody of whom nothing is known.
    fn door(&self, role: Role) -> Door {
        if self.needs_token(role) { Door::Locked } else { Door::Open }
    }
}

/// What stands between a role and somebody of whom nothing is known. In order: the first is the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    /// Nothing, or nothing but where he is.
    Open,
    /// Somebody who is asked, and may let in whoever he likes.
    Asked,
    /// A token.
    Locked,
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No bearer token came with it.
    Missing,
    /// The token is another one.
    Wrong,
    /// The token has expired, or is not yet good.
    OutOfTime,
    /// Who decides about it could not be asked.
    Unanswered,
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer ") && !token.is_empty()).then_some(token)
}

/// The token of a request to open a WebSocket: a bearer token, or `?token=`, as browsers cannot send headers with it. On
/// no other path: what stands in a URL gets into logs and histories.
pub(crate) fn websocket_token(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let in_query = || {
        let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
        pairs.find(|(name, token)| name == "token" && !token.is_empty()).map(|(_, token)| token.into_owned())
    };
    bearer(headers).map(str::to_owned).or_else(in_query)
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

    #[test]
    fn a_websocket_may_have_its_token_in_the_query() {
        let read = |query: &'static str, sent: Option<&'static str>| {
            let headers = sent.map(|sent| (AUTHORIZATION, axum::http::HeaderValue::from_static(sent)));
            websocket_token(&headers.into_iter().collect(), Some(query))
        };
        assert_eq!(read("channel=a&token=s3%2Bcr%26et", None).as_deref(), Some("s3+cr&et"));
        assert_eq!(read("token=a", Some("Bearer b")).as_deref(), Some("b"));
        for none in ["", "token=", "token", "tokens=a", "Token=x"] {
            assert_eq!(read(none, None), None, "{none}");
        }
        assert_eq!(websocket_token(&HeaderMap::new(), None), None);
    }
}
