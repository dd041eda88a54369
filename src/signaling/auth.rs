//! Bearer tokens (RFC 6750): compared in constant time, kept only as a digest.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The token that an endpoint requires.
pub(crate) struct RequiredToken {
    /// A digest, so that comparing takes the same time for every length too.
    digest: [u8; 32],
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No bearer token came with it.
    Missing,
    /// The token is another one.
    Wrong,
}

impl RequiredToken {
    pub(crate) fn new(token: &str) -> Self {
        Self { digest: Sha256::digest(token).into() }
    }

    /// Lets a request with this token in. An empty token never matches: an unset variable must not open the door.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let token = bearer(headers).ok_or(Denied::Missing)?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        match bool::from(digest.ct_eq(&self.digest)) {
            true => Ok(()),
            false => Err(Denied::Wrong),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(required: &str, sent: Option<&str>) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(AUTHORIZATION, sent.parse().unwrap());
        }
        RequiredToken::new(required).check(&headers)
    }

    #[test]
    fn only_the_same_token_passes_whatever_the_case_of_the_scheme() {
        assert_eq!(check("abc", Some("Bearer abc")), Ok(()));
        assert_eq!(check("abc", Some("bearer  abc")), Ok(()));
        assert_eq!(check("abc", Some("Bearer abcd")), Err(Denied::Wrong));
        assert_eq!(check("abc", Some("Basic abc")), Err(Denied::Missing));
        assert_eq!(check("abc", Some("abc")), Err(Denied::Missing));
        assert_eq!(check("abc", None), Err(Denied::Missing));
    }

    #[test]
    fn empty_token_opens_nothing() {
        assert_eq!(check("", Some("Bearer ")), Err(Denied::Missing));
        assert_eq!(check("", None), Err(Denied::Missing));
    }
}
