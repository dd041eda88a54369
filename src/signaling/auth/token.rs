//! Bearer tokens (RFC 6750): compared in constant time, kept only as a digest.

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Ask, Denied, Gate, Role};
use crate::{channel::Credential, signaling::problem::Refusal};

/// A token that is required.
pub(crate) struct RequiredToken {
    /// A digest, so that comparing takes the same time for every length too.
    digest: [u8; 32],
}

impl RequiredToken {
    pub(crate) fn new(token: &str) -> Self {
        Self { digest: Sha256::digest(token).into() }
    }

    /// Whether it is this one. An empty token never is: an unset variable must not open the door.
    pub(crate) fn is(&self, token: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        !token.is_empty() && bool::from(digest.ct_eq(&self.digest))
    }
}

/// One token for everything, or none.
pub(crate) struct TokenGate {
    token: Option<RequiredToken>,
}

impl TokenGate {
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self { token: token.map(RequiredToken::new) }
    }

    fn check(&self, token: Option<&str>) -> Result<Credential, Denied> {
        let Some(required) = &self.token else { return Ok(Credential::Anonymous) };
        let token = token.ok_or(Denied::Missing)?;
        required.is(token).then(|| Credential::of(token)).ok_or(Denied::Wrong)
    }
}

#[async_trait]
impl Gate for TokenGate {
    async fn admit(&self, ask: Ask<'_>) -> Result<Credential, Refusal> {
        self.check(ask.token).map_err(Refusal::Unauthorized)
    }

    async fn recognise(&self, ask: Ask<'_>) -> Option<Credential> {
        self.check(ask.token).ok()
    }

    fn needs_token(&self, _: Role) -> bool {
        self.token.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_token_passes() {
        let gate = TokenGate::new(Some("abc"));
        assert_eq!(gate.check(Some("abc")), Ok(Credential::of("abc")));
        assert_eq!(gate.check(Some("abcd")), Err(Denied::Wrong));
        assert_eq!(gate.check(None), Err(Denied::Missing));
        assert_eq!(TokenGate::new(None).check(Some("abc")), Ok(Credential::Anonymous));
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let gate = TokenGate::new(Some(""));
        assert_eq!(gate.check(Some("")), Err(Denied::Wrong));
        assert_eq!(gate.check(None), Err(Denied::Missing));
    }
}
